"""Caffe's reference network, the AlexNet of Yosinski et al. 2014: grouped convolutions, local response normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atlab.errors import AtlabError
from atlab.models.normalised import Normalised, check_dropout, check_size, check_width

# Channels, kernel, stride, padding and groups of each convolution; "pool" and "norm" follow their non-linearity.
CONVOLUTIONS = (
    (96, 11, 4, 0, 1, ("pool", "norm")),
    (256, 5, 1, 2, 2, ("pool", "norm")),
    (384, 3, 1, 1, 1, ()),
    (384, 3, 1, 1, 2, ()),
    (256, 3, 1, 1, 2, ("pool",)),
)
HIDDEN = 4096
POOLED = 6  # positions a side after the last pooling, at 227 x 227
SMALLEST = 67
ONES = ("features.4", "features.10", "features.12", "classifier.0", "classifier.3")  # layers whose biases start at 1


class CaffeNet(Normalised):
    """Caffe's reference network in torchvision's two parts, `features` and `classifier`.

    Attributes:
        tap_points: "conv1".."conv5", the activations after the non-linearity and before pooling; "conv1.pre".."conv5.pre", the
            convolutions.
        input_mean, input_std: scalar float32 buffers; forward subtracts and divides first.
    """

    architecture = "caffenet"

    def __init__(self, num_classes: int, width: float, in_channels: int, dropout: float) -> None:
        super().__init__()
        self.arguments = {"num_classes": num_classes, "width": width, "in_channels": in_channels, "dropout": dropout}
        hidden, channels = max(1, round(HIDDEN * width)), in_channels
        layers: list[nn.Module] = []
        self.tap_points = {}
        for number, (count, kernel, stride, padding, groups, after) in enumerate(CONVOLUTIONS, 1):
            self.tap_points |= {f"conv{number}.pre": f"features.{len(layers)}"}
            self.tap_points |= {f"conv{number}": f"features.{len(layers) + 1}"}
            scaled = 2 * max(1, round(count * width / 2))
            layers += [nn.Conv2d(channels, scaled, kernel, stride, padding, groups=groups), nn.ReLU()]
            layers += [nn.MaxPool2d(3, 2)] if "pool" in after else []
            layers += [nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)] if "norm" in after else []
            channels = scaled
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(POOLED)
        self.classifier = nn.Sequential(
            nn.Linear(channels * POOLED**2, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_classes] of inputs [B, in_channels, H, W]."""
        return self.classifier(torch.flatten(self.avgpool(self.features(self.normalise(x))), 1))

    def check_input(self, x: Tensor) -> None:
        channels = self.arguments["in_channels"]
        if x.ndim != 4 or x.shape[1] != channels or min(x.shape[2:]) < SMALLEST:
            found = ", ".join(map(str, x.shape))
            raise AtlabError(
                f"caffenet takes [B, {channels}, H, W] with H and W of at least {SMALLEST}, found [{found}]"
            )


def caffenet(num_classes: int, width: float = 1.0, in_channels: int = 3, dropout: float = 0.5) -> CaffeNet:
    """Caffe's reference network (Jia et al. 2014), for photographs of 227 x 227 with values 0 to 1.

    AlexNet (Krizhevsky, Sutskever & Hinton 2012) on one device: two groups in the second, fourth and fifth convolution, pooling
    before local response normalisation, dropout after both hidden layers. 60,965,224 parameters for 1,000 classes. Weights are
    drawn from N(0, 0.01^2), those of the hidden layers from N(0, 0.005^2), as in Caffe's definition; these fit inputs on the
    scale of pixels, 0 to 255 less their mean: `set_normalisation(mean, 1 / 255)`.

    Args:
        num_classes: size of the output.
        width: factor on all channels (kept even) and hidden units.
        in_channels: 3 for colour images.
        dropout: probability, after both hidden layers.

    Raises:
        AtlabError: an argument out of range; at the call: an input of another shape or below 67 x 67.

    >>> net = caffenet(num_classes=5, width=1 / 16)
    >>> net(torch.zeros(2, 3, 227, 227)).shape
    torch.Size([2, 5])
    >>> net.tap_points["conv5"]
    'features.13'
    """
    return CaffeNet(
        check_size("num_classes", num_classes),
        check_width(width),
        check_size("in_channels", in_channels),
        check_dropout(dropout),
    )


def _initialise(model: CaffeNet) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.005 if name in ("classifier.0", "classifier.3") else 0.01)
            nn.init.constant_(module.get_parameter("bias"), 1.0 if name in ONES else 0.0)
