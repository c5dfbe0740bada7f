"""Frames of speech for acoustic models: 40 log mel energies every 10 ms, with neighbours, and what is said in each frame."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atlab.data.alphabet import PHONES
from atlab.data.factorset import row_numbers
from atlab.data.loaders import Batch, Source
from atlab.data.mel import FRAME, MELS, STRIDE, filterbank
from atlab.errors import AtlabError
from atlab.transfer.phones.transcripts import fold, segments

__all__ = ["FRAME", "MELS", "STRIDE", "FrameBatches", "Frames", "features", "filterbank", "phone_codes"]

BLOCK = 256  # clips


@dataclass(frozen=True)
class Frames:
    """The frames of some clips, one after the other.

    Attributes:
        x: log mel energies, float32 [frames, 40].
        rows: the clips' row numbers in their data set, int64 [clips].
        offsets: where each clip's frames begin in x, and the end, int64 [clips + 1].
        first: number of each clip's first frame, counted from the beginning of the clip, int64 [clips].
    """

    x: Tensor
    rows: np.ndarray
    offsets: np.ndarray
    first: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> np.ndarray:
        """Frames of each clip, int64 [clips]."""
        return np.diff(self.offsets)

    @property
    def clip(self) -> np.ndarray:
        """Each frame's clip, a position in `rows`, int64 [frames]."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def centres(self) -> np.ndarray:
        """Sample at each frame's centre, counted from the beginning of its clip, int64 [frames]."""
        within = np.arange(len(self.x)) - self.offsets[self.clip]
        return (self.first[self.clip] + within) * STRIDE + FRAME // 2

    def normalisation(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each coefficient, float32 [40, 1] each, for `set_normalisation`."""
        x = self.x.double()
        return x.mean(0)[:, None].float(), x.std(0, unbiased=False).clamp_min(1e-6)[:, None].float()


def features(fs, rows: Sequence[int] | np.ndarray | None = None, margin: float = 0.05) -> Frames:
    """Log mel energies (log-MFSC) of the clips of a 16 kHz data set: 25 ms frames every 10 ms, Hamming window.

    Fayek, Cavedon & Wu 2018, section 3. Padding is left out: frames begin `margin` seconds before the first sample that is not
    zero and end as long after the last.

    Raises AtlabError for another sample rate, and for a silent clip.

    >>> import atlab, tempfile
    >>> fs = atlab.data.toy(tempfile.mkdtemp() + "/toy")
    >>> frames = features(fs, [0, 1])
    >>> frames.x.shape[1], len(frames), int(frames.offsets[-1]) == len(frames.x)
    (40, 2, True)
    """
    if fs.sample_rate != 16_000:
        raise AtlabError(f"frames are cut at 16 kHz; this data set has a sample rate of {fs.sample_rate}")
    rows = row_numbers(np.arange(len(fs)) if rows is None else rows, len(fs))
    extra = round(margin * fs.sample_rate)
    parts, first, counts = [], [], []
    for start in range(0, len(rows), BLOCK):
        waves = fs.read(rows[start : start + BLOCK])
        energies = filterbank(waves)
        for row, wave, energy in zip(rows[start:], waves, energies, strict=False):
            heard = np.flatnonzero(wave)
            if not len(heard):
                raise AtlabError(f"the clip in row {row} is silent")
            begin = max(0, heard[0] - extra) // STRIDE
            end = min(len(energy), max(begin + 1, (heard[-1] + extra - FRAME) // STRIDE + 1))
            parts.append(energy[begin:end])
            first.append(begin)
            counts.append(end - begin)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Frames(torch.cat(parts), rows, offsets, np.asarray(first, dtype=np.int64))


def phone_codes(frames: Frames, texts: Sequence[str], phones: int = 48) -> np.ndarray:
    """The phone at each frame's centre by the transcription's own times, int64 [frames]; -1 where there is none.

    `texts` are those of the frames' clips, in their order (`atlab.transfer.phones.transcripts.phones`); codes are positions in
    `PHONES[phones]`. AtlabError if there are more or fewer texts than clips.
    """
    if len(texts) != len(frames):
        raise AtlabError(f"expected one transcription per clip, got {len(texts)} for {len(frames)}")
    number = {name: code for code, name in enumerate(PHONES[phones])}
    centres, codes = frames.centres(), np.full(len(frames.x), -1, dtype=np.int64)
    for clip, text in enumerate(texts):
        own = slice(*frames.offsets[clip : clip + 2])
        for first, end, phone in segments(text):
            for name in fold([phone], phones):
                codes[own][(centres[own] >= first) & (centres[own] < end)] = number[name]
    return codes


class FrameBatches(Source):
    """Batches of frames in their context: x [B, 1, 40, context] float32, class numbers y [B], frame numbers index [B].

    Beyond the ends of a clip its first and last frame are repeated.

    Args:
        frames: the clips' frames.
        codes: class number of each frame, int64 [frames]; frames with -1 are left out.
        context: frames with their neighbours, odd.
        every: use every n-th frame; neighbours are alike, and n = 3 is three times cheaper. 1 for all.

    Raises AtlabError for an even context, codes of another length, and if no frame has a class.

    >>> import atlab, tempfile
    >>> frames = features(atlab.data.toy(tempfile.mkdtemp() + "/toy"), [0, 1])
    >>> batches = FrameBatches(frames, np.zeros(len(frames.x)), context=15, batch_size=8)
    >>> next(batches.epoch(0)).x.shape
    torch.Size([8, 1, 40, 15])
    """

    def __init__(
        self,
        frames: Frames,
        codes: np.ndarray,
        *,
        context: int = 15,
        every: int = 1,
        batch_size: int = 256,
        shuffle: bool = False,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        codes = np.asarray(codes, dtype=np.int64)
        if context < 1 or context % 2 == 0:
            raise AtlabError(f"context is {context}; allowed: an odd number of frames")
        if len(codes) != len(frames.x):
            raise AtlabError(f"expected one class number per frame, got {len(codes)} for {len(frames.x)}")
        known = np.flatnonzero(codes >= 0)[::every]
        if shuffle and len(known) % batch_size == 1:  # batch norm cannot learn from a batch of one
            known = known[:-1]
        if not len(known):
            raise AtlabError("no frame has a class")
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.rows = torch.from_numpy(known)
        clip = frames.clip[known]
        around = known[:, None] + np.arange(context) - context // 2
        around = np.clip(around, frames.offsets[clip][:, None], frames.offsets[clip + 1][:, None] - 1)
        self._around = torch.from_numpy(around).to(device)
        self._x, self._y = frames.x.to(device), torch.from_numpy(codes[known]).to(device)

    @property
    def identity(self) -> str:
        """Hash of frames, neighbours and row numbers."""
        digest = hashlib.sha256(self._x.cpu().numpy().tobytes())
        digest.update(self._around.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on."""
        for part in self._order(number, start):
            at = part.to(self._x.device)
            yield Batch(self._x[self._around[at]].transpose(1, 2).unsqueeze(1), self._y[at], self.rows[part])
