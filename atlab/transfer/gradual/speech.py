"""Phones and emotions: primary networks of both tasks, and each transferred gradually to the other (Fayek et al. 2018, figure 2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from atlab.data.orthogonal import OrthogonalTask
from atlab.errors import AtlabError, unknown
from atlab.experiment.settings import settings_from
from atlab.experiment.skeleton import Job, required_of, train, train_required
from atlab.labels import listed
from atlab.transfer.gradual.train import BASES, GradualSettings, Prepared, new_network

__all__ = ["SpeechSettings", "from_parameters", "required_by", "train", "train_required"]

TASKS = ("phone", "emotion")
MODELS = ("a", "b")
EMOTION_SPEAKERS = 10  # IEMOCAP's number; eight test speakers in turn, two validate


@dataclass(frozen=True)
class SpeechSettings(GradualSettings):
    """Everything that decides the numbers of a run. (The paper gives networks of emotions five outputs and names four emotions.)

    Attributes:
        data: where phones are learned (TIMIT, or the name of the embedded speech).
        emotion_data: where emotions are learned; if empty, other speakers of `data`.
        task: what is learned, "phone" or "emotion"; a transfer starts from the network of the other one.
        model: "a" or "b".
        base: what a transfer starts from: the "trained" network of the other task, the same with "random" weights, or a model
            file (`file:PATH`).
        fold: number of the emotion task's test speaker (leave one speaker out).
        every: train on every n-th frame.
        held: numbers of held hidden layers l_c, in a list or in text with commas; all from 0 on if empty.
    """

    data: str = "synthetic_speech"
    batch_size: int = 256
    learning_rate: float = 5e-4
    emotion_data: str = ""
    task: str = "emotion"
    model: str = "a"
    held: tuple[int, ...] = ()
    fold: int = 0
    every: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "held", _numbers(self.held))

    def primary(self, task: str) -> SpeechSettings:
        """The network of a task alone, equal for all transfers that can share it."""
        alone = replace(self, task=task, base="trained", held=(), output_epochs=1, role="primary")
        return replace(alone, fold=0) if task == "phone" else alone

    @property
    def orthogonal(self) -> tuple[str, ...]:
        """The model file that is copied, as a part of the identity of a run's data."""
        return () if self.base in BASES else (self.base,)

    def primaries(self) -> list[GradualSettings]:
        """The other task's network, if no file is copied, and the task's own."""
        tasks = (self.task,) if self.orthogonal else (_other(self.task), self.task)
        return [self.primary(task) for task in tasks]

    def model_path(self) -> Path | None:
        """The model file that is copied, if the base is one."""
        return OrthogonalTask.parse(self.base).model_path() if self.orthogonal else None

    def levels(self) -> dict[str, int]:
        """Name -> number of held layers of every transfer; AtlabError for a number that the model does not have."""
        from atlab.models.fayek import LAYERS

        every = {"0": 0} | {f"layer {n}": n for n in range(1, len(LAYERS[self.model]) + 1)}
        if not self.held:
            return every
        names = {n: name for name, n in every.items()}
        for number in self.held:
            if number not in names:
                raise unknown(f"number of held layers of model {self.model}:", number, names)
        return {names[number]: number for number in self.held}

    def data_set(self):
        """The task's data set."""
        from atlab.data.catalog import load_data

        return load_data(self.emotion_data if self.task == "emotion" and self.emotion_data else self.data)

    def make_split(self, fs):
        """Training, validation and test clips of the task; no speaker is on two sides.

        TIMIT's own parts for phones. Of other data the first ten speakers (at most half of them) are for emotions, one testing
        and the last two validating, and the others for phones, the last two testing and the two before validating, in neutral
        speech where clips have an emotion. AtlabError for a fold without a speaker, or too few speakers.
        """
        from atlab.data import Split, splits

        if self.task == "phone" and "official" in fs.factors:
            parts = [np.flatnonzero(fs.factors["official"] == part) for part in ("train", "validation", "test")]
        else:
            parts = _by_speaker(fs, self)
        split = Split(*parts, {"split": f"speech_study.{self.task}", "fold": self.fold})
        return splits.cut(split, self.clips, self.seed) if self.clips else split

    def prepare(self, job: Job) -> Prepared:
        """Frames, targets and errors of the task."""
        from atlab.transfer.phones import tasks
        from atlab.transfer.phones.frames import features

        frames = {name: features(job.fs, getattr(job.split, name)) for name in ("train", "validation", "test")}
        make = tasks.phone_task if self.task == "phone" else tasks.emotion_task
        return make(job.fs, frames).prepared(self.every, self.batch_size, self.seed, job.device)

    def network(self, classes: int, seed: int):
        """A new model A or B."""
        return new_network(f"fayek_{self.model}", classes, self.width, seed)

    def check(self) -> None:
        """AtlabError for a value that is not allowed."""
        super().check()
        for kind, value, allowed in (("task", self.task, TASKS), ("model", self.model, MODELS)):
            if value not in allowed:
                raise unknown(kind, value, allowed)
        if self.base not in BASES and not self.base.startswith("file:"):
            raise unknown("base", self.base, (*BASES, "file:PATH"))
        self.levels()
        for name, least in (("fold", 0), ("every", 1)):
            if getattr(self, name) < least:
                raise AtlabError(f"{name} must be at least {least}, found {getattr(self, name)}")


def from_parameters(parameters: Mapping) -> SpeechSettings:
    """The settings among a notebook's parameters; others (device, run_dir) are ignored."""
    return settings_from(SpeechSettings, parameters)


def required_by(of: Mapping | SpeechSettings) -> list[GradualSettings]:
    """What has to be trained before a notebook run with these parameters (which are checked), or before another requirement."""
    return required_of(SpeechSettings, of)


def _numbers(held: str | Iterable[int]) -> tuple[int, ...]:
    try:
        return tuple(int(n) for n in (listed(held) if isinstance(held, str) else held))
    except (TypeError, ValueError):
        raise AtlabError(f"held must be numbers of layers, such as (0, 2, 5), found {held!r}") from None


def _by_speaker(fs, s: SpeechSettings) -> list[np.ndarray]:
    speakers, of = fs.classes("speaker"), fs.labels("speaker")
    first = len(speakers) if s.emotion_data else min(EMOTION_SPEAKERS, len(speakers) // 2)
    if s.task == "emotion":
        own, usable = speakers[:first], np.ones(len(fs), dtype=bool)
        folds = own[:-2]
        if s.fold >= len(folds):
            raise AtlabError(f"fold {s.fold} of {len(folds)}: {len(own)} speakers, of whom two validate")
        test, validation = [folds[s.fold]], own[-2:]
    else:
        own = speakers[0 if s.emotion_data else first :]
        usable = fs.labels("emotion") == "neutral" if "emotion" in fs.factor_names else np.ones(len(fs), dtype=bool)
        test, validation = own[-2:], own[-4:-2]
    train = [name for name in own if name not in (*test, *validation)]
    if not train:
        raise AtlabError(
            f"{len(own)} speakers are too few: two validate, one or two test, and none is left to learn from"
        )
    return [np.flatnonzero(np.isin(of, names) & usable) for names in (train, validation, test)]


def _other(task: str) -> str:
    return TASKS[1 - TASKS.index(task)]
