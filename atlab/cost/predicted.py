"""What anti-transfer costs: the paper's eq. 4, operations by layer, and what a training run will take.

Predicted here are memory and operations from shapes alone, and a run's duration from a few timed steps; `atlab.steps`
measures the same quantities. All sizes are bytes, all operations floating-point (a multiply-add counts as two).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from atlab.errors import AtlabError, unknown

BYTES_PER_NUMBER = 4
SHAPE = (1, 126, 129)  # one second at 16 kHz, section 5.7
POOLED = 7 * 7
# "training a network with anti-transfer learning takes on average approximately 2.8 times longer compared to the same
# network with standard training" (Guizzo, Weyde & Tarroni 2021, section 5.7)
PUBLISHED_TIME_RATIO = 2.8


@dataclass(frozen=True)
class Layer:
    """One convolution of VGG16 (3 x 3, padding 1) and the feature map of a clip that it leaves."""

    name: str
    inputs: int
    channels: int
    height: int
    width: int

    @property
    def positions(self) -> int:
        return self.height * self.width

    @property
    def parameters(self) -> int:
        return (9 * self.inputs + 1) * self.channels

    @property
    def flops(self) -> int:
        """Operations of its forward pass for one clip."""
        return 2 * 9 * self.inputs * self.channels * self.positions


@dataclass(frozen=True)
class Memory:
    """The terms of eq. 4 in bytes: the teacher's convolutions, the Gram matrices, the feature maps."""

    teacher: int
    grams: int
    features: int

    @property
    def total(self) -> int:
        return self.teacher + self.grams + self.features


def vgg16_layers(width: float = 1.0, shape: Sequence[int] = SHAPE) -> dict[str, Layer]:
    """The 13 convolutions of `models.vgg16(width=width)` on inputs [channels, H, W]: {"conv1": Layer, ...}.

    Raises AtlabError for inputs below 32 x 32 and widths out of range.

    >>> vgg16_layers()["conv13"]
    Layer(name='conv13', inputs=512, channels=512, height=7, width=8)
    """
    from atlab.models.vgg import LAYOUT, SMALLEST

    if not 0 < width <= 4:
        raise AtlabError(f"width must be above 0 and at most 4 (1.0 is the paper's), found {width!r}")
    if len(shape) != 3 or min(shape[1:]) < SMALLEST or shape[0] < 1:
        raise AtlabError(f"an input is [channels, H, W] with H and W of at least {SMALLEST}, found {list(shape)}")
    inputs, height, across = shape
    found: dict[str, Layer] = {}
    for entry in LAYOUT:
        if entry == "pool":
            height, across = height // 2, across // 2
            continue
        channels = max(1, round(entry * width))
        name = f"conv{len(found) + 1}"
        found[name] = Layer(name, inputs, channels, height, across)
        inputs = channels
    return found


def at_memory(
    layers: str | Iterable[str] = "conv5",
    *,
    width: float = 1.0,
    batch: int = 13,
    shape: Sequence[int] = SHAPE,
    teachers: int = 1,
    cached: bool = False,
    published: bool = False,
    bytes_per_number: int = BYTES_PER_NUMBER,
) -> Memory:
    """Memory that anti-transfer adds to plain training, by the paper's equation 4.

        M_t = E_t + sum over l in L of 2 (#G_l + #F_l) x bytes_per_number

    E_t is the size of the convolutional part of the pre-trained network, L the anti-transfer layers,
    #G_l = batch size x channels² the Gram matrices of layer l and #F_l its feature maps; the factor 2 stands for the two
    networks (Guizzo, Weyde & Tarroni 2021, section 5.7). The paper counts the student's feature maps too, although plain
    training keeps them for its backward pass.

    Args:
        layers: names "conv1".."conv13", all or some.
        teachers: orthogonal networks that take part at once; each brings the whole sum.
        cached: targets are read instead of computed, which the section proposes: no E_t, feature maps of the student only.
        published: the authors' code instead, whose one Gram matrix has (batch size x channels)² entries.

    >>> at_memory("conv1", batch=1)
    Memory(teacher=58854144, grams=32768, features=8322048)
    >>> at_memory("conv1", batch=1, cached=True)
    Memory(teacher=0, grams=32768, features=4161024)
    """
    known = vgg16_layers(width, shape)
    chosen = [_layer(known, name) for name in ([layers] if isinstance(layers, str) else layers)]
    if batch < 1 or teachers < 1:
        raise AtlabError(f"batch and teachers are at least 1, found {batch} and {teachers}")
    e_t = 0 if cached else sum(layer.parameters for layer in known.values())
    grams = sum((batch * layer.channels) ** 2 if published else batch * layer.channels**2 for layer in chosen)
    maps = sum(batch * layer.channels * layer.positions for layer in chosen)
    numbers = (teachers * e_t, teachers * 2 * grams, teachers * (1 if cached else 2) * maps)
    return Memory(*(count * bytes_per_number for count in numbers))


def step_flops(width: float = 1.0, batch: int = 13, shape: Sequence[int] = SHAPE, num_classes: int = 10) -> int:
    """Operations of one plain training step: forward, gradients of weights and of all inputs but the network's own.

    >>> round(step_flops() / 1e9)
    382
    """
    layers = list(vgg16_layers(width, shape).values())
    forward = sum(layer.flops for layer in layers) + _classifier_flops(width, num_classes)
    return batch * (3 * forward - layers[0].flops)


