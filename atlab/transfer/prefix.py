"""Frozen layers run once: their activations of every clip, from which the rest of the network is trained."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from atlab.data.loaders import Batch, Batches, Source
from atlab.errors import AtlabError
from atlab.models import weights_hash
from atlab.system.devices import Precision
from atlab.system.files import locked, new_folder
from atlab.training.evaluation import outputs

RESIDENT_BYTES = 1 << 30


class PrefixBatches(Source):
    """Batches of a frozen prefix's activations instead of network inputs; order and labels are those of `batches`.

    Each clip goes through the prefix once, in evaluation mode. Activations are float32; up to 1 GiB stays in memory, more
    is memory-mapped in `folder`, where it is found again by prefix, clips and precision. Training from them is training of
    the whole network with its first layers frozen, without running these again in every epoch.

    Args:
        prefix: the layers, normalisation included (`Cut.prefix`).
        batches: the clips.
        mode: precision and device, as in training.
        folder: where more than `resident_bytes` is stored.
        progress: show a bar on runs of more than 2 s.

    Raises AtlabError if the disk is too small.

    >>> import atlab
    >>> from atlab.system import devices
    >>> clips = atlab.data.InMemory(torch.rand(5, 3, 32, 32), torch.arange(5), batch_size=2)
    >>> net = atlab.models.alexnet(5, width=1 / 16, images="small")
    >>> prefix = atlab.transfer.Cut(net, 2, frozen=True).prefix
    >>> cached = PrefixBatches(prefix, clips, devices.precision("fp32", "cpu"))
    >>> [tuple(batch.x.shape) for batch in cached.epoch(0)]
    [(2, 12, 7, 7), (2, 12, 7, 7), (1, 12, 7, 7)]
    """

    def __init__(
        self,
        prefix: nn.Module,
        batches: Batches,
        mode: Precision,
        folder: str | Path | None = None,
        progress: bool = False,
        resident_bytes: int = RESIDENT_BYTES,
    ) -> None:
        self.rows = batches.rows
        self._in_order_of(batches)
        key = ["atlab-activations-1", weights_hash(prefix), batches.identity, mode.name, mode.channels_last]
        self.identity = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
        shape = _run(prefix, next(iter(batches.epoch(0))).x[:1], mode).shape[1:]
        size = 4 * batches.clips * int(np.prod(shape))
        self._device = mode.device
        if folder is None or size <= resident_bytes:
            self.x = torch.empty(batches.clips, *shape, device=mode.device)
            self.y = _fill(self.x, prefix, batches, mode, progress)
            return
        place = Path(folder) / self.identity
        with locked(place):
            if not place.exists():
                _store(place, shape, size, prefix, batches, mode, progress)
        self.x = np.load(place / "activations.npy", mmap_mode="r")
        self.y = torch.from_numpy(np.load(place / "labels.npy")).to(mode.device)

    def like(self, batches: Batches) -> PrefixBatches:
        """The same activations in the order of other batches of the same clips; AtlabError if the clips are others."""
        if not torch.equal(batches.rows, self.rows):
            raise AtlabError("activations are of other clips than the batches whose order was asked for")
        other = copy.copy(self)
        other._in_order_of(batches)
        return other

    def _in_order_of(self, batches: Batches) -> None:
        self.batch_size, self.shuffle = batches.batch_size, batches.shuffle
        self.seed, self.least = batches.seed, batches.least

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on."""
        for part in self._order(number, start):
            if isinstance(self.x, Tensor):
                x = self.x[part.to(self._device)]
            else:
                x = torch.from_numpy(self.x[part.numpy()]).to(self._device, non_blocking=True)
            yield Batch(x, self.y[part.to(self._device)], self.rows[part])


@torch.no_grad()
def _run(prefix: nn.Module, x: Tensor, mode: Precision) -> Tensor:
    prefix.eval()
    with mode.settings(), mode.autocast():
        return prefix(x.to(mode.device)).float()


def _fill(x: Tensor | np.ndarray, prefix: nn.Module, batches: Batches, mode: Precision, progress: bool) -> Tensor:
    """Write the activations of all clips into x, in the order of the rows: -> class numbers [N], in that order."""
    place = {int(row): i for i, row in enumerate(batches.rows)}
    y = torch.empty(batches.clips, dtype=torch.int64, device=mode.device)
    for batch, found in outputs(prefix, batches, mode, title="frozen layers", progress=progress):
        at = torch.tensor([place[int(row)] for row in batch.index])
        if isinstance(x, Tensor):
            x[at.to(x.device)] = found.float()
        else:
            x[at.numpy()] = found.float().cpu().numpy()
        y[at.to(y.device)] = batch.y.to(y.device)
    return y


def _store(
    place: Path, shape: tuple, size: int, prefix: nn.Module, batches: Batches, mode: Precision, progress: bool
) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place.parent).free
    if size > free:
        raise AtlabError(
            f"the activations of the frozen layers need {size / 1e9:.1f} GB, {place.parent} has {free / 1e9:.1f} GB free; "
            "cached=False recomputes them instead"
        )
    with new_folder(place) as new:
        file = np.lib.format.open_memmap(new / "activations.npy", "w+", np.float32, (batches.clips, *shape))
        np.save(new / "labels.npy", _fill(file, prefix, batches, mode, progress).cpu().numpy())
        file.flush()
