"""Batches of network inputs: small sets are made once and live on the device, large ones are read ahead from the memory map."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from atlab.data.factorset import row_numbers
from atlab.data.spectrogram import frontend
from atlab.errors import AtlabError

RESIDENT_BYTES = 1 << 30
KEPT_BYTES = 1 << 29
AHEAD = 4  # batches
BLOCK = 512  # clips


class Batch(NamedTuple):
    """Network inputs x [B, ...] float32, class numbers y [B], both on the device; row numbers index [B]."""

    x: Tensor
    y: Tensor
    index: Tensor


class Source:
    """What every source of batches shares: the order of clips, which depends on (seed, epoch) only."""

    augmented = False
    rows: Tensor
    batch_size: int
    shuffle: bool
    seed: int
    least: int = 1  # clips in a batch: a smaller last one joins the one before it

    @property
    def clips(self) -> int:
        """Number of clips in an epoch."""
        return len(self.rows)

    def __len__(self) -> int:
        """Number of batches in an epoch; the last may be short, or long where it took in one of fewer clips than `least`."""
        whole, rest = divmod(self.clips, self.batch_size)
        return max(1, whole + (rest >= self.least))

    def _order(self, number: int, start: int) -> list[Tensor]:
        order = torch.arange(self.clips)
        if self.shuffle:
            generator = torch.Generator().manual_seed(
                int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
            )
            order = torch.randperm(self.clips, generator=generator)
        parts = list(order.split(self.batch_size))
        if len(parts) > len(self):
            parts[-2:] = [torch.cat(parts[-2:])]
        return parts[start:]


class Batches(Source):
    """Batches of some rows of a FactorSet or of a view; spectrograms are computed by batch on the device.

    Up to 1 GiB of inputs stays on the device as int16 or uint8, and up to 0.5 GiB of what the network sees of them, which
    then is computed in the first epoch only. Larger sets are gathered from the memory map by a thread, a few batches ahead.

    Args:
        fs: the data set.
        rows: row numbers.
        codes: class number of every clip of the data set, int64 [N].
        batch_size: clips per batch; the last one may be short. 13 is the paper's.
        device: where the batches are made.
        shuffle: a new order each epoch, which depends on (seed, epoch number) only.
        least: clips in a batch: a smaller last batch joins the one before it. Batch norm needs 2, clip kernels 4.

    Raises:
        AtlabError: no rows, a row outside the data set, codes of another length, a clip without a class, a
            batch size below 1.

    >>> import atlab, tempfile
    >>> fs = atlab.data.toy(tempfile.mkdtemp() + "/toy")
    >>> batches = Batches(fs, range(20), fs.codes("word"), batch_size=8)
    >>> [tuple(batch.x.shape) for batch in batches.epoch(0)]
    [(8, 1, 32, 129), (8, 1, 32, 129), (4, 1, 32, 129)]
    """

    def __init__(
        self,
        fs,
        rows,
        codes: np.ndarray,
        *,
        batch_size: int = 13,
        device: str | torch.device = "cpu",
        shuffle: bool = False,
        seed: int = 0,
        least: int = 1,
    ) -> None:
        rows, codes = row_numbers(rows, len(fs)), np.asarray(codes, dtype=np.int64)
        if batch_size < 1:
            raise AtlabError(f"a batch holds at least 1 clip, found batch_size={batch_size}")
        if not len(rows):
            raise AtlabError("no clips in this part of the split")
        if len(codes) != len(fs):
            raise AtlabError(
                f"codes hold a class number for every clip of the data set ({len(fs)}), found {len(codes)}"
            )
        if (codes[rows] < 0).any():
            bad = rows[codes[rows] < 0][:5].tolist()
            raise AtlabError(f"clips in rows {bad} have a class that the network does not know")
        self.fs, self.batch_size, self.shuffle, self.seed, self.least = fs, batch_size, shuffle, seed, least
        self.device = torch.device(device)
        self.rows = torch.from_numpy(rows)
        self._y = torch.from_numpy(codes[rows]).to(self.device)
        self._front = frontend(fs)
        if isinstance(self._front, torch.nn.Module):
            self._front.to(self.device)
        one = fs.read(rows[:1])
        self._resident = _read_all(fs, rows, one).to(self.device) if one.nbytes * len(rows) <= RESIDENT_BYTES else None
        self._kept: Tensor | None = None
        self._made = torch.zeros(len(rows), dtype=torch.bool)

    @property
    def identity(self) -> str:
        """Hash of data, rows and front end: equal identities, equal inputs."""
        name, sizes = (type(self._front).__name__, [getattr(self._front, part, None) for part in ("n_fft", "hop")])
        text = f"{self.fs.content_hash} {name} {sizes} ".encode()
        return hashlib.sha256(text + self.rows.numpy().tobytes()).hexdigest()[:16]

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on."""
        order = self._order(number, start)
        inputs = self._read_ahead(order) if self._resident is None else map(self._made_once, order)
        for part, x in zip(order, inputs, strict=True):
            yield Batch(x, self._y[part.to(self.device)], self.rows[part])

    def _made_once(self, part: Tensor) -> Tensor:
        """Network inputs of resident clips; kept if those of all clips are not too large."""
        where = part.to(self.device)
        if self._kept is None or not bool(self._made[part].all()):
            x = self._front(self._resident[where])
            if self._kept is None:
                if x[0].nbytes * self.clips > KEPT_BYTES:
                    return x
                self._kept = x.new_empty(self.clips, *x.shape[1:])
            self._kept[where] = x
            self._made[part] = True
        return self._kept[where]

    def _read_ahead(self, order: list[Tensor]) -> Iterator[Tensor]:
        """Network inputs gathered by a thread, a few batches ahead; it ends with its reader, who gets its errors.

        The thread computes the spectrograms too if that is the CPU's work, so that a second core hides it.
        """
        ready: queue.Queue = queue.Queue(AHEAD)
        on_cpu = self.device.type == "cpu"
        stop = threading.Event()

        def put(item: object) -> bool:
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    return True
                except queue.Full:
                    continue
            return False

        def gather() -> None:
            try:
                for part in order:
                    raw = torch.from_numpy(self.fs.read(self.rows[part].numpy()))
                    if on_cpu:
                        raw = self._front(raw)
                    if not put(raw.pin_memory() if self.device.type == "cuda" else raw):
                        return
            except BaseException as error:
                put(error)

        thread = threading.Thread(target=gather, name="read ahead", daemon=True)
        thread.start()
        try:
            for _ in order:
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item if on_cpu else self._front(item.to(self.device, non_blocking=True))
        finally:
            stop.set()
            thread.join()