def at_flops(
    layers: str | Iterable[str] = "conv5",
    *,
    width: float = 1.0,
    batch: int = 13,
    shape: Sequence[int] = SHAPE,
    teachers: int = 1,
    cached: bool = False,
) -> int:
    """Operations that anti-transfer with Gram matrices and squared cosine adds to a step, as `atlab` computes it.

    A live teacher runs up to its last layer. The matrix products are those of `functional.describe`: Grams [C, C], or
    products of positions [N, N] where N < C / 3; the backward pass takes one more of each that the student is in.

    >>> round(at_flops("conv5") / step_flops(), 3), round(at_flops("conv5", cached=True) / step_flops(), 3)
    (0.135, 0.009)
    """
    known = vgg16_layers(width, shape)
    names = list(known)
    chosen = [_layer(known, name) for name in ([layers] if isinstance(layers, str) else layers)]
    total = 0 if cached else sum(known[n].flops for n in names[: 1 + max(names.index(c.name) for c in chosen)])
    for layer in chosen:
        c, n = layer.channels, layer.positions
        if 3 * n < c:
            total += 5 * 2 * n * n * c  # <s,t>, <s,s>, <t,t>, and the student's two gradients
        else:
            stored_as_gram = cached and c * n >= c * (c + 1) // 2
            total += (
                (2 if stored_as_gram else 3) * 2 * c * c * n
            )  # Grams of student and teacher, the student's gradient
    return teachers * batch * total


def predict(
    layers: Iterable[str] | None = None,
    *,
    width: float = 1.0,
    batch: int = 13,
    shape: Sequence[int] = SHAPE,
    bytes_per_number: int = BYTES_PER_NUMBER,
) -> pd.DataFrame:
    """Memory and operations of anti-transfer at each layer by itself (all 13 if none are named), live and cached.

    Columns: layer, channels, positions, teacher_bytes, gram_bytes, feature_bytes, and for both kinds of teacher bytes
    (eq. 4), flops, and ratio, the operations of a step with it to those of a plain one.

    >>> predict(["conv1", "conv13"], batch=1)[["layer", "live_bytes", "cached_bytes"]].values.tolist()
    [['conv1', 67208960, 4193792], ['conv13', 61180672, 2211840]]
    """
    known = vgg16_layers(width, shape)
    plain = step_flops(width, batch, shape)
    rows = []
    for name in known if layers is None else layers:
        layer, common = _layer(known, name), {"width": width, "batch": batch, "shape": shape}
        live = at_memory(name, **common, bytes_per_number=bytes_per_number)
        row = {
            "layer": layer.name,
            "channels": layer.channels,
            "positions": layer.positions,
            "teacher_bytes": live.teacher,
            "gram_bytes": live.grams,
            "feature_bytes": live.features,
        }
        for kind, cached in (("live", False), ("cached", True)):
            flops = at_flops(name, **common, cached=cached)
            row[f"{kind}_bytes"] = at_memory(name, **common, cached=cached, bytes_per_number=bytes_per_number).total
            row[f"{kind}_flops"], row[f"{kind}_ratio"] = flops, 1 + flops / plain
        rows.append(row)
    return pd.DataFrame(rows)


def network_parameters(width: float = 1.0, num_classes: int = 10, in_channels: int = 1) -> int:
    """Number of weights of `models.vgg16`.

    >>> network_parameters()
    134300362
    """
    convolutions = sum(layer.parameters for layer in vgg16_layers(width, (in_channels, 32, 32)).values())
    inputs, hidden = vgg16_layers(width)["conv13"].channels * POOLED, max(1, round(4096 * width))
    return convolutions + (inputs + 1) * hidden + (hidden + 1) * hidden + (hidden + 1) * num_classes


def step_memory(
    layers: Iterable[str] = (),
    *,
    width: float = 1.0,
    batch: int = 13,
    shape: Sequence[int] = SHAPE,
    num_classes: int = 10,
    networks: int = 0,
    teachers: int = 0,
    cached: bool = False,
    bf16: bool = False,
) -> int:
    """Upper estimate of the tensors alive at the peak of a training step, in bytes, libraries and data apart.

    Weights with gradients and Adam's two moments; the student's feature maps, pooled maps and pooling indices; two of its
    largest maps for the gradients in passing; `networks` whole orthogonal networks that are kept beside it; eq. 4 for
    the anti-transfer `layers`, and two maps in passing for teachers that run.

    >>> 2.2e9 < step_memory() < step_memory(["conv5"], networks=2, teachers=1) < 4e9
    True
    """
    known = vgg16_layers(width, shape)
    weights = network_parameters(width, num_classes, shape[0])
    number = 2 if bf16 else BYTES_PER_NUMBER
    maps = [layer.channels * layer.positions for layer in known.values()]
    pooled = sum(layer.channels * (layer.height // 2) * (layer.width // 2) for layer in _before_pooling(known))
    largest = max(maps) * batch * number
    held = 4 * weights * BYTES_PER_NUMBER + networks * weights * BYTES_PER_NUMBER + (2 * weights if bf16 else 0)
    held += batch * (sum(maps) * number + pooled * (number + 8) + 2 * shape[0] * shape[1] * shape[2] * BYTES_PER_NUMBER)
    if teachers:
        at = at_memory(layers, width=width, batch=batch, shape=shape, teachers=teachers, cached=cached)
        held += at.grams + at.features + (0 if cached else 2 * largest)
    return held + 2 * largest


def _before_pooling(known: dict[str, Layer]) -> list[Layer]:
    return [known[name] for name in ("conv2", "conv4", "conv7", "conv10", "conv13")]


def _classifier_flops(width: float, num_classes: int) -> int:
    inputs, hidden = vgg16_layers(width)["conv13"].channels * POOLED, max(1, round(4096 * width))
    return 2 * (inputs * hidden + hidden * hidden + hidden * num_classes)


def _layer(known: dict[str, Layer], name: str) -> Layer:
    name = str(name).removesuffix(".pre")
    if name not in known:
        raise unknown("layer", name, known)
    return known[name]
