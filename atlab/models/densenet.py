"""DenseNet-40 for small images, in the blocks of Fayek, Cavedon & Wu 2018 (supplement, table 1)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from atlab.errors import AtlabError
from atlab.models.normalised import Normalised, check_dropout, check_size, check_width

LAYERS = 12  # of a dense block; 3 x 12 + 2 transitions + first convolution + output = 40
GROWTH = 12  # channels that each of them adds
SMALLEST = 8


class DenseLayer(nn.Module):
    """BatchNorm, ReLU, 3 x 3 convolution, dropout: [B, C, H, W] -> [B, C + growth, H, W], the input first."""

    def __init__(self, channels: int, growth: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(channels, growth, kernel_size=3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.dropout(self.conv(self.relu(self.norm(x))))], dim=1)


class DenseNet40(Normalised):
    """DenseNet-40; blocks 1 to 7 and the output are its `stages`.

    Attributes:
        tap_points: "block1" to "block7", the activations at the end of each block; "conv1" to "conv39", the
            convolutions in order (block 1 is conv1, block 2 conv2 to conv13, block 3 conv14, and so on).
        stages: block1 (convolution), block2, block4, block6 (dense blocks of 12 layers), block3, block5
            (transitions), block7 (BatchNorm, ReLU, average over all positions), output.
        input_mean, input_std: float32 [in_channels, 1, 1].
    """

    architecture = "densenet40"

    def __init__(self, num_classes: int, width: float, in_channels: int, dropout: float, first_channels: int) -> None:
        super().__init__((in_channels, 1, 1))
        self.arguments = {
            "num_classes": num_classes,
            "width": width,
            "in_channels": in_channels,
            "dropout": dropout,
            "first_channels": first_channels,
        }
        channels, growth = (max(1, round(width * value)) for value in (first_channels, GROWTH))
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        stages["block1"] = nn.Conv2d(in_channels, channels, kernel_size=3, padding=1, bias=False)
        for number in (2, 4, 6):
            layers = [DenseLayer(channels + k * growth, growth, dropout) for k in range(LAYERS)]
            stages[f"block{number}"] = nn.Sequential(*layers)
            channels += LAYERS * growth
            if number < 6:
                stages[f"block{number + 1}"] = _transition(channels, dropout)
        stages["block7"] = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        stages["output"] = nn.Linear(channels, num_classes)
        self.stages = nn.Sequential(stages)
        _initialise(self)
        convolutions = [name for name, module in self.named_modules() if isinstance(module, nn.Conv2d)]
        self.tap_points = {f"conv{n}": name for n, name in enumerate(convolutions, 1)}
        self.tap_points |= {name: f"stages.{name}" for name in stages if name != "output"}

    def check_input(self, x: Tensor) -> None:
        wanted = self.arguments["in_channels"]
        if x.ndim != 4 or x.shape[1] != wanted or min(x.shape[2:]) < SMALLEST:
            found = ", ".join(map(str, x.shape))
            raise AtlabError(
                f"densenet40 takes [B, {wanted}, H, W] with H and W of at least {SMALLEST}, found [{found}]"
            )


def densenet40(
    num_classes: int, width: float = 1.0, in_channels: int = 3, dropout: float = 0.2, first_channels: int = 24
) -> DenseNet40:
    """DenseNet with 40 layers and growth rate k = 12 (Huang et al. 2017), without bottlenecks or compression.

    Fayek, Cavedon & Wu 2018 give the first convolution 24 channels (2 k), which makes 1,059,298 parameters for ten
    classes; Huang et al. give it 16, which makes 1,019,722: both round to "1.0 M" or so, and are not the same network.

    Args:
        num_classes: size of the output.
        width: factor on the growth rate and on the first convolution's channels.
        in_channels: 3 for colour images.
        dropout: probability, after every convolution but the first.
        first_channels: channels of the first convolution at width 1: 24 (the transfer study's) or 16 (the DenseNet paper's).

    Raises:
        AtlabError: an argument out of range; at the call: an input of another shape or below 8 x 8.

    >>> net = densenet40(num_classes=10, width=1 / 4)
    >>> net(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    >>> [name for name, _ in net.stages.named_children()]
    ['block1', 'block2', 'block3', 'block4', 'block5', 'block6', 'block7', 'output']
    """
    return DenseNet40(
        check_size("num_classes", num_classes),
        check_width(width),
        check_size("in_channels", in_channels),
        check_dropout(dropout),
        check_size("first_channels", first_channels),
    )


def _transition(channels: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel_size=1, bias=False),
        nn.Dropout(dropout),
        nn.AvgPool2d(2),
    )


def _initialise(model: nn.Module) -> None:
    """He normal convolutions (He et al. 2015, as Huang et al. 2017 say), zero bias of the output."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
