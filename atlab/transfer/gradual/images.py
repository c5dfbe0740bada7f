"""Images: gradual transfer of DenseNet-40 between data sets, block by block (Fayek et al. 2018, figure 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from atlab.data.orthogonal import OrthogonalTask, check_forms
from atlab.data.splits import SplitSpec, cut
from atlab.errors import AtlabError, unknown
from atlab.experiment.settings import settings_from
from atlab.experiment.skeleton import Job, required_of, train, train_required
from atlab.transfer.gradual.train import BASES, GradualSettings, Prepared, new_network

__all__ = ["ImageSettings", "from_parameters", "required_by", "train", "train_required"]

# Where pixels (0 to 1 here) are only divided, by 256: their standard deviation, by the name in the data set's card (Fayek et al.
# 2018, section 3).
DIVIDED = {"svhn": 256 / 255}


@dataclass(frozen=True)
class ImageSettings(GradualSettings):
    """Everything that decides the numbers of a run; the seed draws the held-out validation images, too.

    Attributes:
        data, target: the data set and the factor that are learned.
        source: what the copied network has learned: a factor of the same data set (`background`) or of another
            (`class@data/svhn`), or a model file of a DenseNet-40 (`file:PATH`).
        source_epochs: epochs of that network; `epochs` if 0.
    """

    data: str = "synthetic_digits"
    width: float = 0.25
    target: str = "digit"
    source: str = "background"
    source_epochs: int = 0

    def task(self) -> OrthogonalTask:
        """What the copied network has learned."""
        return OrthogonalTask.parse(self.source)

    @property
    def orthogonal(self) -> tuple[str, ...]:
        """The source, as a part of the identity of a run's data."""
        return (self.source,) if self.source else ()

    def primaries(self) -> list[GradualSettings]:
        """The source's network, if it is not a file, and the target's own: each equal for all transfers that can share it."""
        alone = replace(self, source="", source_epochs=0, base="trained", output_epochs=1, role="primary")
        factor, data, file = self.task()
        copied = replace(alone, data=data or self.data, target=factor, epochs=self.source_epochs or self.epochs)
        return [alone] if file else [copied, alone]

    def model_path(self) -> Path | None:
        """The model file that is copied, if the source is one."""
        return self.task().model_path() if self.task().file else None

    def levels(self) -> dict[str, int]:
        """Name -> number of held blocks, those of the paper's supplement."""
        from atlab.transfer.gradual.method import BLOCKS

        return dict(BLOCKS)

    def check(self) -> None:
        """AtlabError for a value that is not allowed."""
        super().check()
        if self.base not in BASES:
            raise unknown("base", self.base, BASES)
        if self.role == "transfer":
            factor, data, _ = self.task()
            if (data or self.data, factor) == (self.data, self.target):
                raise AtlabError(f"source and target are the same: {self.target!r} of {self.data!r}")

    def data_set(self):
        """The data set; AtlabError if it holds no images."""
        from atlab.data.catalog import load_data

        fs = load_data(self.data)
        if fs.kind != "image":
            raise AtlabError(f"{self.data} holds {fs.kind}; DenseNet-40 takes images")
        return fs

    def make_split(self, fs):
        """Official parts; random parts where there are none.

        AtlabError where the source's images have another shape.
        """
        check_forms(self.orthogonal, fs)
        split = SplitSpec("official" if "official" in fs.factors else "random", seed=self.seed).make(fs, self.target)
        split = cut(split, self.clips, self.seed) if self.clips else split
        split.check(fs, self.target)
        return split

    def prepare(self, job: Job) -> Prepared:
        """Images with each channel normalised by the training part's (SVHN divided by 256); the error is the share that is wrong."""
        from atlab import training

        task = job.task(self.target, self.batch_size, self.seed, least=2)

        def errors(model, progress: bool) -> tuple[float, float]:
            parts = (task.parts[name] for name in ("validation", "test"))
            validation, test = (1 - training.evaluate(model, part, progress=progress).accuracy for part in parts)
            return validation, test

        counts = {f"{name}_clips": part.clips for name, part in task.parts.items()}
        divided = DIVIDED.get(job.fs.card["name"])
        statistics = (0.0, divided) if divided else channel_statistics(task.learned)
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


def from_parameters(parameters: Mapping) -> ImageSettings:
    """The settings among a notebook's parameters; others (device, run_dir) are ignored."""
    return settings_from(ImageSettings, parameters)


def required_by(of: Mapping | ImageSettings) -> list[GradualSettings]:
    """What has to be trained before a notebook run with these parameters (which are checked), or before another requirement."""
    return required_of(ImageSettings, of)
