"""A teacher whose features are seen without what they share with the target: their mean over each target class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from atlab.errors import AtlabError
from atlab.teachers.cached import Clips
from atlab.teachers.live import Teacher


class ResidualTeacher(Teacher):
    """A `Teacher` whose features of a clip are taken minus their mean over the clip's target class.

    Where target and orthogonal factor coincide in the training data, the orthogonal network's features carry the target
    too, and a penalty on similarity to them punishes what the student has to learn. What is left after the class mean is
    the variation inside a class, which the target cannot explain.

    Args:
        teacher: the live teacher.
        batches: the training clips (x, y target class [B], index row number [B]), run once for the means.
        codes: target class number of every clip of the data set [N]; clips of a class without training clips (-1)
            keep the mean over all.

    >>> import atlab
    >>> teacher = Teacher(atlab.models.vgg16(num_classes=4, width=1 / 16), layers="conv5")
    >>> clips = atlab.data.InMemory(torch.randn(6, 1, 32, 32), torch.tensor([0, 1, 0, 1, 0, 1]))
    >>> residual = ResidualTeacher(teacher, clips, torch.tensor([0, 1, 0, 1, 0, 1]))
    >>> x, y, index = next(iter(clips.epoch(0)))
    >>> bool((residual.targets(x, index=index)["conv5"][y == 0].mean(0).abs() < 1e-6).all())
    True
    """

    def __init__(self, teacher: Teacher, batches: Clips, codes: Tensor) -> None:
        vars(self).update(vars(teacher))
        self.codes = torch.as_tensor(codes).cpu()
        self._means = class_means(teacher, [batches], self.codes)

    def targets(
        self, *inputs: object, index: Tensor | None = None, channels_last: bool = False, **keywords: object
    ) -> dict[str, Tensor]:
        """Feature maps minus their class means at each layer; `index` [B] names the clips' rows."""
        if index is None:
            raise AtlabError("a residual teacher needs the clips' row numbers: call at(x, index=batch.index)")
        codes = self.codes[torch.as_tensor(index).cpu()]
        return {
            layer: maps - self._means[layer].to(maps)[codes.to(maps.device)]
            for layer, maps in self(*inputs, channels_last=channels_last, **keywords).items()
        }

    @property
    def identity(self) -> str:
        """Hash of the weights, the layers, and a fingerprint of the class means."""
        marks = ",".join(f"{float(means.double().sum()):.6e}" for means in self._means.values())
        return f"residual {super().identity} {marks}"


@torch.no_grad()
def class_means(teacher: Teacher, parts: Sequence[Clips], codes: Tensor) -> dict[str, Tensor]:
    """Mean feature maps over the clips of each class [K + 1, C, ...], float32: {layer: means}; the last is that over all clips.

    A class without clips has the mean over all. `codes` [N] are the class numbers of the data set's clips, -1 where unknown.
    """
    classes = int(codes.max()) + 1
    counts = torch.zeros(classes + 1, dtype=torch.float64)
    sums: dict[str, Tensor] = {}
    for x, _, index in (batch for part in parts for batch in part.epoch(0)):
        rows = codes[torch.as_tensor(index).cpu()]
        known = rows >= 0
        counts += torch.cat([torch.bincount(rows[known], minlength=classes), torch.tensor([len(rows)])])
        for layer, maps in teacher(x).items():
            maps = maps.float()
            total = sums.setdefault(layer, maps.new_zeros(classes + 1, *maps.shape[1:]))
            total.index_add_(0, rows[known].to(maps.device), maps[known.to(maps.device)])
            total[-1] += maps.sum(0)
    found = {}
    for layer, total in sums.items():
        means = total / counts.clamp_min(1).to(total).reshape(-1, *[1] * (total.ndim - 1))
        means[(counts == 0).to(means.device)] = means[-1].clone()
        found[layer] = means
    return found
