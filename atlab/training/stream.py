"""A second batch in every training step, for loss terms that act on other clips than the target's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from atlab.errors import AtlabError, unknown
from atlab.losses.term import LossTerm
from atlab.system import devices
from atlab.training.norms import batch_norms

if TYPE_CHECKING:
    from atlab.data import Batches

STATISTICS = ("shared", "apart")


@dataclass(frozen=True)
class Stream:
    """A second batch of clips in every step of `fit`, seen by the network and by loss terms of its own; its target labels are not used.

    The network runs on it after the target's batch. Which batch a step sees depends on the number of the step alone: the
    full batches of `batches.epoch(0)`, then those of `epoch(1)`, and so on; a short last batch is left out. Validation does
    not see it.

    Args:
        batches: `atlab.data.Batches` of (x [B, ...], y, index [B]); y is ignored.
        terms: loss terms called as term(x, index=index) after the network's forward pass on this batch; none for a control
            that shows what the batch does by itself.
        statistics: "shared": batch norms count it in their running statistics; "apart": it is normalised by its own batch
            and leaves the running statistics alone.

    Raises AtlabError for fewer clips than one batch holds and for unknown statistics.

    >>> import atlab
    >>> clips = atlab.data.InMemory(torch.randn(5, 1, 32, 32), torch.zeros(5, dtype=torch.long), batch_size=2)
    >>> [batch.index.tolist() for batch in itertools.islice(Stream(clips).after(1), 3)]
    [[2, 3], [0, 1], [2, 3]]
    """

    batches: Batches
    terms: Sequence[LossTerm] = ()
    statistics: str = "shared"

    def __post_init__(self) -> None:
        if self.statistics not in STATISTICS:
            raise unknown("stream statistics", self.statistics, STATISTICS)
        if self.batches.clips < self.batches.batch_size:
            raise AtlabError(
                f"the second stream needs at least one full batch of {self.batches.batch_size} clips, found "
                f"{self.batches.clips}"
            )

    def after(self, steps: int) -> Iterator[tuple]:
        """The batches that follow the first `steps` ones, without end."""
        each = self.batches.clips // self.batches.batch_size
        while True:
            number, start = divmod(steps, each)
            yield from itertools.islice(self.batches.epoch(number, start), each - start)
            steps += each - start

    def losses(self, model: nn.Module, batch: tuple, mode: devices.Precision) -> list[Tensor]:
        """Run the network on a batch of the stream: -> the value of each term, a scalar."""
        x = batch[0].to(mode.device, non_blocking=True)
        with mode.autocast(), torch.set_grad_enabled(bool(self.terms)), self._counted(model):
            model(x)
            return [term(x, index=batch[2]) for term in self.terms]

    @contextmanager
    def _counted(self, model: nn.Module) -> Iterator[None]:
        """Batch norms that train leave their running statistics alone here if these are to stay apart."""
        apart = self.statistics == "apart"
        norms = [norm for norm in batch_norms(model) if apart and norm.training and norm.track_running_stats]
        for norm in norms:
            norm.track_running_stats = False
        try:
            yield
        finally:
            for norm in norms:
                norm.track_running_stats = True
