"""The two acoustic models of Fayek, Cavedon & Wu 2018 (supplement, tables 2 and 3): frames of log mel energies in, classes out."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from atlab.errors import AtlabError
from atlab.models.normalised import Normalised, check_dropout, check_size, check_width

# Convolutions (channels, kernel along coefficients x frames) and poolings, layer by layer; then hidden units.
LAYERS = {
    "a": (((64, (5, 4)), "pool"), ((128, (3, 3)), "pool"), 1024, 1024, 1024),
    "b": (
        ((64, (6, 5)),),
        ((64, (3, 3)), "pool"),
        ((128, (3, 3)),),
        ((128, (3, 3)),),
        ((256, (3, 3)),),
        ((256, (3, 3)),),
        ((256, (3, 3)),),
        ((256, (3, 3)),),
        ((256, (3, 3)),),
        ((256, (3, 3)), "pool"),
        1024,
        1024,
    ),
}


class FayekModel(Normalised):
    """Model A or B; `layer1`, `layer2`, ... and the output are its `stages`.

    Attributes:
        tap_points: "layer1", "layer2", ...: the activations after the non-linearity, before pooling.
        stages: one entry per layer: convolution or fully connected, BatchNorm, ReLU, then pooling or dropout.
        input_mean, input_std: float32 [coefficients, 1].
    """

    def __init__(
        self, kind: str, num_classes: int, width: float, coefficients: int, context: int, dropout: float
    ) -> None:
        super().__init__((coefficients, 1))
        self.architecture = f"fayek_{kind}"
        self.arguments = {
            "num_classes": num_classes,
            "width": width,
            "coefficients": coefficients,
            "context": context,
            "dropout": dropout,
        }
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        taps = {}
        channels, size, flat = 1, (coefficients, context), False
        for number, layer in enumerate(LAYERS[kind], 1):
            name = f"layer{number}"
            if isinstance(layer, tuple):
                (out, kernel), pooled = layer[0], "pool" in layer
                stages[name] = _convolution(channels, _scaled(out, width), kernel, pooled)
                channels = _scaled(out, width)
                size = (size[0] // 2, size[1] // 2) if pooled else size
            else:
                inputs = channels if flat else channels * size[0] * size[1]
                stages[name] = _fully_connected(inputs, _scaled(layer, width), dropout, flat)
                channels, flat = _scaled(layer, width), True
            relu = next(n for n, part in stages[name].named_children() if isinstance(part, nn.ReLU))
            taps[name] = f"stages.{name}.{relu}"
        stages["output"] = nn.Linear(channels, num_classes)
        self.stages = nn.Sequential(stages)
        self.tap_points = taps
        _initialise(self)

    def check_input(self, x: Tensor) -> None:
        wanted = (1, self.arguments["coefficients"], self.arguments["context"])
        if x.ndim != 4 or tuple(x.shape[1:]) != wanted:
            found = ", ".join(map(str, x.shape))
            raise AtlabError(f"{self.architecture} takes [B, {wanted[0]}, {wanted[1]}, {wanted[2]}], found [{found}]")


def fayek_a(
    num_classes: int, width: float = 1.0, coefficients: int = 40, context: int = 15, dropout: float = 0.4
) -> FayekModel:
    """Model A: two convolutions with max pooling, three hidden fully connected layers of 1024, the output.

    Inputs are [B, 1, coefficients, context]: log mel energies of a frame and its neighbours. The supplement gives kernels as
    "5 x 4" and "6 x 5" but no context, padding or order of axes; here the first number runs along the
    coefficients, convolutions keep the size, and 15 frames are the context.

    Args:
        num_classes: 144 HMM states, or emotions.
        width: factor on channels and hidden units.
        coefficients, context: log mel energies per frame (40), and frames (odd, with the labelled one in the middle).
        dropout: probability, after every hidden fully connected layer.

    Raises:
        AtlabError: an argument out of range; at the call: an input of another shape.

    >>> import torch
    >>> fayek_a(num_classes=144, width=1 / 8)(torch.zeros(2, 1, 40, 15)).shape
    torch.Size([2, 144])
    """
    return _build("a", num_classes, width, coefficients, context, dropout)


def fayek_b(
    num_classes: int, width: float = 1.0, coefficients: int = 40, context: int = 15, dropout: float = 0.4
) -> FayekModel:
    """Model B: ten convolutions in the manner of VGG, two hidden fully connected layers of 1024, the output.

    The copy of table 3 at hand lists 2, 2, 3 and 3 convolutions of 64, 128, 256 and 256 channels and two reductions 2 x 2
    with stride 2, after the second and after the last convolution (the latter printed as a convolution without a number of
    channels): both are max poolings here. Arguments, inputs and errors as for `fayek_a`.

    >>> import torch
    >>> net = fayek_b(num_classes=4, width=1 / 16)
    >>> net(torch.zeros(2, 1, 40, 15)).shape, len(net.stages)
    (torch.Size([2, 4]), 13)
    """
    return _build("b", num_classes, width, coefficients, context, dropout)


def _build(kind: str, num_classes: int, width: float, coefficients: int, context: int, dropout: float) -> FayekModel:
    poolings = sum("pool" in layer for layer in LAYERS[kind] if isinstance(layer, tuple))
    return FayekModel(
        kind,
        check_size("num_classes", num_classes),
        check_width(width),
        check_size("coefficients", coefficients, 2**poolings),
        check_size("context", context, 2**poolings),
        check_dropout(dropout),
    )


def _scaled(size: int, width: float) -> int:
    return max(1, round(size * width))


def _convolution(inputs: int, outputs: int, kernel: tuple[int, int], pooled: bool) -> nn.Sequential:
    """Padded to keep the size (even kernels take the extra row or column at the end); BatchNorm has the bias."""
    high, wide = (size - 1 for size in kernel)
    layers = [
        nn.ZeroPad2d((wide // 2, wide - wide // 2, high // 2, high - high // 2)),
        nn.Conv2d(inputs, outputs, kernel, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pooled else []))


def _fully_connected(inputs: int, outputs: int, dropout: float, flat: bool) -> nn.Sequential:
    layers = [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*([] if flat else [nn.Flatten()]), *layers)


def _initialise(model: nn.Module) -> None:
    """He normal weights (He et al. 2015), zero bias of the output."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    nn.init.zeros_(model.get_parameter("stages.output.bias"))
