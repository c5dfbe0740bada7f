"""What the loop asks of a loss term; warm-up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:
    pass


def ramp(epoch: int, warm_up: int) -> float:
    """Share of beta in an epoch (from 0): 0 in the first, 1 after `warm_up` epochs.

    >>> [ramp(epoch, 4) for epoch in (0, 1, 4, 9)], ramp(0, 0)
    ([0.0, 0.25, 1.0, 1.0], 1.0)
    """
    return min(1.0, epoch / warm_up) if warm_up else 1.0


class LossTerm(Protocol):
    """A loss beside the target's: called with the batch after the model's forward pass on it: -> scalar.

    One that changes over time has an attribute `epoch`, set here to the number of the present epoch (from 0); one with
    weights of its own has them in an attribute `module`, which is trained along.
    """

    name: str

    def __call__(self, x: Tensor, index: Tensor | None = None) -> Tensor: ...
