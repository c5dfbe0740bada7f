"""The skeleton of every training run: check, data, split, required networks, folder, learning, result."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pandas as pd

from atlab.data.orthogonal import content_hash, form
from atlab.data.parts import PARTS, Split
from atlab.errors import AtlabError
from atlab.experiment.settings import settings_from
from atlab.system.processes import one_thread

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from atlab.data.factorset import FactorSet
    from atlab.runs import Run

NETWORKS = "networks"
SHARED = ("teacher", "base", "primary")  # roles of networks that serve all studies, from root/networks/


class RunSettings(Protocol):
    """What the settings of a training run have: a frozen dataclass of plain values, with these methods.

    `STUDY` is where its runs go by default. How such a run is learned is registered with `learn`.
    """

    STUDY: ClassVar[str]
    role: str

    def check(self) -> None:
        """AtlabError for a value that is not allowed."""

    def data_set(self) -> FactorSet:
        """The data set."""

    def make_split(self, fs: FactorSet) -> Split:
        """Its parts; AtlabError if they cannot be made."""

    def required(self) -> list:
        """Settings of the runs whose networks it takes."""


@dataclass(frozen=True)
class Task:
    """A factor that is ready to be learned: its classes, codes [N], training batches in random order, all parts in their own."""

    factor: str
    classes: list
    codes: np.ndarray
    learned: Any
    parts: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A run to be learned: its folder, data, split and the runs that it requires, on a device."""

    run: Run
    fs: FactorSet
    split: Split
    networks: list[Run]
    device: torch.device
    progress: bool

    def task(self, factor: str, batch_size: int, seed: int, least: int = 1) -> Task:
        """Batches of the split's parts with the classes of its training part; none is smaller than `least` if it can be helped."""
        from atlab.data import Batches

        classes = sorted(set(self.fs.labels(factor, self.split.train)))
        codes = self.fs.codes(factor, classes)

        def batches(rows, shuffle: bool = False) -> Batches:
            options = {"batch_size": batch_size, "device": self.device, "shuffle": shuffle, "seed": seed}
            return Batches(self.fs, rows, codes, **options, least=least)

        parts = {name: batches(getattr(self.split, name)) for name in PARTS}
        return Task(factor, classes, codes, batches(self.split.train, shuffle=True), parts)

    def fit(self, s: Any, model: nn.Module, learned: Any, validation: Any, **options: Any) -> pd.DataFrame:
        """`training.fit` as the settings have it, with the run's checkpoint: -> history."""
        from atlab import training

        names = ("epochs", "patience", "learning_rate", "seed", "precision", "schedule", "optimizer")
        given = {name: getattr(s, name) for name in names if hasattr(s, name)}
        common = {"device": self.device, "checkpoint": self.run.checkpoint_path, "progress": self.progress}
        return training.fit(model, learned, validation, **given | common | options)

    def result(self, trained: nn.Module, parts: dict[str, Any], history: pd.DataFrame) -> dict[str, float]:
        """Evaluate the parts, keep the history and the test predictions: -> accuracy, loss and clips of every part."""
        from atlab import training

        scores = {name: training.evaluate(trained, part, progress=self.progress) for name, part in parts.items()}
        test = scores["test"]
        table = pd.DataFrame({"row": test.rows, "code": test.codes, "prediction": test.predictions})
        table.to_parquet(self.run.path / "predictions.parquet")
        self.run.save_history(history)
        return {
            **{f"{name}_accuracy": score.accuracy for name, score in scores.items()},
            **{f"{name}_loss": score.loss for name, score in scores.items()},
            **{f"{name}_clips": len(score.codes) for name, score in scores.items()},
            "test_unweighted_average_recall": test.unweighted_average_recall,
            "epochs_run": len(history),
        }

    def save_model(self, model: nn.Module, classes: list, **card: Any) -> None:
        """The run's model file."""
        from atlab import models

        card |= {"classes": [str(c) for c in classes], "data": self.fs.content_hash, "input": form(self.fs)}
        models.save(model, self.run.model_path, **card)


@functools.singledispatch
def learn(settings: RunSettings, job: Job) -> dict[str, Any]:
    """Learn a run and save its model and history: -> its result. Registered for every class of settings."""
    raise AtlabError(f"nobody has registered how runs of {type(settings).__name__} are learned")


@one_thread()
def train(
    settings: RunSettings,
    root: str | Path = "runs",
    study: str = "",
    progress: bool = True,
    device: str = "auto",
    run_dir: str | Path = "",
) -> Run:
    """Train as the settings say into root/study/<id>/, or open the run if it is done: -> `runs.Run`.

    A notebook that was handed a run folder passes it as `run_dir`: the run is written there. What the settings require is
    trained first, into root/networks/, if no run there has it. The run keeps its split by clip id (split.json), its
    history, its model file and its result. It is computed on one thread: the number of threads changes the last digits.

    Args:
        study: the settings' own (`STUDY`) if empty; networks that serve all studies go to root/networks/ in any case.
        device: "auto", or a name as in `atlab.system.devices`.

    Raises:
        AtlabError: what settings, data, split or training refuse, the former before anything is trained.
    """
    from atlab import runs
    from atlab.system import devices

    if run_dir:
        root, study = Path(run_dir).parent.parent, Path(run_dir).parent.name
    settings.check()
    fs = settings.data_set()
    split = settings.make_split(fs)  # what cannot be trained is refused before its networks are trained
    identity = content_hash(fs, getattr(settings, "orthogonal", ()))
    networks = [train(need, root, NETWORKS, progress, device) for need in settings.required()]
    run = (
        runs.Run(run_dir)
        if run_dir
        else runs.open_run(root, study_of(settings, study), asdict(settings), data_hash=identity, wait=True)
    )
    if run.done:
        return run
    with run:
        split.save(run.path / "split.json", fs)
        job = Job(run, fs, split, networks, devices.choose(None if device == "auto" else device), progress)
        run.finish(learn(settings, job))
    return run


def study_of(settings: RunSettings, study: str = "") -> str:
    """Where a run lives: networks that serve all studies in root/networks/, others in the study."""
    return NETWORKS if settings.role in SHARED else study or settings.STUDY


def required_of(cls: type, of: Any) -> list:
    """What settings of a class require; a notebook's parameters become such settings first, and are checked.

    So a sweep is refused before its first kernel.
    """
    if isinstance(of, Mapping):
        of = settings_from(cls, of)
        of.check()
    return of.required()


def train_required(need: RunSettings, root: str | Path, study: str) -> None:
    """Train what another run requires into root/networks/, or find it done; waits while another process trains it."""
    train(need, root, NETWORKS, progress=False)
