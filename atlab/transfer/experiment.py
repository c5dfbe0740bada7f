"""One transfer run: a base network, shared by all that need it, and a treatment of it trained towards the target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from atlab.data import splits
from atlab.data.catalog import load_data
from atlab.data.splits import SplitSpec
from atlab.errors import AtlabError, unknown
from atlab.experiment.settings import Settings, settings_from
from atlab.experiment.skeleton import Job, learn, required_of, train, train_required
from atlab.training.optimizers import OPTIMIZERS
from atlab.transfer import treatments
from atlab.transfer.halves import SIDES, Halves, halves_of, restrict

__all__ = ["TransferSettings", "draw", "from_parameters", "required_by", "train", "train_required"]

ARCHITECTURES = {"alexnet": 8, "caffenet": 8, "vgg16": 16}  # and their layers
TRANSFER_SPLITS = ("official", "random", "disjoint")
PIXEL = 1 / 255  # the scale that the reference network's first weights fit; the mean alone is subtracted


@dataclass(frozen=True)
class TransferSettings:
    """Everything that decides the numbers of a transfer run; the defaults suit a laptop, and are those of the notebook.

    Two pairs of tasks are possible. With `base` empty, they are halves of the classes of `target` (Yosinski et al. 2014):
    each half is a data set of its own. Otherwise `base` names the other task, and base networks are those that anti-transfer
    uses (`atlab.experiment.Settings.sources`), so both can be compared.

    Attributes:
        data: a data set's folder, or the name of an embedded one.
        target: the factor that is learned.
        base: the other task, written as an orthogonal one: a factor of the same data set (`speaker`) or of another
            (`emotion@ravdess_1s`), or a model file (`file:PATH`); empty for halves of the target's classes.
        halves: how the classes are divided: "random" by `halves_seed`, or a factor of two values ("man_made").
        half: the half that is the target, "A" or "B".
        treatment: a name in `treatments.TREATMENTS`; n: the number of layers it is about.
        split: "official" where the data set has one (a tenth of its training clips validates), "random" by source file, or
            "disjoint" in the factor `split_by` (two factors only).
        clips: training clips at most, validation in proportion; 0 for all. Of each half, if there are halves.
        base_clips: clips for training and testing a base network of a factor; 0 for all outside the target's test.
        architecture: "alexnet" (for small images below 63 x 63), "caffenet" (the paper's) or "vgg16"; width: factor on its
            channels.
        crop: side of the random mirrored crops that halves are trained on (the central one is tested); 0 for whole images.
        optimizer: see `training.fit`; iterations: training steps in place of `epochs`, the last epoch being completed.
        seed: of weights, order and dropout, of the base networks too; but base networks of factors have `base_seed`, as
            those of anti-transfer have one for all seeds of a study.
        cached: run frozen layers once per clip instead of in every epoch.
        role: "treatment", or "base" for a base network in root/networks/, whose treatment is "base" and whose n is 0.
    """

    STUDY: ClassVar[str] = "transfer"

    data: str = "data/cifar10"
    target: str = "class"
    base: str = ""
    halves: str = "random"
    halves_seed: int = 0
    half: str = "B"
    treatment: str = "AnB"
    n: int = 3
    split: str = "official"
    split_by: str = ""
    split_seed: int = 0
    clips: int = 0
    base_clips: int = 0
    architecture: str = "alexnet"
    width: float = 0.125
    epochs: int = 10
    patience: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    crop: int = 0
    optimizer: str = "adam"
    iterations: int = 0
    seed: int = 0
    base_seed: int = 0
    cached: bool = True
    precision: str = "auto"
    role: str = "treatment"

    @property
    def orthogonal(self) -> tuple[str, ...]:
        """The other task, if it is no half of the classes: what it names is part of the identity of a run's data."""
        return (self.base,) if self.base else ()

    def network(self, side: str) -> TransferSettings | Settings | Path:
        """Where a base network comes from, equal for all runs that can share it: "own" task's or the "other" one's."""
        own = side == treatments.OWN
        if self.base:
            return self.at().teacher(self.target) if own else self.at().sources()[0]
        half = self.half if own else _other(self.half)
        return replace(self, half=half, treatment="base", n=0, cached=True, role="base")

    def at(self) -> Settings:
        """The anti-transfer settings with the same two tasks, split and clips."""
        return Settings(
            data=self.data,
            target=self.target,
            orthogonal=self.orthogonal,
            split=self.split,
            split_by=self.split_by,
            split_seed=self.split_seed,
            clips=self.clips,
            teacher_clips=self.base_clips,
            teacher_seed=self.base_seed,
            width=self.width,
            epochs=self.epochs,
            patience=self.patience,
            precision=self.precision,
        )

    def required(self) -> list[TransferSettings | Settings]:
        """The runs whose networks the treatment takes layers from."""
        return [source for source in self.sources() if not isinstance(source, Path)]

    def sources(self) -> list[TransferSettings | Settings | Path]:
        """Runs to train, or a model file, that the treatment takes layers from. The base of a half is that network itself."""
        if self.role == "base":
            return []
        source = treatments.treatment(self.treatment).source
        if not self.base and (self.treatment == "base" or not self.n):
            source = treatments.OWN  # the same network under the same name
        return [self.network(source)] if source and (self.n or not self.base) else []

    def data_set(self):
        """The data set."""
        return load_data(self.data)

    def make_split(self, fs):
        """The parts, of the target's half if there are halves, checked for unseen classes: -> `data.Split`."""
        if self.base:
            return self.at().make_split(fs)
        split = SplitSpec(self.split, seed=self.split_seed).make(fs, self.target)
        split = restrict(split, fs, self.target, self.halves_of(fs).of(self.half))
        split = splits.cut(split, self.clips, self.split_seed) if self.clips else split
        split.check(fs, self.target)
        if self.crop:
            from atlab.transfer.crops import check_side

            check_side(self.crop, fs.read([0]).shape)
        return split

    def halves_of(self, fs) -> Halves:
        """The two halves of the target's classes."""
        return halves_of(fs, self.target, self.halves, self.halves_seed)

    def duration(self, batches: int) -> int:
        """Epochs of so many batches."""
        return math.ceil(self.iterations / batches) if self.iterations else self.epochs

    def check(self) -> None:
        """AtlabError for a value that is not allowed, or one that the other settings would ignore."""
        for kind, value, allowed in (
            ("half", self.half, SIDES),
            ("split", self.split, TRANSFER_SPLITS),
            ("architecture", self.architecture, ARCHITECTURES),
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("role", self.role, ("treatment", "base")),
        ):
            if value not in allowed:
                raise unknown(kind, value, allowed)
        treatments.check(self.treatment, self.n, ARCHITECTURES[self.architecture])
        if self.split == "disjoint" and not self.base:
            raise AtlabError("halves have an official or a random split; a disjoint one goes with another task (base)")
        if self.base and (self.split == "official" or self.architecture != "vgg16"):
            raise AtlabError(
                f"tasks other than halves need split random or disjoint and vgg16, as anti-transfer's networks do; got {self.split} "
                f"and {self.architecture}"
            )
        of_halves = ("halves", "halves_seed", "half", "crop", "optimizer", "iterations")
        of_factors = ("split_by", "base_clips", "base_seed")
        for name in of_halves if self.base else of_factors:
            if getattr(self, name) != getattr(TransferSettings, name):
                raise AtlabError(
                    f"{name} is {getattr(self, name)!r}, but the tasks are {'not halves' if self.base else 'halves'} of one factor: "
                    f"expected {getattr(TransferSettings, name)!r}"
                )
        if self.base == self.target:
            raise AtlabError(f"base and target are both {self.target!r}: use treatment BnB or BnB+ for that")
        if self.crop and self.cached and self.n and not treatments.treatment(self.treatment).tuned:
            raise AtlabError("random crops change the activations of frozen layers in every epoch: set cached=False")
        for name in ("clips", "base_clips", "crop", "iterations"):
            if getattr(self, name) < 0:
                raise AtlabError(f"{name} must be at least 0, found {getattr(self, name)}")


def from_parameters(parameters: Mapping) -> TransferSettings:
    """The settings among a notebook's parameters; others (device, run_dir) are ignored.

    >>> from_parameters({"treatment": "BnB", "n": 5, "device": "cpu"}).treatment
    'BnB'
    """
    return settings_from(TransferSettings, parameters)


def required_by(of: Mapping | TransferSettings | Settings) -> list:
    """What has to be trained before a notebook run with these parameters, or before another such requirement.

    Parameters are checked, so that a sweep is refused before its first kernel.

    >>> [(need.half, need.treatment, need.n) for need in required_by({"half": "B", "treatment": "AnB", "n": 5})]
    [('A', 'base', 0)]
    """
    return required_of(TransferSettings, of)


def _other(half: str) -> str:
    if half not in SIDES:
        raise unknown("half", half, SIDES)
    return SIDES[1 - SIDES.index(half)]


@learn.register
def _(s: TransferSettings, job: Job) -> dict:
    from atlab import models
    from atlab.system import devices

    mode = devices.precision(s.precision, job.device)
    task = job.task(s.target, s.batch_size, draw(s))
    parts, learned = _cropped(s, task)
    files = [source for source in s.sources() if isinstance(source, Path)] + [run.model_path for run in job.networks]
    base = models.load(files[0]).to(job.device) if files else None
    cut = _network_of(s, len(task.classes), parts["train"], base, mode)
    learns = any(p.requires_grad for p in cut.parameters()) and (s.role == "base" or base is None or s.n > 0)
    trained, how = cut, "run" if cut.frozen else "learns"
    if cut.frozen and s.cached and learns:
        trained, how = cut.rest, "cached"
        parts, learned = _activations(cut, parts, learned, mode, job.run.path.parent.parent / "caches", job.progress)
    history = job.networks[0].history() if job.networks else pd.DataFrame()
    if learns:
        options = {"epochs": s.duration(len(learned)), "description": f"{s.treatment}, n = {s.n}, seed {s.seed}"}
        history = job.fit(s, trained, learned, parts["validation"], seed=draw(s), **options)
    result = job.result(trained.eval(), parts, history)
    job.save_model(cut.model, task.classes, task=s.target)
    return result | {"classes": len(task.classes), "epochs_run": len(history) if learns else 0, "prefix": how}


def draw(s: TransferSettings) -> int:
    """The seed of a run's weights, order and dropout.

    A treatment must not draw the very weights again that its base network started from: its new layers would then be those
    that the copied ones were trained with. So it depends on n and the treatment, and for n = 0 is the run's own seed.
    """
    if not s.n:
        return s.seed
    names = list(treatments.TREATMENTS)
    return int(np.random.SeedSequence([s.seed, s.n, names.index(s.treatment)]).generate_state(1)[0])


def _network_of(s: TransferSettings, classes: int, train_batches, base, mode):
    """The network of the treatment, cut after n layers, on the device."""
    import torch

    from atlab.data import input_statistics

    with torch.random.fork_rng():
        torch.manual_seed(draw(s))
        model = new_model(s, classes, next(iter(train_batches.epoch(0))).x)
    mean, std = input_statistics(train_batches)
    model.set_normalisation(mean, PIXEL if s.architecture == "caffenet" else std)
    mode.place(model)
    if not s.n and base is not None:
        model.load_state_dict(base.state_dict())  # no layer is copied: the base network is the treatment's
    own, other = (base, None) if treatments.treatment(s.treatment).source == treatments.OWN else (None, base)
    return treatments.apply(s.treatment, s.n, model, own, other)


def new_model(s: TransferSettings, classes: int, x):
    """A network with random weights for inputs like x [B, C, H, W]."""
    from atlab import models

    sizes = {"images": "small" if min(x.shape[2:]) < 63 else "photographs"} if s.architecture == "alexnet" else {}
    return models.ARCHITECTURES[s.architecture](classes, s.width, in_channels=x.shape[1], **sizes)


def _cropped(s: TransferSettings, task) -> tuple[dict, object]:
    """All parts, and the training part in shuffled order, of whole images or of crops."""
    from atlab.transfer.crops import Crops

    if not s.crop:
        return task.parts, task.learned
    return {name: Crops(part, s.crop) for name, part in task.parts.items()}, Crops(task.learned, s.crop, random=True)


def _activations(cut, parts: dict, shuffled, mode, folder: Path, progress: bool) -> tuple[dict, object]:
    """The frozen layers' activations of all parts, and those of the training part in shuffled order."""
    from atlab.transfer.prefix import PrefixBatches

    stored = {name: PrefixBatches(cut.prefix, part, mode, folder, progress) for name, part in parts.items()}
    return stored, stored["train"].like(shuffled)
