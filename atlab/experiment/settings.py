"""What decides the numbers of a training run, and which other runs it needs first."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from atlab.data.catalog import has_factor
from atlab.data.orthogonal import OrthogonalTask, check_forms
from atlab.data.splits import SplitSpec
from atlab.errors import AtlabError, unknown
from atlab.experiment.acting import FROM_BASELINE, LOSS, check_clips, orthogonal_clips, read_by
from atlab.labels import WITHOUT_NETWORK, listed

# Signal-to-noise ratios in dB: those that the paper states, and those that the published mixer makes of them (it takes one
# square root too many).
NOISE = {
    "none": None,
    "low": (20.0, 40.0),
    "high": (0.0, 10.0),
    "all": (0.0, 40.0),
    "published_low": (10.0, 20.0),
    "published_high": (0.0, 5.0),
}
STARTS = ("random", "orthogonal")
ROLES = ("student", "teacher")
LARGEST_BETA = 1e6
_NAMED_LAYER = re.compile(r"conv(\d+)(\.pre)?")
_CONVOLUTIONS = 13

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers of a run: the one place where its knobs are declared.

    The defaults are the paper's where it states one (section 4.2), but for the width. `orthogonal`, `held_out` and `layers`
    may be given as a list or as text with commas; they are tuples.

    Attributes:
        data: a data set's folder, or the name of an embedded one ("synthetic_speech").
        target: the factor that is learned.
        orthogonal: the tasks that should not matter, each a factor of the same data set (`speaker`), a factor of another data
            set (`emotion@ravdess_1s`: its network is trained there, once for all students) or a model file (`file:PATH`).
            "noise" stands for the kind of noise added to the same clips, where the data has no such factor.
        split, split_by, pairing, held_out, split_seed: see `atlab.data.splits.SplitSpec`; the split goes by the first
            orthogonal factor if `split_by` is empty.
        noise: added to the target's clips: "none", "low" (20 to 40 dB SNR), "high" (0 to 10 dB), "all", or what the published
            mixer effectively adds: "published_low" (10 to 20 dB), "published_high" (0 to 5 dB).
        noise_from: a data set of recorded noise with a factor `noise`; synthesised noise if empty. The network of
            `noise@DATA` hears it too, where DATA has no such factor.
        clips: training clips at most, validation in proportion, at most as many for the test; 0 for all.
        strategy: a name in `strategies.STRATEGIES`.
        layers: anti-transfer layers; aggregation, similarity, beta, published: the loss.
        warm_up: epochs over which beta grows from 0.
        start: "random", or "orthogonal" for convolutions of the (first) orthogonal network (at, inverse_at).
        residual: compare with the teacher's features minus their mean over the clip's target class.
        clips_from: what the loss acts on: the "target"'s clips, or a second batch per step of the "orthogonal" network's own training
            clips, without their target labels (at, inverse_at, gradient_reversal; `second_stream` is their control).
        against: what at, inverse_at and dual_at compare a clip's features with: the teacher's "features", its "predictions"
            (softmax), the mean of its features over the clip's orthogonal class ("class_means"), or that class ("labels", one-hot).
            Predictions and labels have no positions: features are averaged over theirs.
        stream_statistics: whether batch norms count the orthogonal clips in their running statistics ("shared") or not ("apart").
        width, batch_norm, head: of VGG16, for the orthogonal networks too; the published one has width 1.0, no batch norm and
            the head "flatten" (see `models.vgg16`).
        epochs, patience, schedule, batch_size, learning_rate: see `training.fit`; "one_cycle" ignores patience. The
            orthogonal networks share epochs, patience and schedule.
        teacher_batch_size, teacher_learning_rate: of the orthogonal networks, so that arms that differ in their own share them.
        teacher_seed: seed of the orthogonal network, shared by all student seeds.
        teacher_clips: clips for training and testing it, drawn from those outside the target's test; 0 for all.
        cached: read the teacher's targets from a cache instead of running it.
        role: "student", or "teacher" for a network of the orthogonal factor, trained on no test clip of a student of the same
            data set; one that has its factor as target, too, has no such students and is trained on a random split.

    >>> s = Settings(strategy="at", layers="conv1, conv5")
    >>> s.layers, s.orthogonal, s.teacher().role
    (('conv1', 'conv5'), ('speaker',), 'teacher')
    """

    STUDY: ClassVar[str] = "train"

    data: str = "synthetic_speech"
    target: str = "word"
    orthogonal: tuple[str, ...] = ("speaker",)
    split: str = "confounded"
    split_by: str = ""
    noise: str = "none"
    noise_from: str = ""
    pairing: float = SplitSpec.pairing
    held_out: tuple[str, ...] = ()
    split_seed: int = 0
    clips: int = 0
    strategy: str = "at"
    layers: tuple[str, ...] = ("conv5",)
    aggregation: str = "gram"
    similarity: str = "squared_cosine"
    beta: float = 1.0
    published: bool = False
    warm_up: int = 0
    start: str = "random"
    residual: bool = False
    clips_from: str = "target"
    against: str = "features"
    stream_statistics: str = "shared"
    width: float = 0.125
    batch_norm: bool = False
    head: str = "flatten"
    epochs: int = 50
    patience: int = 5
    schedule: str = "constant"
    batch_size: int = 13
    learning_rate: float = 5e-4
    seed: int = 0
    teacher_batch_size: int = 13
    teacher_learning_rate: float = 5e-4
    teacher_seed: int = 0
    teacher_clips: int = 0
    cached: bool = True
    precision: str = "auto"
    role: str = "student"

    def __post_init__(self) -> None:
        for name in ("orthogonal", "held_out", "layers"):
            object.__setattr__(self, name, listed(getattr(self, name)))

    @property
    def task(self) -> str:
        """The factor that the network learns."""
        return self.orthogonal[0] if self.role == "teacher" else self.target

    def tasks(self) -> list[OrthogonalTask]:
        """The orthogonal tasks; AtlabError for a text that is none."""
        return [OrthogonalTask.parse(text) for text in self.orthogonal]

    def own_factors(self) -> list[str]:
        """Those orthogonal factors that belong to the student's own data set."""
        return [task.factor for task in self.tasks() if task.factor and not task.data]

    def split_spec(self) -> SplitSpec:
        """How the data set is split; AtlabError where a factor to go by is missing."""
        return SplitSpec(self.split, self._split_factor(), self.pairing, self.held_out, self.split_seed)

    def _split_factor(self) -> str:
        if self.split_by or self.split not in ("disjoint", "confounded"):
            return self.split_by
        if not (own := self.own_factors()):
            raise AtlabError(
                f"a {self.split} split goes by a factor of the data set: set split_by, or an orthogonal factor of its own"
            )
        return own[0]

    def data_set(self):
        """The data set, seen through the noise that is asked for."""
        from atlab.data.catalog import load_data

        return self.seen(load_data(self.data))

    def seen(self, fs):
        """A data set through the noise that is asked for; AtlabError for a student whose data already have a factor of noise.

        A network of noise is trained on such data as they are.
        """
        from atlab.data import Noisy
        from atlab.data.catalog import load_data

        snr_db = NOISE[self.noise]
        if snr_db is None or ("noise" in fs.factor_names and self.role == "teacher"):
            return fs
        if "noise" in fs.factor_names:
            raise AtlabError(
                f"noise is {self.noise!r}, but {fs.card['name']} has noise already: choose noise='none', or its clean version"
            )
        recorded = load_data(self.noise_from) if self.noise_from else None
        return Noisy(fs, snr_db, seed=self.split_seed, recorded=recorded)

    def make_split(self, fs):
        """The parts to train on and test with, checked for empty parts and unseen classes: -> `data.Split`.

        A teacher's leaves out all clips that could test a student, however few of them `clips` lets it use. Where clips are drawn
        at random, no clip of a class that training never saw validates or tests (`splits.known`).
        """
        from atlab.data import splits

        check_forms(self.orthogonal, fs)
        if self.clips_from == "orthogonal":
            orthogonal_clips(self)
        split = self.split_spec().make(fs, self.target)
        if self.role == "teacher" and self.target != self.task:
            split = splits.for_teacher(fs, split, seed=self.split_seed, clips=self.teacher_clips or None)
        elif clips := self.teacher_clips if self.role == "teacher" else self.clips:
            split = splits.cut(split, clips, self.split_seed)
        if self.role == "teacher" or self.split == "random":
            split = splits.known(split, fs, self.task)
        split.check(fs, self.task)
        return split

    def teacher(self, text: str = "") -> Settings:
        """The settings of the network of an orthogonal task (the first): equal for all students that can share it.

        What does not bear on the split is left at its default, so that tasks and studies share networks too. AtlabError for
        a model file, which is not trained.
        """
        factor, data, file = OrthogonalTask.parse(text or self.orthogonal[0])
        if file:
            raise AtlabError(f"the orthogonal network {file!r} is a file: it has no settings to be trained with")
        if data:
            return self._teacher_elsewhere(factor, data)
        shared = ("data", "split", "split_seed", "width", "batch_norm", "head", "epochs", "patience", "schedule")
        by_split = {"disjoint": ("held_out",), "confounded": ("target", "pairing")}.get(self.split, ())
        return replace(
            Settings(target=""),
            **{name: getattr(self, name) for name in (*shared, *by_split, "teacher_clips", "precision")},
            orthogonal=(factor,),
            split_by=self._split_factor(),
            noise="all" if factor == "noise" else "none",
            noise_from=self.noise_from if factor == "noise" else "",
            role="teacher",
            strategy="baseline",
            batch_size=self.teacher_batch_size,
            learning_rate=self.teacher_learning_rate,
            seed=self.teacher_seed,
        )

    def _teacher_elsewhere(self, factor: str, data: str) -> Settings:
        shared = ("width", "batch_norm", "head", "epochs", "patience", "schedule", "teacher_clips", "precision")
        return replace(
            Settings(
                target=factor, orthogonal=(factor,), data=data, split="random", strategy="baseline", role="teacher"
            ),
            **{name: getattr(self, name) for name in shared},
            noise="all" if factor == "noise" else "none",
            noise_from=self.noise_from if factor == "noise" and not has_factor(data, "noise") else "",
            batch_size=self.teacher_batch_size,
            learning_rate=self.teacher_learning_rate,
            seed=self.teacher_seed,
        )

    def required(self) -> list[Settings]:
        """The runs whose networks the strategy takes, in its order; they may require others."""
        return [source for source in self.sources() if isinstance(source, Settings)]

    def sources(self) -> list[Settings | Path]:
        """Where the strategy's networks come from, in its order: runs to train, or model files."""
        if self.role == "teacher" or self.strategy in WITHOUT_NETWORK:
            return []
        if self.strategy == "dual_at":
            first, second = _two(self.orthogonal)
            hears = self.noise != "none" or OrthogonalTask.parse(first).factor == "noise"
            noise_from = self.noise_from if hears else ""
            own = replace(
                self, split_by=self._split_factor(), noise_from=noise_from, strategy="at", orthogonal=(first,)
            )
            return [own, self._source(second)]
        if self.strategy in FROM_BASELINE:
            return [self._first_training()]
        return [self._source(text) for text in self.orthogonal]

    def _first_training(self) -> Settings:
        """The baseline that the strategy begins with, equal for all that can share it; just_train_twice trains it a quarter as long."""
        epochs = max(1, self.epochs // 4) if self.strategy == "just_train_twice" else self.epochs
        plain = {f.name: f.default for f in fields(Settings) if f.name in LOSS}
        return replace(self, split_by=self._split_factor(), strategy="baseline", epochs=epochs, **plain)

    def _source(self, text: str) -> Settings | Path:
        task = OrthogonalTask.parse(text)
        return task.model_path() if task.file else self.teacher(text)

    def least_batch(self) -> int:
        """Clips that a batch needs: batch norm cannot learn from one, and clip kernels compare at least four."""
        return 4 if self.aggregation == "clip_kernel" else 2 if self.batch_norm else 1

    def check(self) -> None:
        """AtlabError for what the values, the strategy or its loss would refuse, before anything is trained."""
        import torch

        from atlab import models, strategies
        from atlab.data import InMemory
        from atlab.training.schedule import SCHEDULES

        for name, allowed in (("strategy", strategies.STRATEGIES), ("schedule", SCHEDULES)):
            if getattr(self, name) not in allowed:
                raise unknown(name, getattr(self, name), allowed)
        self.check_values()
        with torch.random.fork_rng():
            tiny = models.vgg16(2, width=1 / 64, batch_norm=self.batch_norm, head=self.head)
        if self.role == "student" and self.strategy != "baseline":
            two = torch.tensor([0, 1])
            clips = InMemory(torch.zeros(2, 1, 32, 32), two)
            settings = self.loss_settings(codes=two, groups=two, train=clips)
            strategies.apply(self.strategy, tiny, [tiny] * len(self.sources()), settings).close()

    def loss_settings(self, **more: Any):
        """The anti-transfer settings that a strategy takes: -> `strategies.AtSettings`."""
        from atlab.strategies import AtSettings

        own = ("layers", "aggregation", "similarity", "beta", "published", "warm_up", "start")
        return AtSettings(**{name: getattr(self, name) for name in own}, **more)

    def check_values(self) -> None:
        """AtlabError for a value that is not allowed, or one that the other settings would ignore; imports no torch."""
        for name, allowed in (("noise", NOISE), ("start", STARTS), ("role", ROLES)):
            if getattr(self, name) not in allowed:
                raise unknown(name, getattr(self, name), allowed)
        if self.noise_from and self.noise == "none" and "noise" not in (self.target, *(t.factor for t in self.tasks())):
            raise AtlabError(f"noise_from is {self.noise_from!r}, but noise is 'none': it would have no effect")
        self.split_spec().check()
        self.tasks()
        for name, least in (
            *(("clips", 0), ("teacher_clips", 0), ("warm_up", 0)),
            *(("batch_size", 1), ("teacher_batch_size", 1), ("epochs", 1)),
        ):
            if getattr(self, name) < least:
                raise AtlabError(f"{name} must be at least {least}, found {getattr(self, name)}")
        for name in ("learning_rate", "teacher_learning_rate"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise AtlabError(f"{name} must be positive and finite, found {getattr(self, name)}")
        if not (math.isfinite(self.beta) and abs(self.beta) <= LARGEST_BETA):
            raise AtlabError(f"beta must be a finite number of at most {LARGEST_BETA:g} in size, found {self.beta}")
        if self.beta == 0 and "beta" in read_by(self.strategy):
            raise AtlabError(f"beta is 0, so strategy {self.strategy!r} would learn as the baseline does: choose that")
        if self.role == "student" and self.strategy != "baseline" and self.target in self.own_factors():
            raise AtlabError(f"the target {self.target!r} cannot be its own orthogonal task")
        check_clips(self)
        if self.strategy == "dual_at":
            _two(self.orthogonal)
        for layer in self.layers:
            named = _NAMED_LAYER.fullmatch(layer)
            if named and not 1 <= int(named[1]) <= _CONVOLUTIONS:
                raise unknown("layer", layer, [f"conv{n}" for n in range(1, _CONVOLUTIONS + 1)])

    def without_effect(self) -> list[str]:
        """Settings of the losses that are not their defaults and that the strategy does not read.

        >>> Settings(strategy="wi", beta=7.0, layers="conv1").without_effect()
        ['layers', 'beta']
        """
        unread = [name for name in LOSS if name not in read_by(self.strategy)]
        return [f.name for f in fields(self) if f.name in unread and getattr(self, f.name) != f.default]

    def check_data(self) -> None:
        """AtlabError for a factor or a held-out value that the data set lacks; nothing is done for a set that is not there yet."""
        from atlab.data.catalog import data_set_folder

        folder = data_set_folder(self.data)
        if folder is not None:
            factors = (self.target, *self.own_factors(), self._split_factor())
            _check_factors(
                str(folder), tuple(f for f in factors if f and f != "noise"), self._split_factor(), self.held_out
            )


@functools.lru_cache(maxsize=256)
def _check_factors(folder: str, factors: tuple[str, ...], by: str, held_out: tuple[str, ...]) -> None:
    from atlab.data import FactorSet, splits

    fs = FactorSet.open(folder)
    for factor in factors:
        if factor != by or by not in fs.factors.columns:  # a split may go by another column, such as "source"
            fs.labels(factor)
    if held_out:
        splits.check_values(fs, by, held_out)


def settings_from(cls: type[T], parameters: Mapping[str, Any]) -> T:
    """Settings of a class from a notebook's parameters (its globals will do); others are ignored.

    >>> settings_from(Settings, {"strategy": "wi", "seed": 3, "device": "cpu"}).strategy
    'wi'
    """
    known = {field.name for field in fields(cls)}
    return cls(**{name: value for name, value in parameters.items() if name in known})


def from_parameters(parameters: Mapping[str, Any]) -> Settings:
    """`Settings` from a notebook's parameters; others (device, run_dir) are ignored."""
    return settings_from(Settings, parameters)


def _two(factors: tuple[str, ...]) -> tuple[str, ...]:
    if len(factors) != 2:
        raise AtlabError(
            f"strategy 'dual_at' takes two orthogonal factors in order (speaker, emotion), found {list(factors)}"
        )
    return factors
