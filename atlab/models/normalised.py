"""What networks that normalise their own input share: statistics of the training data as buffers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atlab.errors import AtlabError


class Normalised(nn.Module):
    """A network with buffers `input_mean` and `input_std`, float32, of a shape that broadcasts against its inputs.

    Attributes:
        architecture, arguments: what `atlab.models.load` needs to build the network again.
        tap_points: layer name -> module path, for `atlab.Taps`.
        stages: the network cut into its layers or blocks, in the order of computation; the last is "output". VGG16 and
            AlexNet have torchvision's `features` and `classifier` instead.
    """

    architecture: str
    arguments: dict
    tap_points: dict[str, str]
    stages: nn.Sequential
    input_mean: Tensor
    input_std: Tensor

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.register_normalisation(shape)

    def register_normalisation(self, shape: tuple[int, ...] = ()) -> None:
        """Add the buffers, mean 0 and standard deviation 1: for networks that another class initialises."""
        self.register_buffer("input_mean", torch.zeros(shape))
        self.register_buffer("input_std", torch.ones(shape))

    def set_normalisation(self, mean, std) -> None:
        """Set mean and standard deviation (input units) of the data this network is trained on.

        Numbers, or arrays of the buffers' shape. AtlabError unless all are finite and every std is positive.

        >>> net = Normalised((2,))
        >>> net.set_normalisation([0.5, 1.0], 2.0)
        >>> net.input_mean.tolist(), net.input_std.tolist()
        ([0.5, 1.0], [2.0, 2.0])
        """
        mean, std = (torch.as_tensor(value, dtype=torch.float32).cpu() for value in (mean, std))
        if not (mean.isfinite().all() and std.isfinite().all() and (std > 0).all()):
            raise AtlabError(
                f"normalisation needs a finite mean and a positive standard deviation, found {mean.tolist()} and {std.tolist()}"
            )
        for name, value in (("mean", mean), ("std", std)):
            if value.ndim and value.shape != self.input_mean.shape:
                raise AtlabError(
                    f"the {name} has shape {list(value.shape)}; allowed: a number or {list(self.input_mean.shape)}"
                )
        self.input_mean.copy_(mean.expand_as(self.input_mean))
        self.input_std.copy_(std.expand_as(self.input_std))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_classes]."""
        return self.stages(self.normalise(x))

    def normalise(self, x: Tensor) -> Tensor:
        """Checked inputs less the mean, divided by the standard deviation."""
        self.check_input(x)
        return (x - self.input_mean) / self.input_std

    def check_input(self, x: Tensor) -> None:
        """AtlabError for an input of another shape than the network takes."""
        raise AtlabError(f"{type(self).__name__} does not say which inputs it takes: define check_input")


def check_size(name: str, value: int, least: int = 1) -> int:
    """A whole number of at least `least`; AtlabError otherwise."""
    if isinstance(value, bool) or int(value) != value or value < least:
        raise AtlabError(f"{name} must be a whole number of at least {least}, found {value!r}")
    return int(value)


def check_width(width: float) -> float:
    """A factor above 0 and at most 4; AtlabError otherwise."""
    if not 0 < width <= 4:
        raise AtlabError(f"width must be above 0 and at most 4 (1.0 is the paper's), found {width!r}")
    return float(width)


def check_dropout(dropout: float) -> float:
    """A probability of at least 0 and below 1; AtlabError otherwise."""
    if not 0 <= dropout < 1:
        raise AtlabError(f"dropout must be at least 0 and below 1, found {dropout!r}")
    return float(dropout)
