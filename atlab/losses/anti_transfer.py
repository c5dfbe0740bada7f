"""The anti-transfer loss as a training loop uses it (Guizzo, Weyde & Tarroni 2021, eq. 2 and 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from atlab.errors import AtlabError, unknown
from atlab.functional.aggregations import AGGREGATIONS
from atlab.functional.anti_transfer import Aggregation, SimilarityName, anti_transfer_loss, resolve, target_loss
from atlab.functional.descriptors import Descriptor, flat
from atlab.functional.similarities import SIMILARITIES
from atlab.losses.term import ramp
from atlab.taps import Taps, unwrap
from atlab.teachers.cached import CachedTeacher
from atlab.teachers.live import Teacher
from atlab.teachers.stored import AnyTeacher, StoredTeacher


class AntiTransferLoss(nn.Module):
    """beta x similarity of student and teacher feature maps, summed over layers and teachers.

    The student's activations are read from the forward pass that you run anyway; the teacher runs up to its
    last layer, or not at all if its targets are cached. It is a module without parameters or submodules (its `state_dict()` is
    empty): student and teacher stay yours. A copy or pickle of it holds a copy of both.

    Args:
        student: the network in training, of any class, wrapped or not.
        teacher: one `Teacher`, `CachedTeacher` or `StoredTeacher`, or several; each brings its layers, which the student must
            have under the same names or under those of `layer_map`.
        aggregation: a name in `functional.AGGREGATIONS` or a callable [B, C, H, W] -> [B, n] or [B, n, n].
        similarity: a name in `functional.SIMILARITIES` or a callable of two such -> [B].
        beta: weight of the loss, or one per teacher; negative rewards similarity (inverse AT).
        published: the authors' code instead of the paper's formula, see `functional.anti_transfer_loss`.
        warm_up: epochs over which beta grows from 0; call `set_epoch` at the start of each (`training.fit` does).
        reduction: "mean" -> a scalar, or "none" -> one value per clip [B].
        layer_map: {teacher layer: student layer} where the names differ.
        channel_dim, batch_dim: axes of the student's layer outputs, recognised if None (see `Taps`).

    Attributes:
        values: similarity at each entry of `compared` in the last call, before beta and warm-up, detached.

    Raises:
        AtlabError: unknown layer, aggregation or similarity; at the call: no forward pass of the student since
            the last call or one on another input, a layer without gradient, feature maps that cannot be compared (naming the
            layer and both shapes), warm_up without `set_epoch`.

    >>> import atlab, torch.nn.functional as F
    >>> student = atlab.models.vgg16(num_classes=10, width=1 / 8)
    >>> teacher = atlab.Teacher(atlab.models.vgg16(num_classes=24, width=1 / 8), layers="conv5")
    >>> at = AntiTransferLoss(student, teacher, beta=1.0)
    >>> x, y = torch.randn(4, 1, 126, 129), torch.tensor([0, 1, 2, 3])
    >>> loss = F.cross_entropy(student(x), y) + at(x)
    >>> loss.shape, list(at.values)
    (torch.Size([]), ['conv5'])
    >>> at
    AntiTransferLoss(gram, squared_cosine, beta=1.0: VGG16 conv5 against VGG16 conv5)
    """

    name = "at"

    def __init__(
        self,
        student: nn.Module,
        teacher: AnyTeacher | Sequence[AnyTeacher],
        aggregation: Aggregation = "gram",
        similarity: SimilarityName = "squared_cosine",
        beta: float | Sequence[float] = 1.0,
        published: bool = False,
        warm_up: int = 0,
        *,
        reduction: str = "mean",
        layer_map: Mapping[str, str] | None = None,
        channel_dim: int | None = None,
        batch_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.teachers: list[AnyTeacher] = [*teacher] if isinstance(teacher, Sequence) else [teacher]
        if not all(isinstance(t, AnyTeacher) for t in self.teachers):
            found = ", ".join(type(t).__name__ for t in self.teachers)
            raise AtlabError(
                f"teacher must be atlab.Teacher(model, layers) or CachedTeacher, or several; found {found}"
            )
        self.betas = _betas(beta, len(self.teachers))
        if len(self.betas) != len(self.teachers) or not self.teachers:
            raise AtlabError(
                f"{len(self.betas)} values of beta for {len(self.teachers)} teachers; give one, or one per teacher"
            )
        self.aggregation, self.similarity, self.published = aggregation, similarity, published
        if warm_up < 0:
            raise AtlabError(f"warm_up must be at least 0 epochs, got {warm_up}")
        self.warm_up, self.reduction = warm_up, reduction
        self.epoch: int | None = None
        self._check()
        layers = list(dict.fromkeys(layer for t in self.teachers for layer in t.layers))
        for layer in layer_map or {}:
            if layer not in layers:
                raise unknown("teacher layer in layer_map", layer, layers)
        self.layer_map = {layer: (layer_map or {}).get(layer, layer) for layer in layers}
        for other in self.teachers:
            _check_axes(student, other, channel_dim, batch_dim)
        self._taps = Taps(student, self.layer_map.values(), " of the student", channel_dim, batch_dim)
        self.values: dict[str, Tensor] = {}

    def _check(self) -> None:
        """AtlabError for names and combinations that no batch could be compared with."""
        aggregation, similarity = self.aggregation, self.similarity
        resolve("aggregation", aggregation, AGGREGATIONS)
        resolve("similarity", similarity, SIMILARITIES)
        if self.published and (aggregation != "gram" or similarity not in ("squared_cosine", "sigmoid_mse")):
            raise AtlabError(
                "published=True reproduces the authors' loss: aggregation 'gram' with similarity 'squared_cosine' or "
                f"'sigmoid_mse'; found {aggregation!r} with {similarity!r}"
            )
        if self.reduction not in ("mean", "none"):
            raise unknown("reduction", self.reduction, ["mean", "none"])
        if self.reduction == "none" and (self.published or aggregation == "clip_kernel"):
            raise AtlabError("clip_kernel and published=True have one value per batch: use reduction='mean'")
        for stored in self.teachers:
            if isinstance(stored, CachedTeacher | StoredTeacher):
                stored.check_use(aggregation, self.published or callable(similarity))

    @property
    def compared(self) -> list[str]:
        """What `values` names: the teacher's layers, as "teacher1.conv5" (counted from 0) if there are several teachers."""
        return [self._key(k, layer) for k, teacher in enumerate(self.teachers) for layer in teacher.layers]

    def _key(self, teacher: int, layer: str) -> str:
        return layer if len(self.teachers) == 1 else f"teacher{teacher}.{layer}"

    def set_epoch(self, epoch: int) -> None:
        """The number of the present epoch, from 0, for `warm_up`."""
        self.epoch = epoch

    def forward(self, *inputs: object, index: Tensor | None = None, **keywords: object) -> Tensor:
        """The weighted loss, a scalar (or [B]), for the batch that the student has just seen.

        Args:
            inputs, keywords: what the teacher is given: the student's input x [B, ...] first, and whatever else both take
                (such as attention_mask).
            index: row numbers of the clips in their data set [B], needed by cached teachers only.
        """
        share = ramp(self.epoch, self.warm_up)
        features, values = self._taps.take((inputs, keywords)), {}
        total = next(iter(features.values())).new_zeros((), dtype=torch.float32)
        for k, (teacher, beta) in enumerate(zip(self.teachers, self.betas, strict=True)):
            targets = teacher.targets(*inputs, index=index, channels_last=_is_channels_last(features), **keywords)
            for layer in teacher.layers:
                try:
                    value = self._compare(features[self.layer_map[layer]], targets[layer], teacher)
                except AtlabError as error:
                    pair = (
                        ""
                        if self.layer_map[layer] == layer
                        else f" of the teacher, {self.layer_map[layer]!r} of the student"
                    )
                    raise AtlabError(f"layer {layer!r}{pair}: {error}") from None
                values[self._key(k, layer)] = value.detach()
                total = total + beta * value
        self.values = values
        return total * share

    def _compare(self, student: Tensor, target: Tensor | Descriptor, teacher: AnyTeacher) -> Tensor:
        form = (self.aggregation, self.similarity)
        if isinstance(teacher, StoredTeacher) and teacher.without_positions:
            student = flat(student).mean(2)
        if isinstance(teacher, CachedTeacher) or not isinstance(target, Tensor):
            return target_loss(student, target, *form, reduction=self.reduction)
        return anti_transfer_loss(student, target, *form, published=self.published, reduction=self.reduction)

    def extra_repr(self) -> str:
        """What is compared with what."""
        form = [getattr(part, "__name__", str(part)) for part in (self.aggregation, self.similarity)]
        student = type(self._taps.model).__name__
        pairs = [
            f"beta={beta}: {student} {self.layer_map[layer]} against {teacher.describe(layer)}"
            for teacher, beta in zip(self.teachers, self.betas, strict=True)
            for layer in teacher.layers
        ]
        return ", ".join([*form, *(["published"] if self.published else []), *pairs])

    @property
    def identity(self) -> str:
        """What the loss depends on besides the student, for a checkpoint to tell two trainings apart."""
        parts = [
            *(getattr(part, "__qualname__", part) for part in (self.aggregation, self.similarity)),
            self.published,
            *zip([t.identity for t in self.teachers], self.betas, strict=True),
            *([f"warm up {self.warm_up}"] if self.warm_up else []),
            *(f"{layer}: {own}" for layer, own in self.layer_map.items() if own != layer),
            *([f"reduction {self.reduction}"] if self.reduction != "mean" else []),
            *(
                f"{name} {dim}"
                for name, dim in (("channel_dim", self._taps.channel_dim), ("batch_dim", self._taps.batch_dim))
                if dim is not None
            ),
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


def _check_axes(student: nn.Module, teacher: AnyTeacher, channel_dim: int | None, batch_dim: int | None) -> None:
    """AtlabError where an axis is named for one of two networks of the same class only."""
    if not isinstance(teacher, Teacher) or type(teacher.model) is not type(unwrap(student)):
        return
    for name, own, other in (
        ("channel_dim", channel_dim, teacher.channel_dim),
        ("batch_dim", batch_dim, teacher.batch_dim),
    ):
        if (own is None) != (other is None):
            where, missing = ("teacher", "atlab.Teacher") if other is None else ("student", "atlab.AntiTransferLoss")
            raise AtlabError(
                f"{name}={other if own is None else own} is not given for the {where}, a {type(teacher.model).__name__} as well: give it to {missing}, too"
            )


def _betas(beta: Any, teachers: int) -> list[float]:
    """One finite weight per teacher; numbers of NumPy and tensors of one element count as numbers."""
    given = beta if isinstance(beta, list | tuple) else [beta] * teachers
    try:
        betas = [float(value) for value in given if not isinstance(value, str)]
    except (TypeError, ValueError):
        betas = []
    if len(betas) != len(given) or not all(map(math.isfinite, betas)):
        raise AtlabError(f"beta must be a finite number, or one per teacher; found {beta!r}")
    return betas


def _is_channels_last(features: dict[str, Tensor]) -> bool:
    """Whether the student computes in channels_last, so that the teacher does too and no layout is converted."""
    return any(
        f.ndim == 4 and f.is_contiguous(memory_format=torch.channels_last) and not f.is_contiguous()
        for f in features.values()
    )
