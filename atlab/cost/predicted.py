"""What anti-transfer costs before anything is run: the paper's eq. 4, and the operations and memory of a step.

Works for any network: it is run on PyTorch's meta device, which computes shapes only, and its operations are those that
`torch.utils.flop_counter` counts (a multiply-add is two). All sizes are bytes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from atlab import functional
from atlab.errors import AtlabError
from atlab.taps import Taps, run_up_to, unwrap, without_taps

BYTES_PER_NUMBER = 4
SHAPE = (1, 126, 129)  # one second at 16 kHz, section 5.7
# "training a network with anti-transfer learning takes on average approximately 2.8 times longer compared to the same
# network with standard training" (Guizzo, Weyde & Tarroni 2021, section 5.7)
PUBLISHED_TIME_RATIO = 2.8


class Layer(NamedTuple):
    """The feature map of a clip at a layer: channels, and positions (height x width)."""

    channels: int
    positions: int


@dataclass(frozen=True)
class Memory:
    """The terms of eq. 4 in bytes: the teacher's convolutions, the Gram matrices, the feature maps."""

    teacher: int
    grams: int
    features: int

    @property
    def total(self) -> int:
        return self.teacher + self.grams + self.features


def vgg16(width: float = 1.0, in_channels: int = 1, num_classes: int = 10) -> nn.Module:
    """`models.vgg16` without weights, on the meta device: for the functions of this module.

    >>> sum(parameter.numel() for parameter in vgg16().parameters())
    134300362
    """
    from atlab import models

    with torch.device("meta"):
        return models.vgg16(num_classes, width, in_channels)


def feature_maps(
    model: nn.Module, layers: str | Iterable[str] | None = None, shape: Sequence[int] = SHAPE
) -> dict[str, Layer]:
    """Size of the feature maps of one clip [channels, H, W] at each layer; at all layers with feature maps if None.

    Raises AtlabError for an unknown layer, or one whose output is no feature map [B, C, ...].

    >>> feature_maps(vgg16(), "conv13")
    {'conv13': Layer(channels=512, positions=56)}
    """
    found = {}
    for name, x in _outputs(_on_meta(model), _names(model, layers), shape).items():
        if x.ndim > 2:
            found[name] = Layer(x.shape[1], math.prod(x.shape[2:]))
        elif layers is not None:
            raise AtlabError(f"layer {name!r} gives {list(x.shape)}; expected a feature map [B, C, ...]")
    return found


def at_memory(
    model: nn.Module,
    layers: str | Iterable[str],
    *,
    batch: int = 13,
    shape: Sequence[int] = SHAPE,
    teachers: int = 1,
    cached: bool = False,
    published: bool = False,
    bytes_per_number: int = BYTES_PER_NUMBER,
) -> Memory:
    """Memory that anti-transfer adds to plain training, by the paper's equation 4.

        M_t = E_t + sum over l in L of 2 (#G_l + #F_l) x bytes_per_number

    E_t is the size of the convolutions of the pre-trained network (of the same form as `model`), L the anti-transfer
    layers, #G_l = batch size x channels² the Gram matrices of layer l and #F_l its feature maps; the factor 2 stands for the
    two networks (Guizzo, Weyde & Tarroni 2021, section 5.7). The paper counts the student's feature maps too, although
    plain training keeps them for its backward pass.

    Args:
        teachers: orthogonal networks that take part at once; each brings the whole sum.
        cached: targets are read instead of computed, which the section proposes: no E_t, feature maps of the student only.
        published: the authors' code instead, whose one Gram matrix has (batch size x channels)² entries.

    >>> at_memory(vgg16(), "conv1", batch=1)
    Memory(teacher=58854144, grams=32768, features=8322048)
    >>> at_memory(vgg16(), "conv1", batch=1, cached=True)
    Memory(teacher=0, grams=32768, features=4161024)
    """
    if batch < 1 or teachers < 1:
        raise AtlabError(f"batch and teachers must be at least 1, found {batch} and {teachers}")
    chosen = feature_maps(model, layers, shape).values()
    convolutions = [module for module in model.modules() if isinstance(module, nn.modules.conv._ConvNd)]
    e_t = 0 if cached else sum(p.numel() for module in convolutions for p in module.parameters())
    grams = sum((batch * c) ** 2 if published else batch * c**2 for c, _ in chosen)
    maps = sum(batch * c * n for c, n in chosen)
    numbers = (teachers * e_t, teachers * 2 * grams, teachers * (1 if cached else 2) * maps)
    return Memory(*(count * bytes_per_number for count in numbers))


def step_flops(model: nn.Module, *, batch: int = 13, shape: Sequence[int] = SHAPE) -> int:
    """Operations of one plain training step: forward, gradients of weights and of all inputs but the network's own.

    >>> round(step_flops(vgg16()) / 1e9)
    382
    """
    model, x = _on_meta(model), _inputs(batch, shape)
    return _flops(lambda: model(x).sum().backward())


def at_flops(
    model: nn.Module,
    layers: str | Iterable[str],
    *,
    batch: int = 13,
    shape: Sequence[int] = SHAPE,
    cached: bool = False,
) -> int:
    """Operations that anti-transfer with Gram matrices and squared cosine adds to a step, as `atlab` computes it.

    A live teacher, of the same form as `model`, runs up to its last layer. A cached one gives its Gram matrix, or its
    feature maps where those are smaller, whose Gram matrix is then part of the step.

    >>> model = vgg16()
    >>> round(at_flops(model, "conv5") / step_flops(model), 3), round(at_flops(model, "conv5", cached=True) / step_flops(model), 3)
    (0.135, 0.009)
    """
    model, names, total = _on_meta(model), _names(model, layers), 0
    if not cached:
        with Taps(model, names) as taps, torch.no_grad():
            total = _flops(lambda: run_up_to(model, taps, _inputs(batch, shape)))
    for maps in _outputs(model, names, shape).values():
        total += batch * _loss_flops(maps, cached)
    return total


