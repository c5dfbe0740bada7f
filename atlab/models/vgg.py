"""VGG16 for spectrograms: torchvision's network with any number of input channels, a width and named layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import VGG

from atlab.errors import AtlabError, unknown
from atlab.models.normalised import Normalised

# Channels of the 13 convolutions (Simonyan & Zisserman 2015, configuration D); a pooling ends each block.
BLOCKS = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
POOLED = 7 * 7
SMALLEST = 32
HEADS = ("flatten", "pool")


class VGG16(Normalised, VGG):
    """torchvision's VGG16 with scaled channels and the input's mean and standard deviation as buffers.

    Attributes:
        tap_points: layer name -> module path, for `atlab.Taps`: "conv1".."conv13" are the activations after the
            non-linearity and before pooling, "conv1.pre".."conv13.pre" what enters the non-linearity.
        architecture, arguments: what `atlab.models.load` needs to build the network again.
        input_mean, input_std: scalar float32 buffers; forward subtracts and divides first.
    """

    architecture = "vgg16"

    def __init__(
        self, num_classes: int, width: float, in_channels: int, dropout: float, batch_norm: bool, head: str
    ) -> None:
        # torchvision builds a full-width classifier; on the meta device that takes no time and no memory.
        with torch.device("meta"):
            VGG.__init__(self, nn.Sequential(), num_classes, init_weights=False)
        self.arguments = {
            "num_classes": num_classes,
            "width": width,
            "in_channels": in_channels,
            "dropout": dropout,
            "batch_norm": batch_norm,
            "head": head,
        }
        blocks = [[max(1, round(channels * width)) for channels in block] for block in BLOCKS]
        last = blocks[-1][-1]
        self.features = _convolutions(in_channels, blocks, batch_norm)
        if head == "pool":
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        else:
            self.classifier = _classifier(last * POOLED, max(1, round(4096 * width)), num_classes, dropout)
        _initialise(self)
        self.tap_points = _tap_points(self.features)
        self.register_normalisation()

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_classes] of inputs [B, in_channels, H, W], H and W at least 32."""
        return VGG.forward(self, self.normalise(x))

    def check_input(self, x: Tensor) -> None:
        wanted = self.arguments["in_channels"]
        if x.ndim != 4 or x.shape[1] != wanted or min(x.shape[2:]) < SMALLEST:
            found = ", ".join(map(str, x.shape))
            raise AtlabError(f"vgg16 takes [B, {wanted}, H, W] with H and W of at least {SMALLEST}, found [{found}]")


def vgg16(
    num_classes: int,
    width: float = 1.0,
    in_channels: int = 1,
    dropout: float = 0.5,
    batch_norm: bool = False,
    head: str = "flatten",
) -> VGG16:
    """VGG16 (Simonyan & Zisserman 2015) with torchvision's parameter names and initialisation, any input size.

    Args:
        num_classes: size of the output.
        width: factor on all channels and hidden units (4096 x width); 1.0 is the paper's, 1/8 suits a laptop.
        in_channels: 1 for spectrograms, 3 for colour images.
        dropout: probability, before the last linear layer, and before the second of "flatten".
        batch_norm: normalise each convolution's output over the batch (torchvision's vgg16_bn).
        head: "flatten", the published one: 7 x 7 positions and three linear layers; or "pool": the mean over all positions
            and one linear layer. A few hundred clips train the network with `batch_norm=True, head="pool"`, but hardly
            the published one.

    Raises:
        AtlabError: an argument out of range; at the call: an input of another shape or below 32 x 32.

    >>> net = vgg16(num_classes=10, width=1 / 8)
    >>> net(torch.zeros(2, 1, 126, 129)).shape
    torch.Size([2, 10])
    >>> net.tap_points["conv5"], net.tap_points["conv5.pre"]
    ('features.11', 'features.10')
    >>> net = vgg16(num_classes=10, width=1 / 8, batch_norm=True, head="pool")
    >>> net.tap_points["conv5"], net.classifier[-1]
    ('features.16', Linear(in_features=64, out_features=10, bias=True))
    """
    for name, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        if isinstance(value, bool) or int(value) != value or value < 1:
            raise AtlabError(f"{name} must be a whole number of at least 1, found {value!r}")
    if not 0 < width <= 4:
        raise AtlabError(f"width must be above 0 and at most 4 (1.0 is the paper's), found {width!r}")
    if not 0 <= dropout < 1:
        raise AtlabError(f"dropout must be at least 0 and below 1, found {dropout!r}")
    if not isinstance(batch_norm, bool):
        raise AtlabError(f"batch_norm must be True or False, found {batch_norm!r}")
    if head not in HEADS:
        raise unknown("head", head, HEADS)
    return VGG16(int(num_classes), float(width), int(in_channels), float(dropout), batch_norm, head)


def _convolutions(inputs: int, blocks: list[list[int]], batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for block in blocks:
        for outputs in block:
            norm = [nn.BatchNorm2d(outputs)] if batch_norm else []
            layers += [nn.Conv2d(inputs, outputs, kernel_size=3, padding=1), *norm, nn.ReLU(inplace=True)]
            inputs = outputs
        layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
    return nn.Sequential(*layers)


def _classifier(inputs: int, hidden: int, num_classes: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(hidden, num_classes),
    )


def _initialise(model: nn.Module) -> None:
    """torchvision's: He normal (fan out) convolutions, normal(0, 0.01) linear layers, zero biases."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            nn.init.zeros_(parameter)


def _tap_points(features: nn.Sequential) -> dict[str, str]:
    activations = [i for i, module in enumerate(features) if isinstance(module, nn.ReLU)]
    after = {f"conv{n}": f"features.{i}" for n, i in enumerate(activations, 1)}
    return after | {f"conv{n}.pre": f"features.{i - 1}" for n, i in enumerate(activations, 1)}
