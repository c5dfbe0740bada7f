"""A teacher whose features are seen without what they share with the target: their mean over each target class."""

from __future__ import annotations

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

    @torch.no_grad()
    def __init__(self, teacher: Teacher, batches: Clips, codes: Tensor) -> None:
        vars(self).update(vars(teacher))
        self.codes = torch.as_tensor(codes).cpu()
        classes = int(self.codes.max()) + 1
        self._sums: dict[str, Tensor] = {}
        counts = torch.zeros(classes + 1, dtype=torch.float64)  # the last one: all clips
        for x, y, _ in batches.epoch(0):
            rows = y.cpu()
            counts += torch.cat([torch.bincount(rows, minlength=classes), torch.tensor([len(rows)])])
            for layer, maps in self(x).items():
                maps = maps.float()
                sums = self._sums.setdefault(layer, maps.new_zeros(classes + 1, *maps.shape[1:]))
                sums.index_add_(0, y.to(maps.device), maps)
                sums[-1] += maps.sum(0)
        empty = counts == 0
        self._means = {}
        for layer, sums in self._sums.items():
            means = sums / counts.clamp_min(1).to(sums).reshape(-1, *[1] * (sums.ndim - 1))
            means[empty.to(means.device)] = means[-1].clone()
            self._means[layer] = means
        del self._sums

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
