"""Images: gradual transfer of DenseNet-40 between data sets, block by block (Fayek et al. 2018, figure 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from atlab.data.splits import SplitSpec, cut
from atlab.errors import AtlabError, unknown
from atlab.experiment.settings import settings_from
from atlab.experiment.skeleton import Job, learn, train, train_required
from atlab.transfer.gradual.train import BASES, ROLES, Prepared, learn_gradual, new_network

__all__ = ["ImageSettings", "from_parameters", "required_by", "train", "train_required"]


@dataclass(frozen=True)
class ImageSettings:
    """Everything that decides the numbers of a run.

    Attributes:
        data, target: the data set (a folder) and the factor that are learned.
        source, source_target: those whose network is copied.
        base: what a transfer starts from: the "trained" network, or the same with "random" weights.
        clips: training images at most, validation in proportion, test at most as many; 0 for all.
        output_epochs: epochs in which the output layer is tuned alone first.
        seed: of weights, order, dropout and the held-out validation images; primary networks have the same.
        role: "transfer", or "primary" for a network that is trained on its own task alone, in root/networks/.
    """

    STUDY: ClassVar[str] = "gradual_transfer"

    data: str = "data/cifar10"
    target: str = "class"
    source: str = "data/svhn"
    source_target: str = "class"
    width: float = 0.25
    base: str = "trained"
    clips: int = 0
    epochs: int = 50
    patience: int = 5
    output_epochs: int = 1
    batch_size: int = 64
    learning_rate: float = 1e-3
    seed: int = 0
    role: str = "transfer"

    def primary(self, data: str, target: str) -> ImageSettings:
        """The network of a data set alone, equal for all transfers that can share it."""
        alone = {"source": "", "source_target": "", "base": "trained", "output_epochs": 1, "role": "primary"}
        return replace(self, data=data, target=target, **alone)

    def required(self) -> list[ImageSettings]:
        """The primary networks of both data sets: the source's is copied, the own one's is what transfer is measured by."""
        if self.role == "primary":
            return []
        return [self.primary(self.source, self.source_target), self.primary(self.data, self.target)]

    def levels(self) -> dict[str, int]:
        """Name -> number of held blocks, those of the paper's supplement."""
        from atlab.transfer.gradual.method import BLOCKS

        return dict(BLOCKS)

    def check(self) -> None:
        """AtlabError for a value that is not allowed."""
        for kind, value, allowed in (("base", self.base, BASES), ("role", self.role, ROLES)):
            if value not in allowed:
                raise unknown(kind, value, allowed)
        if (self.data, self.target) == (self.source, self.source_target):
            raise AtlabError(f"source and target are the same: {self.target!r} of {self.data!r}")
        for name, least in (("clips", 0), ("batch_size", 2)):
            if getattr(self, name) < least:
                raise AtlabError(f"{name} must be at least {least}, found {getattr(self, name)}")

    def data_set(self):
        """The data set; AtlabError if it holds no images."""
        from atlab.data.catalog import load_data

        fs = load_data(self.data)
        if fs.kind != "image":
            raise AtlabError(f"{self.data} holds {fs.kind}; DenseNet-40 takes images")
        return fs

    def make_split(self, fs):
        """Official parts, a tenth of the training images held out for validation; random parts where there are none."""
        kind = "official" if "official" in fs.factors else "random"
        split = SplitSpec(kind, seed=self.seed).make(fs, self.target)
        split = cut(split, self.clips, self.seed) if self.clips else split
        split.check(fs, self.target)
        return split

    def prepare(self, job: Job) -> Prepared:
        """Images with channels normalised by the training part's; the error is the share of images that are wrong."""
        from atlab import training

        task = job.task(self.target, self.batch_size, self.seed, batch_norm=True)

        def errors(model, progress: bool) -> tuple[float, float]:
            parts = (task.parts[name] for name in ("validation", "test"))
            validation, test = (1 - training.evaluate(model, part, progress=progress).accuracy for part in parts)
            return validation, test

        counts = {f"{name}_clips": part.clips for name, part in task.parts.items()}
        statistics = channel_statistics(task.learned)
        classes = [str(c) for c in task.classes]
        return Prepared(classes, task.learned, task.parts["validation"], statistics, errors, counts)

    def network(self, classes: int, seed: int):
        """A new DenseNet-40, for colour images."""
        return new_network("densenet40", classes, self.width, seed)


def channel_statistics(batches) -> tuple:
    """Mean and standard deviation of each channel over all images and positions, float64 [C, 1, 1] each.

    >>> import atlab, torch
    >>> x = torch.tensor([[0.0, 2.0], [5.0, 5.0]]).reshape(1, 2, 1, 2)
    >>> mean, std = channel_statistics(atlab.data.InMemory(x, torch.zeros(1)))
    >>> mean.flatten().tolist(), std.flatten().tolist()
    ([1.0, 5.0], [1.0, 1e-06])
    """
    count, sums = 0, np.zeros(2)
    for batch in batches.epoch(0):
        x = batch.x.double()
        both = np.stack([(x**power).sum((0, 2, 3)).cpu().numpy() for power in (1, 2)])
        count, sums = count + x.shape[0] * x.shape[2] * x.shape[3], both if not count else sums + both
    mean = sums[0] / count
    std = np.sqrt(np.maximum(sums[1] / count - mean**2, 1e-12))
    return mean[:, None, None], std[:, None, None]


learn.register(ImageSettings, learn_gradual)


def from_parameters(parameters: Mapping) -> ImageSettings:
    """The settings among a notebook's parameters; others (device, run_dir) are left aside."""
    return settings_from(ImageSettings, parameters)


def required_by(of: Mapping | ImageSettings) -> list[ImageSettings]:
    """What has to be trained before a notebook run with these parameters (which are checked), or before another requirement."""
    if isinstance(of, Mapping):
        of = from_parameters(of)
        of.check()
    return of.required()
