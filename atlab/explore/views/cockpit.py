"""The training cockpit: start a small training from widgets, watch its curves, stop it, go on, keep the run."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import ipywidgets as widgets
import pandas as pd

from atlab import functional, plots, runs
from atlab.data import catalog
from atlab.data.splits import SPLITS
from atlab.errors import AtlabError
from atlab.experiment.settings import Settings
from atlab.explore import studies
from atlab.explore.process import Training, keep
from atlab.explore.widgets import explorer as parts
from atlab.explore.widgets import inputs
from atlab.explore.widgets.background import Step
from atlab.explore.widgets.explorer import Explorer, Shown, sentence
from atlab.labels import shown
from atlab.strategies import STRATEGIES
from atlab.system.home import in_home

WIDTHS = [
    (name, value) for name, value in (("1/32", 1 / 32), ("1/16", 1 / 16), ("1/8", 1 / 8), ("1/4", 1 / 4), ("1", 1.0))
]
BATCHES = (4, 8, 13, 16, 32, 64)
RATES = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3)
LOOK = 1.0  # seconds between two looks at a training
RESETS = {"data": ("target", "orthogonal"), "root": ("compare",), "study": ("compare",)}


@dataclass(frozen=True)
class CockpitState:
    """The training that the cockpit shows; empty fields stand for the first there is.

    Attributes:
        data: a data set's folder or name; root, study: the run goes to root/study/<id>/.
        compare: finished runs of the study to draw beside it.
        The others: see `atlab.experiment.Settings`.
    """

    data: str = "demo_speech"
    root: str = "runs"
    study: str = "cockpit"
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
    names = studies.open_data(s.data).factor_names
    target = s.target or names[0]
    orthogonal = s.orthogonal or next((name for name in names if name != target), "")
    settings = Settings(
        data=s.data,
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


def training_of(s: CockpitState) -> Training:
    """The training of a state, whether it was started or not."""
    return Training(settings_of(s), _root(s), s.study)


def _root(s: CockpitState) -> Path:
    """The folder of all studies, the same before the first run makes it and after."""
    return in_home(s.root).resolve()


def steps(s: CockpitState) -> Iterator[Step | Shown]:
    """What a state shows: how far the training is, its losses, its result."""
    yield Step(0, 1, "reading the run")
    names = studies.open_data(s.data).factor_names
    settings = settings_of(s)
    earlier = _finished(s)
    yield Shown(
        choices={"target": names, "orthogonal": names, "compare": list(earlier), "data": catalog.data_sets()},
        resolved={"target": settings.target, "orthogonal": shown(settings.orthogonal)},
    )
    training = training_of(s)
    status = training.status()
    histories = {name: runs.Run(earlier[name]).history() for name in s.compare if name in earlier}
    if len(status.history):
        label = "this run" if status.role == "student" else f"{shown(settings.orthogonal)} network"
        histories = {label: status.history} | histories
    figure = plots.learning_curves(histories, f"losses, {status.sentence}") if histories else None
    run = "Resume" if status.state == "stopped" else "Start"
    told = f"<div role='status'>{html.escape(status.sentence)}</div>"
    table = _result(training) if status.state == "done" else ""
    yield Shown(figures={"curves": figure}, texts={"status": told, "result": table, "run": run})


def _finished(s: CockpitState) -> dict[str, str]:
    """Finished runs of the study by label."""
    try:
        return {
            label: str(n.path.parent)
            for label, n in studies.networks(str(_root(s) / s.study)).items()
            if n.role != "teacher"
        }
    except AtlabError:
        return {}


def _result(training: Training) -> str:
    result = runs.Run(training.path).result()
    rows = {
        part: {what: result.get(f"{part}_{what}") for what in ("accuracy", "loss", "clips")}
        for part in ("train", "validation", "test")
    }
    return (
        parts.table_html(pd.DataFrame(rows).T.round(4).astype({"clips": "Int64"}))
        + f"<p>run folder: <code>{html.escape(str(training.path))}</code></p>"
    )


def cockpit(
    data: str = "demo_speech",
    root: str = "runs",
    *,
    state: CockpitState | None = None,
    threaded: bool | None = None,
    **fields,
) -> Explorer:
    """Open the cockpit on a data set, or at a `state`; further fields of `CockpitState` by name."""
    controls = {
        "data": inputs.text("data set", catalog.data_sets()),
        "root": inputs.text("root", help="Folder for all studies"),
        "study": inputs.text("study", help="Folder of the run below the root"),
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
        "compare": inputs.several("beside runs", rows=3, width="420px"),
    }
    return Explorer(
        "Training cockpit",
        state or CockpitState(data=data, root=root, **fields),
        steps,
        controls,
        _body,
        threaded,
        RESETS,
    )


def _body(e: Explorer) -> list[widgets.Widget]:
    run = widgets.Button(
        description="Start", button_style="primary", tooltip="Train, or go on where it was stopped"
    ).add_class("atlab-run")
    stop = widgets.Button(description="Stop", tooltip="End the training; what it has done is kept").add_class(
        "atlab-stop"
    )
    name, put = (
        inputs.text("keep in study"),
        widgets.Button(description="Keep", tooltip="Copy the finished run into that study").add_class("atlab-keep"),
    )
    name.add_class("atlab-keep-as")
    said = widgets.HTML().add_class("atlab-kept")
    watched: set[str] = set()

    def saying(act: Callable[[], str]) -> Callable[[object], None]:
        """Do it, and say what came of it or why not."""

        def guarded(_: object) -> None:
            try:
                said.value = html.escape(act())
            except (AtlabError, OSError) as error:
                said.value = f"<div role='alert'>{html.escape(sentence(error))}</div>"

        return guarded

    def begin() -> str:
        training = training_of(e.state)
        training.start()
        e.refresh()
        if e.threaded and str(training.path) not in watched:
            watched.add(str(training.path))
            threading.Thread(target=watch, args=(training,), name="cockpit", daemon=True).start()
        return ""

    def watch(training: Training) -> None:
        while training.running:
            time.sleep(LOOK)
            e.refresh()
        watched.discard(str(training.path))
        e.refresh()

    def end() -> str:
        training_of(e.state).stop()
        e.refresh()
        return ""

    run.on_click(saying(begin))
    stop.on_click(saying(end))
    put.on_click(saying(lambda: f"kept in {keep(training_of(e.state), name.value)}"))
    e.text("run").observe(lambda change: setattr(run, "description", change["new"] or "Start"), "value")
    where, what = (
        e.row("data", "root", "study", "target", "orthogonal", "split"),
        e.row("strategy", "layers", "aggregation", "similarity", "beta"),
    )
    how = e.row("width", "epochs", "batch_size", "learning_rate", "clips", "seed", "compare")
    buttons = widgets.Box([run, stop, name, put], layout={"flex_flow": "row wrap"})
    return [where, what, how, buttons, said, e.text("status"), e.view("curves"), e.text("result")]