def predict(
    model: nn.Module,
    layers: Iterable[str] | None = None,
    *,
    batch: int = 13,
    shape: Sequence[int] = SHAPE,
    bytes_per_number: int = BYTES_PER_NUMBER,
) -> pd.DataFrame:
    """Memory and operations of anti-transfer at each layer by itself (all with feature maps if None), live and cached.

    Columns: layer, channels, positions, teacher_bytes, gram_bytes, feature_bytes, and for both kinds of teacher bytes
    (eq. 4), flops, and ratio, the operations of a step with it to those of a plain one.

    >>> predict(vgg16(), ["conv1", "conv13"], batch=1)[["layer", "live_bytes", "cached_bytes"]].values.tolist()
    [['conv1', 67208960, 4193792], ['conv13', 61180672, 2211840]]
    """
    plain, rows = step_flops(model, batch=batch, shape=shape), []
    for name, (channels, positions) in feature_maps(model, layers, shape).items():
        common = {"batch": batch, "shape": shape}
        live = at_memory(model, name, **common, bytes_per_number=bytes_per_number)
        row = {
            "layer": name,
            "channels": channels,
            "positions": positions,
            "teacher_bytes": live.teacher,
            "gram_bytes": live.grams,
            "feature_bytes": live.features,
        }
        for kind, cached in (("live", False), ("cached", True)):
            flops = at_flops(model, name, **common, cached=cached)
            size = at_memory(model, name, **common, cached=cached, bytes_per_number=bytes_per_number).total
            row |= {f"{kind}_bytes": size, f"{kind}_flops": flops, f"{kind}_ratio": 1 + flops / plain}
        rows.append(row)
    return pd.DataFrame(rows)


def step_memory(
    model: nn.Module,
    layers: Iterable[str] = (),
    *,
    batch: int = 13,
    shape: Sequence[int] = SHAPE,
    networks: int = 0,
    teachers: int = 0,
    cached: bool = False,
    bf16: bool = False,
) -> int:
    """Upper estimate of the tensors alive at the peak of a training step, in bytes, libraries and data apart.

    Weights with gradients and Adam's two moments; what autograd keeps of the forward pass; two of its largest maps for
    transient gradients; `networks` whole orthogonal networks that are kept too; eq. 4 for the anti-transfer `layers`,
    and two transient maps for teachers that run.

    >>> model = vgg16()
    >>> 2.2e9 < step_memory(model) < step_memory(model, ["conv5"], networks=2, teachers=1) < 4e9
    True
    """
    weights = sum(p.numel() for p in model.parameters())
    number = 2 if bf16 else BYTES_PER_NUMBER
    kept = _kept(_on_meta(model), _inputs(batch, shape))
    floats = [x.numel() * number for x in kept if x.is_floating_point()]
    others = sum(x.numel() * x.element_size() for x in kept if not x.is_floating_point())
    inputs = 2 * batch * math.prod(shape) * BYTES_PER_NUMBER
    held = (4 + networks) * weights * BYTES_PER_NUMBER + (2 * weights if bf16 else 0) + sum(floats) + others + inputs
    if teachers and layers:
        at = at_memory(model, layers, batch=batch, shape=shape, teachers=teachers, cached=cached)
        held += at.grams + at.features + (0 if cached else 2 * max(floats))
    return held + 2 * max(floats)


def _on_meta(model: nn.Module) -> nn.Module:
    """A copy in training mode whose weights are shapes only."""
    model = unwrap(model)
    shapes: dict[int, Tensor] = {id(b): torch.empty_like(b, device="meta") for b in model.buffers()}
    shapes |= {id(p): nn.Parameter(torch.empty_like(p, device="meta")) for p in model.parameters()}
    return without_taps(copy.deepcopy(model, shapes)).train()


def _inputs(batch: int, shape: Sequence[int]) -> Tensor:
    return torch.empty(batch, *shape, device="meta")


def _names(model: nn.Module, layers: str | Iterable[str] | None) -> list[str]:
    if layers is None:
        taps = [name for name in getattr(model, "tap_points", {}) if not name.endswith(".pre")]
        return taps or [name for name, part in model.named_modules() if isinstance(part, nn.modules.conv._ConvNd)]
    return [layers] if isinstance(layers, str) else list(layers)


def _outputs(model: nn.Module, names: list[str], shape: Sequence[int]) -> dict[str, Tensor]:
    """What the layers give for one clip."""
    with Taps(model, names) as taps, torch.no_grad():
        return run_up_to(model, taps, _inputs(1, shape))


def _loss_flops(maps: Tensor, cached: bool) -> int:
    """Operations of the loss and its gradient on the feature maps of one clip."""
    c, size = maps.shape[1], maps.numel()
    student, teacher = (torch.zeros(maps.shape, requires_grad=wants) for wants in (True, False))  # autocast lacks meta
    if cached and size >= c * (c + 1) // 2:
        stored = functional.describe(teacher)
        return _flops(lambda: functional.target_loss(student, stored).backward())
    return _flops(lambda: functional.anti_transfer_loss(student, teacher).backward())


def _flops(step: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def _kept(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The tensors that autograd keeps of a forward pass, weights apart, one for each piece of memory."""
    found = {p.untyped_storage()._cdata: None for p in model.parameters()}

    def keep(x: Tensor) -> Tensor:
        found.setdefault(x.untyped_storage()._cdata, x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        model(x)
    return [tensor for tensor in found.values() if tensor is not None]
