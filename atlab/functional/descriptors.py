"""Descriptors of feature maps and their inner products: what aggregations return and similarities compare.

A descriptor is a vector [B, n], a kernel [B, n, n], a kernel held as its `Factor` where that costs less, or
channel `Maps` for the aggregations that compare channels pair by pair.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from atlab.errors import AtlabError

TINY = torch.finfo(torch.float32).tiny  # the smallest normal number


class Factor(NamedTuple):
    """The kernel x xᵀ [B, n, n], held as its factor x [B, n, m] because m is much smaller than n."""

    x: Tensor


class Maps(NamedTuple):
    """Channel maps x [B, C, N] to be compared pair by pair: all pairs, or one random partner per channel."""

    x: Tensor
    every_pair: bool


Descriptor = Tensor | Factor | Maps


def flat(features: Tensor, keep_bfloat16: bool = False) -> Tensor:
    """Feature maps [B, C, ...] as [B, C, N] in float32 (float64 stays, bfloat16 if asked for), without a copy where strides allow.

    >>> flat(torch.zeros(13, 64, 126, 129)).shape
    torch.Size([13, 64, 16254])
    """
    if features.ndim < 2:
        raise AtlabError(f"feature maps must be [B, C, ...], found shape {tuple(features.shape)}")
    if not (features.dtype == torch.float64 or (keep_bfloat16 and features.dtype == torch.bfloat16)):
        features = features.float()
    if features.ndim == 4 and features.is_contiguous(memory_format=torch.channels_last):
        return features.permute(0, 2, 3, 1).flatten(1, 2).mT
    return features.flatten(2) if features.ndim > 2 else features.unsqueeze(2)


class _SelfProduct(torch.autograd.Function):
    """x xᵀ with one matrix product in the backward pass; autograd's own rule takes two.

    The product of bfloat16 maps is computed in float32. Their gradient is bfloat16 whatever computes it, so it is computed
    in bfloat16: a fifth of the time, and no map in float32 is kept or converted back.
    """

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _product(x.float() if x.dtype == torch.bfloat16 else x)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        both = (gradient + gradient.mT).to(x.dtype)
        # The gradient is laid out as x is: one of another layout costs the layers below a conversion, of channels_last
        # maps a tenth of the whole step at conv1.
        return (x.mT @ both).mT if x.mT.is_contiguous() else both @ x


def _product(x: Tensor) -> Tensor:
    """x xᵀ; on a CPU, few channels are laid side by side, position by position.

    There a product of 8 columns takes as long as one of 16. That of all the columns of `beside` positions has their own
    products on its diagonal, whose sum is wanted: half the time at conv1 and conv2 of VGG16 at 1/8 width.
    """
    b, n, m = x.shape if x.ndim == 3 else (0, *x.shape)
    beside = 16 // n
    if beside < 2 or m < 16 * beside or x.device.type != "cpu" or not (b and x.mT.is_contiguous()):
        return x @ x.mT
    most = m - m % beside
    rows = x.mT[:, :most].reshape(b, most // beside, beside * n)
    blocks = (rows.mT @ rows).reshape(b, beside, n, beside, n)
    rest = x[:, :, most:]
    return blocks.diagonal(dim1=1, dim2=3).sum(-1) + rest @ rest.mT


def self_product(x: Tensor) -> Tensor:
    """x xᵀ: [B, n, m] -> [B, n, n], in float32 for bfloat16 and under any autocast."""
    with torch.autocast(x.device.type, enabled=False):
        return _SelfProduct.apply(x)


def inner_products(s: Descriptor, t: Descriptor) -> tuple[Tensor, Tensor, Tensor]:
    """<s, t>, <s, s>, <t, t>: [B] for vectors and kernels, [B, C, C] or [B, C] for channel maps."""
    if isinstance(s, Maps) and isinstance(t, Maps):
        if s.every_pair:
            return s.x @ t.x.mT, s.x.square().sum(2)[:, :, None], t.x.square().sum(2)[:, None, :]
        partner = torch.randint(t.x.shape[1], (s.x.shape[1],), device=t.x.device)
        other = t.x[:, partner]
        return (s.x * other).sum(2), s.x.square().sum(2), other.square().sum(2)
    return _inner(s, t), _inner(s, s), _inner(t, t)


def _inner(a: Descriptor, b: Descriptor) -> Tensor:
    if isinstance(a, Factor) and isinstance(b, Factor):
        product = self_product(a.x.mT) if a is b else a.x.mT @ b.x
        return product.square().flatten(1).sum(1)
    if isinstance(a, Tensor) and isinstance(b, Factor):
        a, b = b, a
    if isinstance(a, Factor) and isinstance(b, Tensor):
        return (a.x * (b @ a.x)).flatten(1).sum(1)  # tr(xᵀ K x)
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return (a * b).flatten(1).sum(1)
    raise AtlabError(f"expected two descriptors of one kind, got {type(a).__name__} and {type(b).__name__}")


class SquaredCosine(torch.autograd.Function):
    """cos(s, t)² of each pair of rows, [B, n] and [B, n] -> [B], with its gradient written out.

    On a descriptor of a few thousand entries an operation costs its call, not its work: this way the whole loss takes 28 instead
    of 47 calls. Rows are divided by their largest entry, so that squares neither overflow nor vanish; one that is all zero gives
    0 and a zero gradient. The first value is the result; the others are kept for the gradient.
    """

    @staticmethod
    def forward(s: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        (u, length), (v, other) = _directions(s), _directions(t)
        cosine = torch.linalg.vecdot(u, v).unsqueeze(1)
        return cosine.squeeze(1).square(), u, v, cosine, length, other

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: tuple) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, *output[1:])

    @staticmethod
    def backward(ctx, gradient: Tensor | None, *_: None) -> tuple[Tensor | None, Tensor | None]:
        if gradient is None:
            return None, None
        s, t, u, v, cosine, length, other = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient will be differentiated: it has to depend on s and t
            (u, length), (v, other) = _directions(s), _directions(t)
            cosine = torch.linalg.vecdot(u, v).unsqueeze(1)
        weight = 2 * gradient.unsqueeze(1) * cosine
        own, others = ctx.needs_input_grad
        return (
            torch.addcmul(v, cosine, u, value=-1) * (weight / length) if own else None,
            torch.addcmul(u, cosine, v, value=-1) * (weight / other) if others else None,
        )


def _directions(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [B, n] of length 1, or 0 where all is 0, and their lengths [B, 1] before."""
    largest = torch.linalg.vector_norm(rows.detach(), ord=torch.inf, dim=1, keepdim=True).clamp_min(TINY)
    scaled = rows / largest
    length = torch.linalg.vector_norm(scaled, dim=1, keepdim=True).clamp_min(1)  # the largest entry is 1
    return scaled / length, largest * length


