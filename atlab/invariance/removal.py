"""Removal as a yardstick: what is left of the target if a factor's linear information is taken out of a layer.

LEACE (Belrose et al. 2023) is the smallest affine change of features after which no linear probe of a factor does better
than one that sees nothing. A network that loses accuracy by it was not free of the factor there, or needs what goes with it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from atlab.errors import AtlabError, unknown
from atlab.invariance.features import pooled
from atlab.stats import clip_bootstrap
from atlab.system import devices
from atlab.taps import Taps, find_layer, run_up_to
from atlab.training.evaluation import outputs

RULES = ("pooled", "position")


@dataclass(frozen=True)
class Eraser:
    """An affine map of a layer's features that takes a factor out: v -> v - (v - centre) @ change.

    rule "pooled": v is the clip's vector by `pool`; each channel of the map is then shifted (and, with "mean_std", stretched)
    to its new mean (and standard deviation, at least 0). rule "position": v is the channel vector of every position, and
    the same map serves all of them.
    """

    layer: str
    rule: str
    pool: str
    centre: Tensor
    change: Tensor

    def vectors(self, v: Tensor) -> Tensor:
        """Vectors [..., D] without the factor."""
        centre, change = (part.to(v.device, v.dtype) for part in (self.centre, self.change))
        return v - (v - centre) @ change

    def maps(self, maps: Tensor) -> Tensor:
        """Feature maps [B, C, ...] without the factor; features without positions [B, C] as vectors."""
        x = maps.float()
        if x.ndim == 2:
            return self.vectors(x).to(maps.dtype)
        if self.rule == "position":
            return self.vectors(x.movedim(1, -1)).movedim(-1, 1).to(maps.dtype)
        before = pooled(x, self.pool)
        after, shape = self.vectors(before), (*x.shape[:2], *[1] * (x.ndim - 2))
        if self.pool == "mean":
            return (x + (after - before).reshape(shape)).to(maps.dtype)
        (mean, std), (new_mean, new_std) = before.chunk(2, 1), after.chunk(2, 1)
        stretch = torch.where(std > 0, new_std.clamp_min(0) / std.clamp_min(1e-12), 1)
        return ((x - mean.reshape(shape)) * stretch.reshape(shape) + new_mean.reshape(shape)).to(maps.dtype)


def leace(x: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Centre [D] and change [D, D] of LEACE fitted on vectors [N, D] with class numbers [N], in float64.

    After it the covariance of features and classes on these vectors is zero, whatever their number; no covariance is
    shrunk for it.

    >>> x, y = torch.randn(200, 5), torch.arange(200) % 3
    >>> x[:, 0] += y
    >>> centre, change = leace(x, y)
    >>> erased = x.double() - (x.double() - centre) @ change
    >>> means = torch.stack([erased[y == k].mean(0) for k in range(3)])
    >>> bool(means.std(0).max() < 1e-8)
    True
    """
    moments = _Moments(x.shape[1])
    moments.add(x, codes)
    return moments.solve()


