"""Phones and emotions: primary networks of both tasks, and each transferred gradually to the other (Fayek et al. 2018, figure 2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from atlab.errors import AtlabError, unknown
from atlab.experiment.settings import settings_from
from atlab.experiment.skeleton import Job, learn, train, train_required
from atlab.labels import listed
from atlab.transfer.gradual.train import BASES, ROLES, Prepared, learn_gradual, new_network

__all__ = ["SpeechSettings", "from_parameters", "required_by", "train", "train_required"]

TASKS = ("phone", "emotion")
MODELS = ("a", "b")
EMOTION_SPEAKERS = 10  # IEMOCAP's number; eight test speakers in turn, two validate


@dataclass(frozen=True)
class SpeechSettings:
    """Everything that decides the numbers of a run. (The paper gives networks of emotions five outputs and names four emotions.)

    Attributes:
        data: where phones are learned (TIMIT, or the name of the embedded speech).
        emotion_data: where emotions are learned; if empty, other speakers of `data`.
        task: what is learned, "phone" or "emotion"; a transfer starts from the network of the other one.
        model: "a" or "b"; width: factor on its channels and hidden units.
        base: what a transfer starts from: the "trained" network, or the same with "random" weights.
        fold: number of the emotion task's test speaker (leave one speaker out).
        clips: training clips at most, validation in proportion, test at most as many; 0 for all.
        every: train on every n-th frame.
        held: numbers of held hidden layers l_c, in a list or in text with commas; all from 0 on if empty.
        output_epochs: epochs in which the output layer is tuned alone first.
        seed: of weights, order and dropout; primary networks have the same.
        role: "transfer", or "primary" for a network that is trained on its own task alone, in root/networks/.
    """

    STUDY: ClassVar[str] = "gradual_transfer"

    data: str = "synthetic_speech"
    emotion_data: str = ""
    task: str = "emotion"
    model: str = "a"
    width: float = 0.125
    base: str = "trained"
    held: tuple[int, ...] = ()
    fold: int = 0
    clips: int = 0
    every: int = 1
    epochs: int = 50
    patience: int = 5
    output_epochs: int = 1
    batch_size: int = 256
    learning_rate: float = 5e-4
    seed: int = 0
    role: str = "transfer"

    def __post_init__(self) -> None:
        object.__setattr__(self, "held", _numbers(self.held))

    def primary(self, task: str) -> SpeechSettings:
        """The network of a task alone, equal for all transfers that can share it."""
        alone = replace(self, task=task, base="trained", held=(), output_epochs=1, role="primary")
        return replace(alone, fold=0) if task == "phone" else alone

    def required(self) -> list[SpeechSettings]:
        """The primary networks of both tasks: the other one's is copied, the own one's is what transfer is measured by."""
        if self.role == "primary":
            return []
        return [self.primary(task) for task in (_other(self.task), self.task)]

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

        TIMIT's own parts for phones. Of other data the first ten speakers (at most half of them) say emotions, one testing
        and the last two validating, and the others phones, the last two testing and the two before validating, in neutral
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
        for kind, value, allowed in (
            ("task", self.task, TASKS),
            ("model", self.model, MODELS),
            ("base", self.base, BASES),
            ("role", self.role, ROLES),
        ):
            if value not in allowed:
                raise unknown(kind, value, allowed)
        self.levels()
        for name, least in (("fold", 0), ("clips", 0), ("every", 1), ("batch_size", 2)):
            if getattr(self, name) < least:
                raise AtlabError(f"{name} must be at least {least}, found {getattr(self, name)}")


learn.register(SpeechSettings, learn_gradual)


def from_parameters(parameters: Mapping) -> SpeechSettings:
    """The settings among a notebook's parameters; others (device, run_dir) are left aside."""
    return settings_from(SpeechSettings, parameters)


def required_by(of: Mapping | SpeechSettings) -> list[SpeechSettings]:
    """What has to be trained before a notebook run with these parameters (which are checked), or before another requirement."""
    if isinstance(of, Mapping):
        of = from_parameters(of)
        of.check()
    return of.required()


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
