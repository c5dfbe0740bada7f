"""AlexNet as torchvision has it, at any width, for photographs and for images of 32 x 32, with named layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import AlexNet as TorchvisionAlexNet

from atlab.errors import AtlabError, unknown
from atlab.models.normalised import Normalised, check_dropout, check_size, check_width

CHANNELS = (64, 192, 384, 256, 256)
HIDDEN = 4096


class Layout:
    """What differs between images of two sizes: the first convolution, the pooled side, the smallest input."""

    def __init__(self, kernel: int, stride: int, padding: int, pooled: int, smallest: int) -> None:
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.pooled, self.smallest = pooled, smallest


# At 32 x 32 torchvision's stride of 4 would leave one position after the poolings; 5 x 5 with stride 1 leaves 3 x 3.
LAYOUTS = {"photographs": Layout(11, 4, 2, 6, 63), "small": Layout(5, 1, 2, 3, 15)}


class AlexNet(Normalised, TorchvisionAlexNet):
    """torchvision's AlexNet with scaled channels and the input's mean and standard deviation as buffers.

    Attributes:
        tap_points: layer name -> module path, for `atlab.Taps`: "conv1".."conv5" are the activations after the
            non-linearity and before pooling, "conv1.pre".."conv5.pre" the convolutions.
        architecture, arguments: what `atlab.models.load` needs to build the network again.
        input_mean, input_std: scalar float32 buffers; forward subtracts and divides first.
    """

    architecture = "alexnet"

    def __init__(self, num_classes: int, width: float, in_channels: int, dropout: float, images: str) -> None:
        with torch.device("meta"):  # torchvision builds it at full width: neither time nor memory for that
            TorchvisionAlexNet.__init__(self, num_classes)
        self.arguments = {
            "num_classes": num_classes,
            "width": width,
            "in_channels": in_channels,
            "dropout": dropout,
            "images": images,
        }
        layout, hidden = LAYOUTS[images], max(1, round(HIDDEN * width))
        channels = [max(1, round(count * width)) for count in CHANNELS]
        self.layout = layout
        self.features = _convolutions(in_channels, channels, layout)
        self.avgpool = nn.AdaptiveAvgPool2d((layout.pooled, layout.pooled))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(channels[-1] * layout.pooled**2, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, num_classes),
        )
        places = [i for i, module in enumerate(self.features) if isinstance(module, nn.Conv2d)]
        self.tap_points = {f"conv{n}": f"features.{i + 1}" for n, i in enumerate(places, 1)}
        self.tap_points |= {f"conv{n}.pre": f"features.{i}" for n, i in enumerate(places, 1)}
        self.register_normalisation()

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_classes] of inputs [B, in_channels, H, W]."""
        return TorchvisionAlexNet.forward(self, self.normalise(x))

    def check_input(self, x: Tensor) -> None:
        wanted, smallest = self.arguments["in_channels"], self.layout.smallest
        if x.ndim != 4 or x.shape[1] != wanted or min(x.shape[2:]) < smallest:
            found = ", ".join(map(str, x.shape))
            raise AtlabError(
                f"alexnet for {self.arguments['images']} images takes [B, {wanted}, H, W] with H and W of at "
                f"least {smallest}, found [{found}]"
            )


def alexnet(
    num_classes: int, width: float = 1.0, in_channels: int = 3, dropout: float = 0.5, images: str = "photographs"
) -> AlexNet:
    """AlexNet (Krizhevsky 2014, "One weird trick") with torchvision's parameter names and initialisation.

    Five convolutions and three linear layers, as many as in Yosinski et al. 2014; their network is `caffenet`.

    Args:
        num_classes: size of the output.
        width: factor on all channels and hidden units (4096 x width).
        in_channels: 3 for colour images.
        dropout: probability, before both hidden layers.
        images: "photographs" (torchvision's: 11 x 11 with stride 4 first, 224 x 224 intended) or "small" (5 x 5
            with stride 1 first, 32 x 32 intended).

    Raises:
        AtlabError: an argument out of range; at the call: an input of another shape or too small a one.

    >>> net = alexnet(num_classes=5, width=1 / 8, images="small")
    >>> net(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 5])
    >>> net.tap_points["conv5"]
    'features.11'
    """
    if images not in LAYOUTS:
        raise unknown("kind of images", images, LAYOUTS)
    return AlexNet(
        check_size("num_classes", num_classes),
        check_width(width),
        check_size("in_channels", in_channels),
        check_dropout(dropout),
        images,
    )


def _convolutions(in_channels: int, channels: list[int], layout: Layout) -> nn.Sequential:
    one, two, three, four, five = channels
    return nn.Sequential(
        nn.Conv2d(in_channels, one, layout.kernel, layout.stride, layout.padding),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(one, two, kernel_size=5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(two, three, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(three, four, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(four, five, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(kernel_size=3, stride=2),
    )
