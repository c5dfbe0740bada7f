"""Keyboard shortcuts of a page; `?` lists them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import anywidget
import traitlets

PLAYER = {"space": "play or stop", "a / b": "hear the clip / the other clip at the same moment"}

_LISTEN = """
function render({model, el}) {
  const button = document.createElement("button"), list = document.createElement("dl");
  button.className = "jupyter-button";
  button.textContent = "? keys";
  button.title = "Keyboard shortcuts of this page";
  list.hidden = true;
  list.className = "atlab-keys-list";
  const write = () => {
    list.replaceChildren(...Object.entries(model.get("labels")).flatMap(([key, label]) => ["dt", "dd"].map((tag, n) => {
      const item = document.createElement(tag);
      item.textContent = n ? label : key;
      return item;
    })));
  };
  const toggle = () => { list.hidden = !list.hidden; };
  button.onclick = toggle;
  model.on("change:labels", write);
  write();
  el.append(button, list);
  let root = null;
  const press = event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, [contenteditable=true]")) return;
    if (event.key === "?") toggle();
    else if (event.key in model.get("labels")) model.send({key: event.key});
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  // A click on a figure leaves the focus with the body: keys are then for the first page in view.
  const anywhere = event => {
    if (event.target !== document.body || event.defaultPrevented || !root?.offsetParent) return;
    if (root !== [...document.querySelectorAll(".atlab-explorer")].find(page => page.offsetParent)) return;
    const {key, ctrlKey, metaKey, altKey} = event;
    if (!root.dispatchEvent(new KeyboardEvent("keydown", {key, ctrlKey, metaKey, altKey, cancelable: true}))) event.preventDefault();
  };
  // JupyterLab keeps its own single-key commands from a part of the page that is marked so.
  const attach = () => {
    root = el.closest(".atlab-explorer");
    if (!root) return setTimeout(attach, 200);
    root.tabIndex = -1;
    root.dataset.lmSuppressShortcuts = "true";
    root.addEventListener("keydown", press);
    document.addEventListener("keydown", anywhere);
  };
  setTimeout(attach);
  return () => { root?.removeEventListener("keydown", press); document.removeEventListener("keydown", anywhere); };
}
export default {render};
"""


class Keys(anywidget.AnyWidget):
    """Calls what belongs to a key: {key: (what it does in words, function)}; None for keys that the page itself handles."""

    _esm = _LISTEN
    labels = traitlets.Dict().tag(sync=True)

    def __init__(self) -> None:
        super().__init__()
        self._labels: dict[str, str] = {}
        self._acts: dict[str, Callable[[], None] | None] = {}
        self.on_msg(lambda _, message, __: self.press(message.get("key", "")))

    def add(self, keys: Mapping[str, tuple[str, Callable[[], None] | None]]) -> None:
        """Add keys."""
        self._acts |= {key: act for key, (_, act) in keys.items()}
        self._labels |= {key: label for key, (label, _) in keys.items()}
        self.labels = dict(self._labels)

    def suit(self, without: Collection[str], word: str) -> None:
        """List all keys but those that do nothing here, and say `word` for "clip"."""
        self.labels = {k: label.replace("clip", word) for k, label in self._labels.items() if k not in without}

    def press(self, key: str) -> None:
        """Do what the key does."""
        if act := self._acts.get(key):
            act()
