"""Schedules of learning rates, as functions of the step."""

from __future__ import annotations

import math

SCHEDULES = ("constant", "one_cycle")


def one_cycle(step: int, steps: int, largest: float) -> float:
    """The learning rate of step 0 to steps - 1: from largest / 25 up for 30 % of the steps, then down to about 0, by cosines.

    The policy of Smith & Topin (2018) as `torch.optim.lr_scheduler.OneCycleLR` has it without cycling the momentum; a
    function of the step alone, so a training that is taken up again needs no state of it.

    >>> [round(one_cycle(step, 11, 0.1), 4) for step in (0, 2, 10)]
    [0.004, 0.096, 0.0]
    """
    first, last = largest / 25, largest / 25e4
    top = 0.3 * steps - 1
    low, share = (first, step / top) if step <= top else (last, (steps - 1 - step) / (steps - 1 - top))
    return low + (largest - low) * (1 - math.cos(math.pi * share)) / 2
