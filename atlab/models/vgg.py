"""VGG16 as the papers use it: torchvision's layers, any number of input channels, any width."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.vgg import VGG, cfgs, make_layers

from atlab.errors import AtlabError


class VGG16(VGG):
    """torchvision's VGG16 with scaled channels, normalised input and named convolutions.

    `tap_points` maps `convN` (N = 1..13) to the non-linearity after the N-th convolution and `convN.pre` to the
    convolution itself. The scalars `input_mean` and `input_std` belong to the model: each network sees the
    input in its own normalisation. Parameter names are torchvision's.
    """

    def __init__(self, num_classes: int, width: float = 1.0, in_channels: int = 1, dropout: float = 0.5) -> None:
        if not (num_classes >= 1 and width > 0 and in_channels >= 1 and 0 <= dropout < 1):
            raise AtlabError(
                "vgg16 needs num_classes >= 1, width > 0, in_channels >= 1, 0 <= dropout < 1; found "
                f"num_classes={num_classes}, width={width}, in_channels={in_channels}, dropout={dropout}"
            )
        channels = [c if c == "M" else max(1, round(c * width)) for c in cfgs["D"]]
        super().__init__(make_layers(channels), num_classes, init_weights=False, dropout=dropout)
        last, hidden = channels[-2], max(1, round(4096 * width))
        self.features[0] = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        self.classifier[0], self.classifier[3] = nn.Linear(last * 49, hidden), nn.Linear(hidden, hidden)
        self.classifier[6] = nn.Linear(hidden, num_classes)
        self.register_buffer("input_mean", torch.zeros(()))
        self.register_buffer("input_std", torch.ones(()))
        self.width = width
        self.tap_points = _tap_points(self.features)
        self.apply(_initialise)

    def set_normalisation(self, mean: float, std: float) -> None:
        """Scalar mean and standard deviation of the training split's input; AtlabError unless std > 0."""
        if not std > 0:
            raise AtlabError(f"the input's standard deviation must be above 0, found {std}: is the training input constant?")
        self.input_mean.fill_(mean)
        self.input_std.fill_(std)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - self.input_mean) / self.input_std)


def vgg16(num_classes: int, width: float = 1.0, in_channels: int = 1, dropout: float = 0.5) -> VGG16:
    """VGG16 (Simonyan & Zisserman 2015; AT paper, table 1) with `width` times its channels; 1.0 is the paper's.

    Input [B, in_channels, H, W] of any size from 32 x 32, output [B, num_classes]. Weights are initialised as
    torchvision does. Raises AtlabError for arguments outside their range.

    >>> net = vgg16(num_classes=10, width=1 / 8)
    >>> net(torch.randn(2, 1, 126, 129)).shape, net.tap_points["conv5"], net.tap_points["conv5.pre"]
    (torch.Size([2, 10]), 'features.11', 'features.10')
    """
    return VGG16(num_classes, width, in_channels, dropout)


def _tap_points(features: nn.Sequential) -> dict[str, str]:
    convolutions = [i for i, module in enumerate(features) if isinstance(module, nn.Conv2d)]
    after = {f"conv{n}": f"features.{i + 1}" for n, i in enumerate(convolutions, start=1)}
    return after | {f"conv{n}.pre": f"features.{i}" for n, i in enumerate(convolutions, start=1)}


def _initialise(module: nn.Module) -> None:
    """torchvision's rule for VGG: He et al. 2015 for convolutions, N(0, 0.01²) for linear layers."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0, 0.01)
        nn.init.zeros_(module.bias)
