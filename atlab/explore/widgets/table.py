"""Tables: one to look at, and one of runs to sort, filter and choose from."""

from __future__ import annotations

from collections.abc import Callable

import anywidget
import pandas as pd
import traitlets

_TABLE = """
function render({model, el}) {
  const filter = document.createElement("input"), count = document.createElement("span"), columns = document.createElement("details");
  const table = document.createElement("table"), head = table.createTHead(), body = table.createTBody(), frame = document.createElement("div");
  filter.placeholder = "filter: words that a row holds";
  filter.setAttribute("aria-label", "filter the runs");
  filter.size = 34;
  columns.innerHTML = "<summary>columns</summary>";
  columns.style.cssText = "display: inline-block; margin: 0 12px";
  frame.style.cssText = "max-height: 330px; overflow: auto; margin-top: 4px";
  frame.append(table);
  table.className = "atlab-table";
  el.append(filter, columns, count, frame);
  const hidden = new Set();
  let sorted = null, down = false;
  const text = value => value == null ? "" : typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(4))) : String(value);
  const compare = (a, b) => a == null ? 1 : b == null ? -1 : typeof a === "number" && typeof b === "number" ? a - b
    : String(a).localeCompare(String(b), "en", {numeric: true});
  const cell = (row, tag, content) => { const made = document.createElement(tag); made.append(content); row.append(made); return made; };
  const draw = () => {
    const rows = model.get("rows"), actions = model.get("actions"), words = filter.value.toLowerCase().split(/\\s+/);
    const names = Object.keys(rows[0] ?? {}).filter(name => name !== "run"), seen = names.filter(name => !hidden.has(name));
    head.replaceChildren();
    const titles = head.insertRow();
    cell(titles, "th", "open in");
    for (const name of seen) {
      const button = document.createElement("button"), mark = name === sorted ? (down ? " ▾" : " ▴") : "";
      button.textContent = name + mark;
      button.onclick = () => { down = name === sorted && !down; sorted = name; draw(); };
      cell(titles, "th", button).setAttribute("aria-sort", name === sorted ? (down ? "descending" : "ascending") : "none");
    }
    const kept = rows.filter(row => words.every(word => names.some(name => text(row[name]).toLowerCase().includes(word))));
    if (sorted) kept.sort((a, b) => (down ? -1 : 1) * compare(a[sorted], b[sorted]));
    body.replaceChildren(...kept.map(row => {
      const line = document.createElement("tr"), first = cell(line, "td", "");
      for (const action of actions) {
        const button = document.createElement("button");
        button.textContent = action;
        button.onclick = event => { event.stopPropagation(); model.send({run: row.run, action}); };
        first.append(button, " ");
      }
      line.onclick = () => model.send({run: row.run, action: actions[0]});
      for (const name of seen) cell(line, "td", text(row[name])).className = typeof row[name] === "number" ? "atlab-number" : "";
      return line;
    }));
    count.textContent = kept.length === rows.length ? `${rows.length} runs` : `${kept.length} of ${rows.length} runs`;
    columns.replaceChildren(columns.firstChild, ...names.map(name => {
      const label = document.createElement("label"), box = document.createElement("input");
      box.type = "checkbox";
      box.checked = !hidden.has(name);
      box.onchange = () => { hidden[box.checked ? "delete" : "add"](name); draw(); };
      label.append(box, " " + name + " ");
      return label;
    }));
    for (const part of el.children) part.hidden = !rows.length;  // the widget's own display is the layout's
  };
  filter.oninput = draw;
  model.on("change:rows", draw);
  const dim = () => el.classList.toggle("atlab-stale", model.get("stale"));
  model.on("change:stale", dim);
  dim();
  draw();
}
export default {render};
"""


class RunTable(anywidget.AnyWidget):
    """Runs as rows: a header sorts, words filter, columns can be left out, and a row, or a button in it, opens a run.

    Attributes:
        rows: one dictionary per run, with its label under "run"; actions: the buttons of a row, the first for a click on the row.
    """

    _esm = _TABLE
    rows = traitlets.List().tag(sync=True)
    actions = traitlets.List().tag(sync=True)
    stale = traitlets.Bool(False).tag(sync=True)

    def on_choice(self, act: Callable[[str, str], None]) -> None:
        """Call `act(run, action)` for a row that is chosen."""
        self.on_msg(lambda _, message, __: act(message["run"], message["action"]))


def table_html(table: pd.DataFrame, index: bool = True) -> str:
    """A table with room between its columns, that scrolls by itself where it is wider than the page."""
    return f"<div style='overflow-x: auto'>{table.to_html(index=index, border=0, classes='atlab-table')}</div>"