def unit_scale(d: Descriptor) -> Descriptor:
    """Each clip divided by its largest entry, so that squares neither overflow nor vanish.

    The scale is taken as a constant: a scale-invariant function has the same gradient either way.
    """
    return _unit_scale(d) if isinstance(d, Tensor) else d._replace(x=_unit_scale(d.x))


def _unit_scale(x: Tensor) -> Tensor:
    largest = x.detach().abs().flatten(1).amax(1)
    return x / positive(largest).reshape(-1, *[1] * (x.ndim - 1))


def centre(d: Descriptor) -> Descriptor:
    """Kernels centred over their examples on both sides, vectors and maps to zero mean."""
    if isinstance(d, Factor):
        return Factor(d.x - d.x.mean(1, keepdim=True))
    if isinstance(d, Maps):
        return d._replace(x=d.x - d.x.mean(2, keepdim=True))
    if is_kernel(d):
        rows, columns = d.mean(2, keepdim=True), d.mean(1, keepdim=True)
        return d - rows - columns + rows.mean(1, keepdim=True)
    return d - d.mean(1, keepdim=True)


def u_centre(kernel: Tensor) -> Tensor:
    """[n, n] -> the same with zero diagonal and zero row sums (Székely & Rizzo 2014, definition 2)."""
    n = len(kernel)
    kernel = kernel - torch.diag_embed(kernel.diagonal())
    rows = kernel.sum(1)
    centred = kernel - (rows[:, None] + rows[None, :]) / (n - 2) + rows.sum() / ((n - 1) * (n - 2))
    return centred - torch.diag_embed(centred.diagonal())


def is_kernel(d: Descriptor) -> bool:
    """Whether d stands for a kernel [B, n, n]."""
    return isinstance(d, Factor) or (isinstance(d, Tensor) and d.ndim == 3 and d.shape[1] == d.shape[2])


def positive(x: Tensor) -> Tensor:
    """x where positive, else 1: a denominator for a numerator that is 0 there, with finite gradients."""
    return torch.where(x > 0, x, torch.ones_like(x))


def per_clip(values: Tensor) -> Tensor:
    """[B, ...] -> [B], the mean over channel pairs."""
    return values.flatten(1).mean(1) if values.ndim > 1 else values


def size(d: Descriptor) -> int:
    """Number of entries that a mean squared error averages over."""
    if isinstance(d, Maps):
        return d.x.shape[2]
    return d.x.shape[1] ** 2 if isinstance(d, Factor) else d[0].numel()
