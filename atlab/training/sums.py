"""Sums of losses and right answers over an epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from atlab.errors import AtlabError

# Steps between two looks at the losses on an accelerator, where each look waits for the device.
LOOK_EVERY = 25


class NotFinite(AtlabError):
    """A loss became NaN or infinite."""


class Sums:
    """Sums over clips of the losses and the right answers of one epoch, exact whenever it is interrupted.

    Values stay on the device and are fetched together, every step on a CPU and every `LOOK_EVERY` elsewhere.
    """

    def __init__(
        self, names: Sequence[str], what: str, device: torch.device, clips: int = 0, sums: Sequence[float] = ()
    ) -> None:
        self.names, self.what, self.clips = names, what, clips
        self.sums = list(sums) or [0.0] * (2 + len(names))
        self._every = 1 if device.type == "cpu" else LOOK_EVERY
        self._waiting: list[tuple[int, int, Tensor]] = []

    def add(self, step: int, clips: int, losses: list[Tensor], right: Tensor) -> bool:
        """Take one step's losses (target first) and right answers; True if they were fetched."""
        self._waiting.append((step, clips, torch.stack([right.float(), *(loss.detach().float() for loss in losses)])))
        if len(self._waiting) < self._every:
            return False
        self.fetch()
        return True

    def fetch(self) -> None:
        """Bring `clips` and `sums` up to date; AtlabError at the first loss that is not finite."""
        if not self._waiting:
            return
        for (step, clips, _), (right, *losses) in zip(
            self._waiting, torch.stack([w[2] for w in self._waiting]).tolist(), strict=True
        ):
            for name, loss in zip(("target loss", *(f"loss term {n!r}" for n in self.names)), losses, strict=True):
                if not math.isfinite(loss):
                    raise NotFinite(
                        f"the {name} became {loss} in {self.what}, step {step + 1}; "
                        "a smaller learning rate, fp32 precision or a look at the inputs may help"
                    )
            self.clips += clips
            self.sums = [
                total + value
                for total, value in zip(self.sums, [right, *(clips * loss for loss in losses)], strict=True)
            ]
        self._waiting.clear()

    def means(self) -> dict[str, float]:
        """{"loss": mean over clips, "accuracy": share right, <name>: mean over clips}."""
        self.fetch()
        right, *losses = (value / self.clips for value in self.sums)
        return {"loss": losses[0], "accuracy": right} | dict(zip(self.names, losses[1:], strict=True))
