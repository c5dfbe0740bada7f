"""What the loop asks of a loss term; warm-up."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from atlab.errors import AtlabError


def ramp(epoch: int | None, warm_up: int) -> float:
    """Share of beta in an epoch (from 0): 0 in the first, 1 after `warm_up` epochs; AtlabError if the epoch is not known.

    >>> [ramp(epoch, 4) for epoch in (0, 1, 4, 9)], ramp(0, 0)
    ([0.0, 0.25, 1.0, 1.0], 1.0)
    """
    if not warm_up:
        return 1.0
    if epoch is None:
        raise AtlabError(f"warm_up={warm_up} needs the epoch: call set_epoch(n), n from 0, at the start of every epoch")
    return min(1.0, epoch / warm_up)


class LossTerm(Protocol):
    """A loss added to the target's: called with the batch after the model's forward pass on it: -> scalar.

    One that changes over time has a method `set_epoch`, called with the number of each epoch (from 0); one with weights of
    its own has them in an attribute `module`, which is trained too; one that measures more has a list `compared` of names
    and after each call a dictionary `values` of one scalar for each, which are logged.
    """

    name: str

    def __call__(self, x: Tensor, index: Tensor | None = None) -> Tensor: ...
