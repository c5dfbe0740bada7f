"""The cockpit: start a small training, watch it or any other one that runs, stop it, go on, keep the run."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import ipywidgets as widgets
import pandas as pd

from atlab import functional, plots, runs
from atlab.data import catalog
from atlab.data.splits import SPLITS
from atlab.errors import AtlabError
from atlab.experiment.settings import Settings
from atlab.explore import studies
from atlab.explore.naming import TOLD, arm_name
from atlab.explore.process import Status, Training, keep, unfinished, watched
from atlab.explore.widgets import inputs
from atlab.explore.widgets.background import Step
from atlab.explore.widgets.explorer import Explorer, Page
from atlab.explore.widgets.shown import Shown, sentence
from atlab.explore.widgets.table import table_html
from atlab.labels import shown
from atlab.strategies import STRATEGIES
from atlab.system.home import find, in_home

WIDTHS = [
    (name, value) for name, value in (("1/32", 1 / 32), ("1/16", 1 / 16), ("1/8", 1 / 8), ("1/4", 1 / 4), ("1", 1.0))
]
BATCHES = (4, 8, 13, 16, 32, 64)
RATES = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3)
LOOK = 1.0  # seconds between two looks at trainings
LISTED = 20  # trainings in the table of those that run
LATEST = "latest"  # watch: whichever training gave the last sign of life
RESETS = {
    "study": ("data", "target", "orthogonal", "compare", "watch"),
    "data": ("target", "orthogonal"),
    "into": ("compare",),
}


@dataclass(frozen=True)
class CockpitState:
    """The training that the cockpit shows; empty fields stand for the first there is.

    Attributes:
        study: folder of runs; data: a data set's folder or name, the study's if empty (the demo's without a study).
        into: the run goes to the folder of this name next to the study, or in runs/.
        watch: another training to look at, STUDY/ID, or "latest"; the one that is set up here if empty.
        compare: finished runs of `into` to draw in the same figure.
        The others: see `atlab.experiment.Settings`.
    """

    study: str = ""
    data: str = ""
    into: str = "cockpit"
    watch: str = ""
    target: str = ""
    orthogonal: str = ""
    split: str = "random"
    strategy: str = "at"
    layers: str = "conv5"
    aggregation: str = "gram"
    similarity: str = "squared_cosine"
    beta: float = 1.0
    width: float = 1 / 16
    epochs: int = 8
    batch_size: int = 13
    learning_rate: float = 1e-3
    clips: int = 300
    seed: int = 0
    compare: tuple[str, ...] = ()


def settings_of(s: CockpitState) -> Settings:
    """The settings of the training; AtlabError for values that they do not allow."""
    data = _data(s)
    names = studies.open_data(data).factor_names
    target = s.target or names[0]
    orthogonal = s.orthogonal or next((name for name in names if name != target), "")
    settings = Settings(
        data=data,
        target=target,
        orthogonal=orthogonal,
        split=s.split,
        strategy=s.strategy,
        layers=s.layers,
        aggregation=s.aggregation,
        similarity=s.similarity,
        beta=s.beta,
        width=s.width,
        epochs=s.epochs,
        patience=s.epochs,
        batch_size=s.batch_size,
        learning_rate=s.learning_rate,
        clips=s.clips,
        seed=s.seed,
        teacher_clips=s.clips,
    )
    settings.check_values()
    return settings


def _data(s: CockpitState) -> str:
    """The data set: the one that is named, the study's, or the demo's."""
    known = s.study or next(iter(studies.finished()), "")
    return s.data or (studies.settings_of(known).data if known else catalog.DEMO)


def training_of(s: CockpitState) -> Training:
    """The training of a state, whether it was started or not."""
    return Training(settings_of(s), root(s), s.into)


def root(s: CockpitState) -> Path:
    """The folder of all studies, the same before the first run makes it and after."""
    return find(s.study).resolve().parent if s.study else in_home("runs").resolve()


def steps(s: CockpitState) -> Iterator[Step | Shown]:
    """What a state shows: how far the training is, its losses, its result, and all trainings that run."""
    yield Step(0, 1, "reading the run")
    yield Shown(choices={"study": studies.finished(), "data": studies.data_options(s.data)})
    alive = unfinished(root(s))
    ids = [f"{path.parent.name}/{path.name}" for path in alive]
    named = [(f"{path.parent.name}: {_name(path, alive)}", key) for path, key in zip(alive, ids, strict=True)]
    gone = [] if s.watch in ("", LATEST, *ids) else [(s.watch, s.watch)]
    yield Shown(
        choices={"watch": [("the one set up here", ""), ("whichever runs", LATEST), *named, *gone]},
        texts={"running": _running(alive)},
        again=LOOK if alive or s.watch else 0.0,
    )
    watch = ids[0] if s.watch == LATEST and ids else s.watch
    if watch and watch != LATEST:
        yield from _other(root(s) / watch, alive)
    elif not s.watch:
        yield from _own(s)


def _name(path: Path, among: list[Path]) -> str:
    """A training, by what it differs in from the others that run."""
    parameters, others = runs.Run(path).parameters, [runs.Run(other).parameters for other in among[:LISTED]]
    varying = {name for name in TOLD if len({str(p.get(name)) for p in others}) > 1}
    return f"{arm_name(parameters, varying | {'layers', 'orthogonal'})} seed {parameters.get('seed', 0)}"


def _running(alive: list[Path]) -> str:
    """All trainings that run, as a table."""
    rows = [{"study": p.parent.name, "training": _name(p, alive), "state": watched(p).sentence} for p in alive[:LISTED]]
    return f"<p>Trainings that run ({len(alive)}):</p>{table_html(pd.DataFrame(rows), index=False)}" if rows else ""


def _other(path: Path, alive: list[Path]) -> Iterator[Shown]:
    """A training that another process does."""
    status, name = watched(path), _name(path, alive)
    yield Shown(texts={"status": _told(f"{name}: {status.sentence}"), "run": "Start"})
    if len(status.history):
        yield Shown(figures={"curves": plots.learning_curves({name: status.history}, f"losses, {name}")})


def _told(sentence: str) -> str:
    return f"<div role='status'>{html.escape(sentence)}</div>"


def _own(s: CockpitState) -> Iterator[Shown]:
    """The training that is set up here."""
    names = studies.open_data(_data(s)).factor_names
    settings = settings_of(s)
    earlier = _finished(s)
    yield Shown(
        choices={"target": names, "orthogonal": names, "compare": list(earlier)},
        resolved={"target": settings.target, "orthogonal": shown(settings.orthogonal)},
    )
    training = training_of(s)
    status = training.status()
    yield Shown(
        texts={
            "status": _told(_waiting(settings) if status.state == "new" else status.sentence),
            "run": "Resume" if status.state == "stopped" else "Start",
        },
        again=LOOK if training.running else 0.0,
    )
    if status.state == "done":
        yield Shown(texts={"result": _result(training)})
    histories = _curves(s, settings, status, earlier)
    if histories:
        yield Shown(figures={"curves": plots.learning_curves(histories, f"losses, {status.sentence}")})


def _waiting(settings: Settings) -> str:
    """What a start would do."""
    first = [f"the {shown(need.orthogonal)} network" for need in studies.required(settings) if need.role == "teacher"]
    then = f"Start trains {arm_name(asdict(settings), ('layers', 'orthogonal'))} for {settings.epochs} epochs at most"
    return f"not started. {then}{', after ' + ' and '.join(first) if first else ''}; losses are drawn here as they come"


def _curves(s: CockpitState, settings: Settings, status: Status, earlier: dict[str, str]) -> dict[str, pd.DataFrame]:
    histories = {name: runs.Run(earlier[name]).history() for name in s.compare if name in earlier}
    if not len(status.history):
        return histories
    label = "this run" if status.role == "student" else f"{shown(settings.orthogonal)} network"
    return {label: status.history} | histories


def _finished(s: CockpitState) -> dict[str, str]:
    """Finished runs of the study that runs go into, by label."""
    try:
        known = studies.networks(str(root(s) / s.into))
    except AtlabError:
        return {}
    return {label: str(n.path.parent) for label, n in known.items() if n.role != "teacher"}


def _result(training: Training) -> str:
    result = runs.Run(training.path).result()
    rows = {
        part: {what: result.get(f"{part}_{what}") for what in ("accuracy", "loss", "clips")}
        for part in ("train", "validation", "test")
    }
    return (
        table_html(pd.DataFrame(rows).T.round(4).astype({"clips": "Int64"}))
        + f"<p>run folder: <code>{html.escape(str(training.path))}</code></p>"
    )


def _controls() -> dict[str, widgets.Widget]:
    return {
        "study": inputs.choice("study", help="Finished studies, the latest first"),
        "data": inputs.choice("data set"),
        "into": inputs.text("into", help="The study that the run goes into, next to the one above"),
        "watch": inputs.choice("watch"),
        "target": inputs.choice("target"),
        "orthogonal": inputs.choice("orthogonal"),
        "split": inputs.choice("split", SPLITS),
        "strategy": inputs.choice("strategy", STRATEGIES),
        "layers": inputs.text("AT layers", [f"conv{n}" for n in range(1, 14)]),
        "aggregation": inputs.choice("aggregation", functional.AGGREGATIONS),
        "similarity": inputs.choice("similarity", functional.SIMILARITIES),
        "beta": inputs.number("beta", -2, 4, 0.1),
        "width": inputs.choice("width", WIDTHS, "Of VGG16; 1 is the paper's"),
        "epochs": inputs.whole("epochs", 1, 50),
        "batch_size": inputs.choice("batch size", BATCHES),
        "learning_rate": inputs.choice("learning rate", RATES),
        "clips": inputs.whole("clips", 0, 5000, "Training clips at most; 0 for all"),
        "seed": inputs.whole("seed", 0, 20),
        "compare": inputs.several("compare", rows=2, width="420px"),
    }


def _body(e: Explorer) -> list[widgets.Widget]:
    said = widgets.HTML().add_class("atlab-kept")
    name = inputs.text("keep as", studies.finished()).add_class("atlab-keep-as")

    def saying(act: Callable[[], str]) -> Callable[[], None]:
        """Do it, and say what came of it or why not."""

        def guarded() -> None:
            try:
                said.value = html.escape(act())
            except (AtlabError, OSError) as error:
                said.value = f"<div role='alert'>{html.escape(sentence(error))}</div>"

        return guarded

    def begin() -> str:
        training_of(e.state).start()
        e.change(watch="") if e.state.watch else e.refresh()
        return ""

    def end() -> str:
        training_of(e.state).stop()
        e.refresh()
        return ""

    def put() -> str:
        return f"kept in {keep(training_of(e.state), name.value.removeprefix('runs/'))}"

    run = inputs.button("Start", "run", saying(begin), "Train, or go on where it was stopped")
    stop = inputs.button("Stop", "stop", saying(end), "End the training; what it has done is kept")
    put_there = inputs.button("Keep", "keep", saying(put), "Copy the finished run into that study")
    e.text("run").observe(lambda change: setattr(run, "description", change["new"] or "Start"), "value")
    rare = inputs.folded(
        "more: size, length, batches, seed",
        e.row("width", "epochs", "batch_size", "learning_rate", "clips", "seed", "into"),
    )
    what = e.row(
        "study",
        "data",
        "watch",
        "target",
        "orthogonal",
        "split",
        "strategy",
        "layers",
        "aggregation",
        "similarity",
        "beta",
        "compare",
    )
    buttons = widgets.Box([run, stop, name, put_there, said], layout={"flex_flow": "row wrap"})
    return [what, rare, buttons, e.text("status"), e.view("curves"), e.text("result"), e.text("running")]


PAGE = Page("Cockpit", CockpitState, steps, _controls, _body, RESETS)
