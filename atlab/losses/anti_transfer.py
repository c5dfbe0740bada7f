"""The anti-transfer loss as a training loop uses it (Guizzo, Weyde & Tarroni 2021, eq. 2 and 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from atlab.errors import AtlabError
from atlab.functional.aggregations import AGGREGATIONS
from atlab.functional.anti_transfer import Aggregation, SimilarityName, anti_transfer_loss, resolve, target_loss
from atlab.functional.descriptors import Descriptor
from atlab.functional.similarities import SIMILARITIES
from atlab.losses.term import ramp
from atlab.taps import Taps
from atlab.teachers.cached import CachedTeacher
from atlab.teachers.live import Teacher


class AntiTransferLoss:
    """beta x similarity of student and teacher feature maps, summed over layers and teachers.

    The student's activations are read from the forward pass that you run anyway; the teacher runs up to its
    last layer, or not at all if its targets are cached. The object holds no parameters of its own.

    Args:
        student: the network in training, of any class, wrapped or not.
        teacher: one `Teacher` or `CachedTeacher`, or several; each brings its layers, which the student must
            have under the same names.
        aggregation: a name in `functional.AGGREGATIONS` or a callable [B, C, H, W] -> [B, n] or [B, n, n].
        similarity: a name in `functional.SIMILARITIES` or a callable of two such -> [B].
        beta: weight of the loss, or one a teacher; negative rewards similarity (inverse AT).
        published: the authors' code instead of the paper's formula, see `functional.anti_transfer_loss`.
        warm_up: epochs over which beta grows from 0 (`training.fit` tells the loss which epoch it is).

    Raises:
        AtlabError: unknown layer, aggregation or similarity; at the call: no forward pass of the student since
            the last call, feature maps that cannot be compared (naming the layer and both shapes).

    >>> import atlab, torch.nn.functional as F
    >>> student = atlab.models.vgg16(num_classes=10, width=1 / 8)
    >>> teacher = Teacher(atlab.models.vgg16(num_classes=24, width=1 / 8), layers="conv5")
    >>> at = AntiTransferLoss(student, teacher, beta=1.0)
    >>> x, y = torch.randn(4, 1, 126, 129), torch.tensor([0, 1, 2, 3])
    >>> loss = F.cross_entropy(student(x), y) + at(x)
    >>> loss.shape
    torch.Size([])
    """

    name = "at"

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | CachedTeacher | Sequence[Teacher | CachedTeacher],
        aggregation: Aggregation = "gram",
        similarity: SimilarityName = "squared_cosine",
        beta: float | Sequence[float] = 1.0,
        published: bool = False,
        warm_up: int = 0,
    ) -> None:
        self.teachers = list(teacher) if isinstance(teacher, list | tuple) else [teacher]
        if not all(isinstance(t, Teacher | CachedTeacher) for t in self.teachers):
            found = ", ".join(type(t).__name__ for t in self.teachers)
            raise AtlabError(
                f"teacher must be atlab.Teacher(model, layers) or CachedTeacher, or several; found {found}"
            )
        self.betas = _betas(beta, len(self.teachers))
        if len(self.betas) != len(self.teachers) or not self.teachers:
            raise AtlabError(
                f"{len(self.betas)} values of beta for {len(self.teachers)} teachers; give one, or one a teacher"
            )
        resolve("aggregation", aggregation, AGGREGATIONS)
        resolve("similarity", similarity, SIMILARITIES)
        if published and (aggregation != "gram" or similarity not in ("squared_cosine", "sigmoid_mse")):
            raise AtlabError(
                "published=True reproduces the authors' loss: aggregation 'gram' with similarity 'squared_cosine' or "
                f"'sigmoid_mse'; found {aggregation!r} with {similarity!r}"
            )
        for cached in self.teachers:
            if isinstance(cached, CachedTeacher):
                cached.check_use(aggregation, published or callable(similarity))
        self.aggregation, self.similarity, self.published = aggregation, similarity, published
        self.warm_up, self.epoch = warm_up, 0
        self._taps = Taps(student, [layer for t in self.teachers for layer in t.layers], of=" of the student")

    def __call__(self, x: Tensor, index: Tensor | None = None) -> Tensor:
        """The weighted loss, a scalar, for the batch x [B, ...] that the student has just seen.

        Args:
            x: the student's input.
            index: row numbers of the clips in their data set [B], needed by cached teachers only.
        """
        features = {layer: self._taps.pop(layer) for layer in self._taps.layers}
        total = next(iter(features.values())).new_zeros((), dtype=torch.float32)
        for teacher, beta in zip(self.teachers, self.betas, strict=True):
            targets = teacher.targets(x, index, channels_last=_is_channels_last(features))
            for layer in teacher.layers:
                try:
                    total = total + beta * self._compare(features[layer], targets[layer], teacher)
                except AtlabError as error:
                    raise AtlabError(f"layer {layer!r}: {error}") from None
        return total * ramp(self.epoch, self.warm_up)

    def _compare(self, student: Tensor, target: Tensor | Descriptor, teacher: Teacher | CachedTeacher) -> Tensor:
        if isinstance(teacher, CachedTeacher):
            return target_loss(student, target, self.aggregation, self.similarity)
        return anti_transfer_loss(student, target, self.aggregation, self.similarity, published=self.published)

    @property
    def identity(self) -> str:
        """What the loss depends on besides the student, for a checkpoint to tell two trainings apart."""
        parts = [
            *(getattr(part, "__qualname__", part) for part in (self.aggregation, self.similarity)),
            self.published,
            *zip([t.identity for t in self.teachers], self.betas, strict=True),
            *([f"warm up {self.warm_up}"] if self.warm_up else []),
        ]
        return " ".join(map(str, parts))

    def close(self) -> None:
        """Remove every hook from the student and the teachers."""
        self._taps.close()
        for teacher in self.teachers:
            teacher.close()

    def __enter__(self) -> AntiTransferLoss:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _betas(beta: object, teachers: int) -> list[float]:
    """One finite weight a teacher; numbers of NumPy and tensors of one element count as numbers."""
    given = beta if isinstance(beta, list | tuple) else [beta] * teachers
    try:
        betas = [float(value) for value in given if not isinstance(value, str)]
    except (TypeError, ValueError):
        betas = []
    if len(betas) != len(given) or not all(map(math.isfinite, betas)):
        raise AtlabError(f"beta must be a finite number, or one a teacher; found {beta!r}")
    return betas


def _is_channels_last(features: dict[str, Tensor]) -> bool:
    """Whether the student computes in channels_last, so that the teacher does too and no layout is converted."""
    return any(
        f.ndim == 4 and f.is_contiguous(memory_format=torch.channels_last) and not f.is_contiguous()
        for f in features.values()
    )
