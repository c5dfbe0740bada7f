"""Domain-adversarial training by gradient reversal (Ganin et al. 2016), the rival of anti-transfer."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from atlab.errors import AtlabError
from atlab.losses.term import ramp
from atlab.taps import Taps, unwrap

HIDDEN = 64


class GradientReversal:
    """A classifier of the orthogonal factor on the student's features, whose gradient the student gets reversed.

    The classifier (mean over positions, one hidden layer of 64) learns to tell the orthogonal classes apart; the
    student's layers below are pushed the other way by `beta` times that gradient. It needs orthogonal *labels* of the
    training clips, and no network of the orthogonal task. The classifier is `module`, which `training.fit` trains too.

    Args:
        student: the network in training.
        layer: where the classifier reads (see `Taps`).
        codes: orthogonal class number of every clip of the data set [N], -1 where it is unknown: such clips do
            not count.
        beta: strength of the reversed gradient.
        warm_up: epochs over which it grows from 0.

    Raises AtlabError for an unknown layer, and codes of fewer than two classes.

    >>> import atlab
    >>> student = atlab.models.vgg16(num_classes=10, width=1 / 8)
    >>> term = GradientReversal(student, "conv5", torch.tensor([0, 1, 0, 1]))
    >>> x = torch.randn(2, 1, 32, 32)
    >>> logits = student(x)
    >>> term(x, index=torch.tensor([0, 3])).shape
    torch.Size([])
    """

    name = "adversary"

    def __init__(self, student: nn.Module, layer: str, codes: Tensor, beta: float = 1.0, warm_up: int = 0) -> None:
        classes = int(codes.max()) + 1
        if classes < 2:
            raise AtlabError("gradient reversal needs at least two orthogonal classes among the training clips")
        self.codes, self.beta, self.warm_up, self.layer = codes, beta, warm_up, layer
        self.epoch: int | None = None
        self._taps = Taps(student, layer, of=" of the student")
        head = nn.Sequential(
            nn.Linear(_channels(unwrap(student), layer), HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes)
        )
        self.module = head.to(next(student.parameters()).device)

    def __call__(self, x: Tensor, index: Tensor | None = None) -> Tensor:
        """Cross-entropy of the adversary (nats) on the batch the student has just seen, whose rows are `index` [B]."""
        features = self._taps.take(x)[self.layer]
        if index is None:
            raise AtlabError("gradient reversal needs the clips' row numbers: call it as term(x, index=batch.index)")
        codes = self.codes[torch.as_tensor(index).cpu()].to(features.device)
        with torch.autocast(features.device.type, enabled=False):
            pooled = features.float().flatten(2).mean(2)
            reversed_ = _Reverse.apply(pooled, self.beta * ramp(self.epoch, self.warm_up))
            losses = nnf.cross_entropy(self.module(reversed_), codes, ignore_index=-1, reduction="sum")
        return losses / (codes >= 0).sum().clamp_min(1)

    def set_epoch(self, epoch: int) -> None:
        """The number of the present epoch, from 0, for `warm_up`."""
        self.epoch = epoch

    @property
    def identity(self) -> str:
        """What a checkpoint tells two trainings apart by."""
        return f"{self.layer} {self.beta} {self.warm_up} {hash(tuple(self.codes.tolist()))}"

    def close(self) -> None:
        """Remove the hook."""
        self._taps.close()


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


def _channels(student: nn.Module, layer: str) -> int:
    """Channels of a layer: those of the last convolution or normalisation up to its end."""
    path = getattr(student, "tap_points", {}).get(layer, layer)
    channels, inside = None, False
    for name, module in student.named_modules():
        if inside and not name.startswith(f"{path}."):
            break
        inside = inside or name == path
        channels = getattr(module, "out_channels", getattr(module, "num_features", channels))
    if channels is None:
        raise AtlabError(f"layer {layer!r}: no convolution up to it tells how many channels it has")
    return channels
