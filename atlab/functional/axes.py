"""Which axes of a module's output hold the clips and the channels, so that feature maps are compared as [B, C, ...]."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor, nn

from atlab.errors import AtlabError

DIMENSIONS = {"1d": 3, "2d": 4, "3d": 5}  # of the output of a module whose class name ends so
FIRST = (nn.SyncBatchNorm, nn.GroupNorm, nn.LocalResponseNorm, nn.PixelShuffle, nn.Upsample)
RECURRENT = (nn.RNNBase, nn.MultiheadAttention, nn.Transformer)
LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
STACKS = (nn.TransformerEncoder, nn.TransformerDecoder)
LAST = (nn.Linear, nn.Bilinear, nn.Embedding, *RECURRENT, *LAYERS, *STACKS)
ELEMENTWISE = ("torch.nn.modules.activation", "torch.nn.modules.dropout")
KEEPS_AXES = ("Identity", "StochasticDepth", "DropPath")


class Axes(NamedTuple):
    """Position of the clips and of the channels in a module's output."""

    batch: int = 0
    channel: int = 1


def to_maps(output: Tensor, axes: Axes) -> Tensor:
    """A view of `output` as [B, C, ...].

    >>> import torch
    >>> to_maps(torch.zeros(7, 2, 5), Axes(batch=1, channel=-1)).shape
    torch.Size([2, 5, 7])
    """
    return output if axes == (0, 1) else output.movedim(axes, (0, 1))


def recognise(
    model: nn.Module, path: str, output: Tensor, channel_dim: int | None = None, batch_dim: int | None = None
) -> Axes:
    """The axes of what the module at `path` of `model` returned; axes that are named are trusted, the others recognised.

    Convolutions, norms and pooling of convolutional networks have their channels at axis 1; linear layers, layer norms,
    attention, transformer layers and recurrent layers have them last. What is neither goes by the sizes of its weights; four
    axes and no weights are [B, C, H, W]. A block of one's own whose last axis is as long as its convolutions have channels could have
    permuted them, and has to be named.

    Raises:
        AtlabError: an axis that is not there; an output that could be read either way.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(3, 5), nn.LSTM(5, 8))
    >>> recognise(net, "1", torch.zeros(7, 2, 8))
    Axes(batch=1, channel=-1)
    """
    n = output.ndim
    for name, dim in (("channel_dim", channel_dim), ("batch_dim", batch_dim)):
        if dim is not None and not -n <= dim < n:
            raise AtlabError(
                f"{name}={dim} is not an axis of the output of {path!r}, whose shape is {tuple(output.shape)}"
            )
    channel = channel_dim if channel_dim is not None else _channel(model, path, output)
    if batch_dim is None:
        batch_dim = 0 if n != 3 or channel in (1, 1 - n) else _batch(model, path, output)
    if batch_dim % n == channel % n:
        raise AtlabError(f"layer {path!r}: axis {batch_dim} cannot hold both the clips and the channels")
    return Axes(batch_dim, channel)


def _channel(model: nn.Module, path: str, output: Tensor) -> int:
    module, n = model.get_submodule(path), output.ndim
    while type(module) is nn.Sequential and len(module):
        path, module = f"{path}.{len(module) - 1}", module[-1]
    if n < 3:
        return 1
    if kind := _kind(module, n):
        return kind
    keeps = type(module).__module__ in ELEMENTWISE or type(module).__name__ in KEEPS_AXES
    if keeps or not _widths(module):
        parts = [_before(model, path, n)]
    else:
        keeps, parts = True, list(module.modules())
    kinds = {kind for part in parts if keeps and (kind := _kind(part, n))}
    telling = [part for part in parts if _kind(part, n)]  # others may hold tables of positions or heads
    widths = set().union(*map(_widths, telling or parts))
    first, last = output.shape[1] in widths, output.shape[-1] in widths
    if n > 3 and not widths:
        return 1  # no weights at all: PyTorch's convention
    # Blocks that concatenate have a width of their own.
    convolutional = kinds == {1} and n > 3 and (first or not last or output.shape[1] in _widths(model))
    if convolutional and (output.shape[-1] not in _given(telling) or _conventional(model, path, module, parts)):
        return 1
    if kinds == {-1} and n == 3 and last:
        return -1
    if first != last and not convolutional:
        return 1 if first else -1
    raise AtlabError(
        f"layer {path!r} ({type(model.get_submodule(path)).__name__}) returns shape {tuple(output.shape)}, where neither its kind nor its "
        "weights tell which axis holds the channels: name it, channel_dim=1 for [B, C, ...] or channel_dim=-1 for [B, ..., C], in "
        "atlab.Teacher for the teacher and in atlab.AntiTransferLoss for the student"
    )


