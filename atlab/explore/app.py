"""The explorers as one application: pages that share what they show, and links to them."""

from __future__ import annotations

import html
import os
from dataclasses import fields, replace
from typing import Any

import anywidget
import ipywidgets as widgets
import plotly.graph_objects as go
import traitlets

from atlab.errors import AtlabError, unknown
from atlab.explore.views import ablation, cockpit, data, home, layers, maps
from atlab.explore.widgets.explorer import Explorer, Page
from atlab.explore.widgets.shown import as_query, collect, from_query, sentence

# The pages, in the order of their tabs; everything else about a page is in its file.
PAGES: dict[str, Page] = {
    "home": home.PAGE,
    "grad-cam": maps.PAGE,
    "layers": layers.PAGE,
    "ablation": ablation.PAGE,
    "data": data.PAGE,
    "cockpit": cockpit.PAGE,
}
SHARED = ("study", "data", "network", "clip", "layer")  # what all pages that have such a field show alike


class _Address(anywidget.AnyWidget):
    """Keeps the browser's address at the view, on a page of its own (Voila's)."""

    _esm = """
    export default {render({model}) {
      const write = () => { if (model.get("query")) history.replaceState(null, "", "?" + model.get("query")); };
      model.on("change:query", write);
      write();
    }};
    """
    query = traitlets.Unicode("").tag(sync=True)


class Application(widgets.VBox):
    """A tab per page. A study, data set, network, clip or layer chosen on one page is shown on the others.

    Attributes:
        tabs: the tabs; warning: what is wrong with the link that was followed; pages: the explorers that were opened, by name; shared: the common part of their states.
    """

    def __init__(self, state: Any, threaded: bool | None = None) -> None:
        self.pages: dict[str, Explorer] = {}
        self.shared: dict[str, str] = {}
        self._threaded = threaded
        self._address = _Address()
        self.warning = widgets.HTML()
        boxes = [widgets.VBox() for _ in PAGES]
        self.tabs = widgets.Tab(boxes, titles=[page.title for page in PAGES.values()])
        super().__init__([self.warning, self.tabs, self._address])
        self.add_class("atlab-application")
        self.show(state)
        self.tabs.observe(lambda change: self._turn(list(PAGES)[change["new"]]), "selected_index")

    @property
    def explorer(self) -> Explorer:
        """The page in view."""
        return self.pages[list(PAGES)[self.tabs.selected_index]]

    @property
    def query(self) -> str:
        """The query of a link to this view, without its question mark."""
        name = list(PAGES)[self.tabs.selected_index]
        return as_query(name, self.pages[name].state)

    def show(self, state: Any) -> None:
        """Open the page of a state at it."""
        name = page_of(state)
        if name in self.pages:
            self.pages[name].state = state
        else:
            self._make(name, state)
        self._take(state)
        self.tabs.selected_index = list(PAGES).index(name)
        self._follow(name)

    def go(self, name: str, **given: Any) -> None:
        """Open a page with these fields changed and what is shared."""
        self.shared |= {field: value for field, value in given.items() if field in SHARED}
        if name not in self.pages:
            self._make(name, replace(PAGES[name].state(), **self._common(PAGES[name].state()) | given))
        else:
            self.pages[name].change(**self._common(self.pages[name].state) | given)
        self.tabs.selected_index = list(PAGES).index(name)

    def _make(self, name: str, state: Any) -> None:
        explorer = self.pages[name] = Explorer(PAGES[name], state, self._threaded)
        explorer.go = self.go
        explorer.on_state(lambda: self._follow(name))
        self.tabs.children[list(PAGES).index(name)].children = [explorer]

    def _common(self, state: Any) -> dict[str, str]:
        """What is shared and differs from what a state says."""
        return {name: v for name, v in self.shared.items() if hasattr(state, name) and v != getattr(state, name)}

    def _turn(self, name: str) -> None:
        """Another tab was chosen: it shows what the last one did."""
        for other, explorer in self.pages.items():
            explorer.awake = other == name
        if name not in self.pages:
            self._make(name, replace(PAGES[name].state(), **self._common(PAGES[name].state())))
        elif changed := self._common(self.pages[name].state):
            self.pages[name].change(**changed)
        else:
            self.pages[name].refresh()
        self._follow(name)

    def _follow(self, name: str) -> None:
        """Take over what a page shows now, if it is the one in view."""
        if list(PAGES)[self.tabs.selected_index] == name:
            self._take(self.pages[name].state)
            if in_voila():
                self._address.query = self.query

    def _take(self, state: Any) -> None:
        """Share what a state says."""
        ours = {f.name: getattr(state, f.name) for f in fields(state) if f.name in SHARED}
        if ours.get("study", self.shared.get("study")) != self.shared.get("study"):
            self.shared = {}
        if ours.get("data", self.shared.get("data")) != self.shared.get("data"):
            self.shared.pop("clip", None)
        self.shared |= ours


def page_of(state: Any) -> str:
    """The page that a state belongs to."""
    found = next((name for name, page in PAGES.items() if page.state is type(state)), None)
    if found is None:
        raise unknown("explorer state", type(state).__name__, [page.state.__name__ for page in PAGES.values()])
    return found


def open(study: Any = "", page: str = "home", *, threaded: bool | None = None, **fields: Any) -> Application:
    """Open the explorers on a study (the newest finished one if none is given), at a page and fields of its state, or at a state.

    AtlabError for an unknown page or field.

    >>> explorers = open("runs/words", "layers", layer="conv5", threaded=False)
    >>> explorers.query
    'page=layers&study=runs/words&layer=conv5'
    """
    if type(study) in [p.state for p in PAGES.values()]:
        return Application(study, threaded)
    if page not in PAGES:
        raise unknown("page", page, PAGES)
    return Application(_state(page, {"study": str(study)} | fields), threaded)


def open_link(study: str = "") -> Application:
    """What the address of a page of Voila's asks for; the home of a study if it asks for nothing."""
    query = os.environ.get("QUERY_STRING", "")
    try:
        state = from_query(query, {name: page.state for name, page in PAGES.items()})
    except AtlabError as error:
        found = Application(home.HomeState(study=study))
        found.warning.value = f"<div role='alert'>{html.escape(sentence(error))}</div>"
        return found
    return Application(state if state != home.HomeState() else home.HomeState(study=study))


def warm_up() -> None:
    """Import what pages need beyond this module, so that the first of them does not wait for it."""
    import pytorch_grad_cam  # noqa: F401

    import atlab.analysis.study  # noqa: F401


def page(state: Any, threaded: bool | None = None) -> Explorer:
    """One page by itself, at a state."""
    return Explorer(PAGES[page_of(state)], state, threaded)


def figures(state: Any) -> dict[str, go.Figure]:
    """The figures of a state by name, computed here and now; errors are raised."""
    return collect(PAGES[page_of(state)].steps(state)).figures


def _state(page: str, given: dict[str, Any]) -> Any:
    known = [f.name for f in fields(PAGES[page].state)]
    for name in given:
        if name not in known:
            raise unknown(f"field of the page {page!r}", name, known)
    return PAGES[page].state(**given)


def in_voila() -> bool:
    """Whether this kernel serves a page of Voila's."""
    return os.environ.get("SERVER_SOFTWARE", "").startswith("voila")
