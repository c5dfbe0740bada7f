"""Images: gradual transfer of DenseNet-40 between data sets, block by block (Fayek et al. 2018, figure 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from atlab.errors import AtlabError, unknown
from atlab.experiment.settings import NETWORKS
from atlab.transfer.gradual.train import BASES, ROLES, Prepared, new_network, train

__all__ = ["ImageSettings", "from_parameters", "required_by", "train", "train_required"]

VALIDATION = 0.1  # of the official training images; the paper holds out 5,000 of 50,000


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

    data: str = "data/cifar10"
    target: str = "class"
    source: str = "data/svhn"
    source_target: str = "class"
    width: float = 1.0
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

    def split(self, fs):
        """Official parts, a tenth of the training images held out for validation; random parts where there are none."""
        from atlab.data import splits
        from atlab.data.splits import hold_out

        if "official" in fs.factors:
            held_out = max(1, round(VALIDATION * int((fs.factors["official"] == "train").sum())))
            split = hold_out(fs, held_out, self.seed)
        else:
            split = splits.random(fs, seed=self.seed)
        split = splits.cut(split, self.clips, self.seed) if self.clips else split
        split.check(fs, self.target)
        return split

    def prepare(self, fs, device) -> Prepared:
        """Images with channels normalised by the training part's; the error is the share of images that are wrong."""
        from atlab import training
        from atlab.data import Batches

        split = self.split(fs)
        classes = sorted(set(fs.labels(self.target, split.train)))
        codes = fs.codes(self.target, classes)

        def part(rows, shuffle: bool = False) -> Batches:
            if shuffle and len(rows) % self.batch_size == 1:  # batch norm cannot learn from a batch of one
                rows = rows[:-1]
            options = {"batch_size": self.batch_size, "shuffle": shuffle, "seed": self.seed, "device": device}
            return Batches(fs, rows, codes, **options)

        learned, validation, test = part(split.train, True), part(split.validation), part(split.test)

        def errors(model, progress: bool) -> tuple[float, float]:
            found = (training.evaluate(model, batches, progress=progress) for batches in (validation, test))
            validation_error, test_error = (1 - each.accuracy for each in found)
            return validation_error, test_error

        counts = {f"{name}_clips": len(getattr(split, name)) for name in ("train", "validation", "test")}
        return Prepared([str(c) for c in classes], learned, validation, channel_statistics(learned), errors, counts)

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


def from_parameters(parameters: Mapping) -> ImageSettings:
    """The settings among a notebook's parameters; others (device, run_dir) are left aside."""
    known = {field.name for field in fields(ImageSettings)}
    return ImageSettings(**{name: value for name, value in parameters.items() if name in known})


def required_by(of: Mapping | ImageSettings) -> list[ImageSettings]:
    """What has to be trained before a notebook run with these parameters, or before another such requirement."""
    return (of if isinstance(of, ImageSettings) else from_parameters(of)).required()


def train_required(need: ImageSettings, root: str | Path, study: str) -> None:
    """Train one of `required_by` into root/networks/, or find it done; waits while another process trains it."""
    train(need, root, NETWORKS, progress=False)
