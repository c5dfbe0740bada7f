"""What moves the weights: Adam, or stochastic gradient descent as the transfer papers use it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from atlab.errors import AtlabError, unknown


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent with momentum and weight decay, and a learning rate that drops in steps.

    Attributes:
        momentum: at least 0, below 1; nesterov: take the gradient ahead of the step (Sutskever et al. 2013).
        weight_decay: factor of the weights that is added to their gradient.
        bias_rate, bias_decay: factors on the learning rate and the weight decay of biases.
        drops: shares of all steps, ascending between 0 and 1; after each the learning rate is a tenth of what it was.

    Raises AtlabError for a value out of range.

    >>> Sgd(drops=(0.5, 0.75)).rate(step=60, steps=100, first=0.1)
    0.01
    """

    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    bias_rate: float = 1.0
    bias_decay: float = 1.0
    drops: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise AtlabError(f"momentum must be at least 0 and below 1, found {self.momentum}")
        for name in ("weight_decay", "bias_rate", "bias_decay"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise AtlabError(f"{name} must be at least 0 and finite, found {getattr(self, name)}")
        shares = (0.0, *self.drops, 1.0)
        if not all(a < b for a, b in pairwise(shares)):
            raise AtlabError(f"drops must be ascending shares between 0 and 1, found {self.drops}")

    def rate(self, step: int, steps: int, first: float) -> float:
        """The learning rate of step 0 to steps - 1, when it begins at `first`."""
        return first / 10 ** sum(step >= round(share * steps) for share in self.drops)


# By the names that settings use. "caffe" is the solver of Caffe's reference network (Jia et al. 2014), which Yosinski et al.
# 2014 use: 450,000 iterations, a tenth of the rate after every 100,000. "densenet" is Huang et al. 2017, section 4.2, which
# Fayek et al. 2018 use: a tenth of the rate after half and after three quarters of the epochs.
OPTIMIZERS: dict[str, Sgd | None] = {
    "adam": None,
    "caffe": Sgd(weight_decay=5e-4, bias_rate=2.0, bias_decay=0.0, drops=(2 / 9, 4 / 9, 6 / 9, 8 / 9)),
    "densenet": Sgd(nesterov=True, weight_decay=1e-4, drops=(0.5, 0.75)),
}


def named(optimizer: str | Sgd) -> Sgd | None:
    """An optimiser by its name in `OPTIMIZERS`, None for Adam; AtlabError for another name."""
    if isinstance(optimizer, Sgd):
        return optimizer
    if optimizer not in OPTIMIZERS:
        raise unknown("optimizer", optimizer, OPTIMIZERS)
    return OPTIMIZERS[optimizer]


def build(sgd: Sgd | None, model: nn.Module, rate: float) -> torch.optim.Optimizer:
    """The optimiser of the parameters that learn; Adam if `sgd` is None. AtlabError if all are frozen.

    The learning rate of a group of parameters is to be `rate` times its "factor".
    """
    learns = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not learns:
        raise AtlabError("no parameter to train: all are frozen")
    if sgd is None:
        # The fused Adam takes a tenth of the time of the plain one at full width, on a CPU.
        return torch.optim.Adam([{"params": list(learns.values()), "factor": 1.0}], lr=rate, fused=True)
    groups = []
    for of_biases, factor, decay in ((False, 1.0, 1.0), (True, sgd.bias_rate, sgd.bias_decay)):
        if chosen := [p for name, p in learns.items() if (name.rpartition(".")[2] == "bias") == of_biases]:
            groups.append({"params": chosen, "factor": factor, "weight_decay": sgd.weight_decay * decay})
    return torch.optim.SGD(groups, lr=rate, momentum=sgd.momentum, nesterov=sgd.nesterov)