def _read_all(fs, rows: np.ndarray, one: np.ndarray) -> Tensor:
    """All inputs of the rows, read in blocks under a bar that shows after 2 s; `one` is the first of them."""
    inputs = np.empty((len(rows), *one.shape[1:]), one.dtype)
    with tqdm(total=len(rows), desc="reading clips", unit="clip", delay=2, leave=False) as bar:
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            inputs[start : start + BLOCK] = fs.read(block)
            bar.update(len(block))
    return torch.from_numpy(inputs)


class InMemory(Source):
    """Batches of network inputs x [N, ...] that are in memory, with class numbers y [N] and row numbers [N].

    Raises AtlabError for no clip, and for x, y and rows of different lengths.

    >>> batches = InMemory(torch.zeros(5, 1, 8, 8), torch.arange(5), batch_size=2)
    >>> [batch.y.tolist() for batch in batches.epoch(0)]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        *,
        batch_size: int = 13,
        shuffle: bool = False,
        seed: int = 0,
        rows: Tensor | None = None,
    ) -> None:
        if len(x) != len(y) or not len(x) or (rows is not None and len(rows) != len(x)):
            shown = f"{len(x)} and {len(y)}" + (f", with {len(rows)} rows" if rows is not None else "")
            raise AtlabError(f"x and y must be of the same clips, found {shown}")
        self.x, self.y, self.batch_size, self.shuffle, self.seed = x, y, batch_size, shuffle, seed
        self.rows = torch.arange(len(x)) if rows is None else rows

    @property
    def identity(self) -> str:
        """Hash of inputs and rows."""
        return hashlib.sha256(self.x.cpu().contiguous().numpy().tobytes() + self.rows.numpy().tobytes()).hexdigest()[
            :16
        ]

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on."""
        for part in self._order(number, start):
            yield Batch(self.x[part.to(self.x.device)], self.y[part.to(self.y.device)], self.rows[part])