class _Moments:
    """Means and covariances of features and classes, summed up batch by batch in float64 for the package's closed form."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self.x, self.xx = torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)
        self.z, self.xz = torch.zeros(0, dtype=torch.float64), torch.zeros(size, 0, dtype=torch.float64)

    def add(self, x: Tensor, codes: Tensor) -> None:
        """Vectors [n, D], or those of all positions [n, N, D], of clips of these classes [n]."""
        x, codes = x.double().cpu(), codes.cpu()
        x = x[:, None] if x.ndim == 2 else x
        new = int(codes.max()) + 1 - len(self.z)  # classes not met before
        if new > 0:
            self.z, self.xz = (
                torch.cat([part, part.new_zeros(*part.shape[:-1], new)], -1) for part in (self.z, self.xz)
            )
        flat = x.flatten(0, 1)
        self.count += len(flat)
        self.x += flat.sum(0)
        self.xx += flat.T @ flat
        self.z += torch.bincount(codes, minlength=len(self.z)) * x.shape[1]
        self.xz.index_add_(1, codes, x.sum(1).T)

    def solve(self) -> tuple[Tensor, Tensor]:
        with warnings.catch_warnings():  # the package compiles a function on import in a way that torch deprecates
            warnings.simplefilter("ignore", DeprecationWarning)
            from concept_erasure import LeaceFitter

        n = self.count
        fitter = LeaceFitter(
            len(self.x), len(self.z), dtype=torch.float64, shrinkage=False, constrain_cov_trace=False, svd_tol=1e-7
        )
        fitter.n, fitter.mean_x, fitter.mean_z = torch.tensor(n), self.x / n, self.z / n
        fitter.sigma_xx_ = self.xx - torch.outer(self.x, self.x) / n
        fitter.sigma_xz_ = self.xz - torch.outer(self.x, self.z) / n
        eraser = fitter.eraser
        return fitter.mean_x, (eraser.proj_left @ eraser.proj_right).T.contiguous()


@torch.no_grad()
def erase(
    model: nn.Module,
    batches,
    layers: str | Sequence[str],
    rule: str = "pooled",
    pool: str = "mean_std",
    *,
    precision: str = "auto",
    progress: bool = True,
) -> dict[str, Eraser]:
    """Fit LEACE at each layer, in one pass over clips whose class numbers (`batch.y`) are the factor's: {layer: Eraser}.

    The clips should not be those it is judged on, and the factor should vary independently of the target on them: what the
    two share is taken out with it.

    Raises:
        AtlabError: an unknown layer or rule; clips of one class.

    >>> import atlab
    >>> clips = atlab.data.InMemory(torch.randn(12, 1, 32, 32), torch.arange(12) % 2, batch_size=4)
    >>> erase(atlab.models.vgg16(3, width=1 / 16), clips, "conv5")["conv5"].change.shape
    torch.Size([32, 32])
    """
    if rule not in RULES:
        raise unknown("erasing rule", rule, RULES)
    layers = [layers] if isinstance(layers, str) else list(layers)
    # What is erased has to be what was fitted: the arithmetic is that of `features.extract`.
    mode = devices.precision(precision, next(model.parameters()).device)
    moments: dict[str, _Moments] = {}
    with Taps(model, layers) as taps:
        options = {"run": lambda x: run_up_to(model, taps, x), "title": "erasing", "progress": progress}
        for batch, found in outputs(model, batches, mode, **options):
            for layer, maps in found.items():
                vectors = pooled(maps, pool) if rule == "pooled" or maps.ndim == 2 else maps.flatten(2).mT
                moments.setdefault(layer, _Moments(vectors.shape[-1])).add(vectors, batch.y)
    if (next(iter(moments.values())).z > 0).sum() < 2:
        raise AtlabError("the clips that an eraser is fitted on are of one class: there is nothing to erase")
    return {layer: Eraser(layer, rule, pool, *found.solve()) for layer, found in moments.items()}


@contextmanager
def erased(model: nn.Module, eraser: Eraser) -> Iterator[nn.Module]:
    """The network with the factor taken out of one layer on the way, as long as the context lasts.

    >>> import atlab
    >>> clips = atlab.data.InMemory(torch.randn(12, 1, 32, 32), torch.arange(12) % 2, batch_size=4)
    >>> net = atlab.models.vgg16(3, width=1 / 16)
    >>> with erased(net, erase(net, clips, "conv5")["conv5"]):
    ...     net(clips.x).shape
    torch.Size([12, 3])
    """
    handle = find_layer(model, eraser.layer).register_forward_hook(lambda module, inputs, output: eraser.maps(output))
    try:
        yield model
    finally:
        handle.remove()


def removal(
    model: nn.Module,
    fit: object,
    test: object,
    layers: str | Sequence[str],
    rule: str = "pooled",
    pool: str = "mean_std",
    *,
    progress: bool = True,
) -> pd.DataFrame:
    """Accuracy of the network before and after a factor's linear information is erased at each layer: a row per layer.

    Direction: a greater loss means that the network was further from being free of the factor there. Columns accuracy, erased
    (accuracy after), difference with low and high (95 % bootstrap interval over the test clips), n.

    Args:
        fit: clips with the factor's class numbers, to fit the eraser on. test: others, with the target's.
    """
    from atlab.training.evaluation import evaluate

    before = evaluate(model, test, progress=progress)
    right, rows = before.predictions == before.codes, []
    for layer, eraser in erase(model, fit, layers, rule, pool, progress=progress).items():
        with erased(model, eraser):
            after = evaluate(model, test, progress=progress)
        kept = after.predictions == after.codes
        change = clip_bootstrap(kept, right)
        rows.append(
            {
                "layer": layer,
                "rule": rule,
                "accuracy": float(np.mean(right)),
                "erased": float(np.mean(kept)),
                "difference": change.mean,
                "low": change.low,
                "high": change.high,
                "n": change.n,
            }
        )
    return pd.DataFrame(rows)
