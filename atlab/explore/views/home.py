"""The home page: a study in one sentence, what it decides, and its runs as the way into the other pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import ipywidgets as widgets

from atlab.errors import AtlabError
from atlab.explore import demo, studies
from atlab.explore.cache import RESULTS
from atlab.explore.compute import overview
from atlab.explore.widgets import inputs
from atlab.explore.widgets.background import Step
from atlab.explore.widgets.explorer import Explorer, Page
from atlab.explore.widgets.shown import Shown, sentence
from atlab.system.home import find

WELCOME = (
    "<p>These pages show what networks have learned, and what anti-transfer changed: where they look (<b>Grad-CAM</b>), how alike their layers are "
    "(<b>Layers</b>), which settings matter (<b>Ablation</b>), what a data set holds (<b>Data</b>), and a training as it runs (<b>Cockpit</b>).</p>"
)
LOOK = 2.0  # seconds between two looks at the demo study's training


@dataclass(frozen=True)
class HomeState:
    """What the home page shows.

    Attributes:
        study: folder of runs, the newest finished one if empty.
    """

    study: str = ""


def steps(s: HomeState) -> Iterator[Step | Shown]:
    """What a state shows, part by part."""
    training = demo.status()
    yield Shown(texts={"demo": training.sentence}, again=LOOK if training.running else 0.0)
    known = studies.finished()
    if not s.study and not known:
        yield Shown(texts={"about": WELCOME + "<p>There is no finished study here yet.</p>"})
        return
    s, offered = studies.settle(s)
    yield offered
    yield Step(0, 2, f"reading {s.study}")
    studies.study_table(s.study)
    found = overview.read(s.study)
    yield Shown(texts={"about": f"<p>{overview.about(found)}</p>"})
    try:
        yield Shown(tables={"runs": overview.rows(s.study)})
    except AtlabError as error:  # runs without a network have nothing to open, but are compared
        yield Shown(notes=[sentence(error)])
    yield Step(1, 2, "comparing arms")
    key = ("verdicts", studies.study_stamp(find(s.study)), len(found.unfinished), len(found.failed))
    text, figure = RESULTS.get(key, lambda: overview.verdicts(found))
    parallel = overview.parallel(s.study)
    figures = {"differences": figure, "parallel": parallel}
    yield Shown(texts={"verdicts": text}, figures={name: f for name, f in figures.items() if f is not None})


def _controls() -> dict[str, widgets.Widget]:
    return {"study": inputs.choice("study", help="Finished studies, the latest first")}


def _body(e: Explorer) -> list[widgets.Widget]:
    def train() -> None:
        demo.start()
        e.refresh()

    begin = inputs.button(
        demo.offer(), "demo", train, "Trains in the background; the other pages can be used meanwhile"
    )
    e.on_state(lambda: setattr(begin.layout, "display", "none" if demo.status().done else None))
    table = e.table("runs", "Grad-CAM", "Layers")
    table.on_choice(lambda run, action: e.go(action.lower(), study=e.state.study, network=run))
    left = widgets.VBox([e.text("about"), e.text("verdicts")], layout={"width": "50%"})
    differences = widgets.VBox([e.view("differences")], layout={"width": "50%"})
    return [
        widgets.Box([e.controls["study"], begin, e.text("demo")]),
        widgets.HBox([left, differences]),
        table,
        e.view("parallel"),
    ]


PAGE = Page("Home", HomeState, steps, _controls, _body)