def _kind(module: nn.Module, n: int) -> int | None:
    """1 or -1 for a module whose output of n axes has its channels there; None if its class does not tell."""
    suffix = type(module).__name__[-2:]
    if suffix in DIMENSIONS:
        return 1 if DIMENSIONS[suffix] == n else None
    if isinstance(module, FIRST):
        return 1
    shape: Any = getattr(module, "normalized_shape", ())
    norms = type(module) in (nn.LayerNorm, nn.RMSNorm) and len(shape) == 1
    return -1 if norms or isinstance(module, LAST) else None


def _before(model: nn.Module, path: str, n: int) -> nn.Module:
    """The last module with weights before `path`, in the order of registration; the one whose class tells, if any does."""
    before = [*itertools.takewhile(lambda named: named[0] != path, model.named_modules())]
    leaves = [module for _, module in before if _widths(module) and not list(module.children())]
    return next((leaf for leaf in reversed(leaves) if _kind(leaf, n)), leaves[-1] if leaves else nn.Identity())


def _widths(module: nn.Module) -> set[int]:
    """Numbers of channels that the weights of a module give or take; positions [1, N, C] are no such weights."""
    return {size for p in module.parameters() if p.ndim and p.shape[0] > 1 for size in p.shape[:2] if size > 1}


def _given(modules: list[nn.Module]) -> set[int]:
    """Numbers of channels that the weights of modules themselves give."""
    return {p.shape[0] for module in modules for p in module.parameters(recurse=False) if p.ndim}


def _conventional(model: nn.Module, path: str, module: nn.Module, parts: list[nn.Module]) -> bool:
    """Whether axis 1 holds the channels by convention: in networks of torchvision and atlab, and in a row after a convolution."""
    owner = model.get_submodule(path.rpartition(".")[0])
    if {type(m).__module__.partition(".")[0] for m in (module, owner)} & {"torchvision", "atlab"}:
        return True
    row = [*owner.children()]
    row = row[: row.index(module) + 1]
    plain = all(type(m).__module__.startswith("torch.nn.") for m in row)
    return type(owner) is nn.Sequential and plain and set(parts) <= set(row)


def _batch(model: nn.Module, path: str, output: Tensor) -> int:
    """0, or 1 inside a module that was made with batch_first=False."""
    names = path.split(".")
    around = [model.get_submodule(".".join(names[:k])) for k in range(len(names), 0, -1)]
    known = [first for module in [*around, model] for first in _batch_first(module)]
    if known:
        return 0 if known[0] else 1
    if any(not first for module in model.modules() for first in _batch_first(module)):
        raise AtlabError(
            f"layer {path!r} returns shape {tuple(output.shape)} in a network with batch_first=False, where the clips may be its first or its "
            "second axis: name it, batch_dim=0 or batch_dim=1"
        )
    return 0


def _batch_first(module: nn.Module) -> Iterator[bool]:
    if isinstance(module, RECURRENT):
        yield module.batch_first
    elif isinstance(module, LAYERS):
        yield module.self_attn.batch_first
    elif isinstance(module, STACKS):
        yield module.layers[0].self_attn.batch_first
