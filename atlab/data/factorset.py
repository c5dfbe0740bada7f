"""FactorSet: inputs and every label factor of a data set, in one folder that serves many tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atlab.data.stored import read_card, read_factors, read_inputs
from atlab.errors import AtlabError, unknown

if TYPE_CHECKING:
    import pandas as pd

BLOCK = 1 << 20  # numbers read at a time
PIECE = 1 << 16  # bytes
FILES = ("inputs.npy", "factors.parquet", "card.json")


class FactorSet:
    """A folder of `inputs.npy` (memory-mapped), `factors.parquet` (one row per clip) and `card.json`.

    Target and orthogonal task are two columns of the same data. Open one with `FactorSet.open`; the writers
    are `atlab.data.build` and the recipes on top of it.

    Attributes:
        factors: one row per clip; columns `id` (unique), `source` (clips cut from one recording share it),
            `duration` (s, before padding), then the factors.
        card: name, kind, licence, sample rate, counts, dropped clips, content hash.

    >>> import atlab, tempfile
    >>> fs = atlab.data.toy(tempfile.mkdtemp() + "/toy", words=2, speakers=3, repetitions=4)
    >>> len(fs), fs.factor_names, fs.classes("word"), fs.read([0, 5]).shape
    (24, ['word', 'speaker'], ['word0', 'word1'], (2, 4000))
    """

    def __init__(self, path: Path, card: dict, factors: pd.DataFrame, inputs: np.ndarray) -> None:
        self.path, self.card, self.factors, self.inputs = path, card, factors, inputs

    @classmethod
    def open(cls, path: str | Path) -> FactorSet:
        """Open a data set; AtlabError if it is missing, incomplete, truncated or of another format."""
        path = Path(path)
        missing = [name for name in FILES if not (path / name).is_file()]
        if missing:
            raise AtlabError(
                f"{path} is not a complete data set: {', '.join(missing)} missing; write one with `atlab data prepare`"
            )
        card = read_card(path)
        inputs, factors = read_inputs(path, card), read_factors(path, card)
        if card.get("sample_hash", found := sample_hash(path)) != found:
            raise AtlabError(
                f"{path} has changed since it was written (sample {found[:12]}, in the card {card['sample_hash'][:12]}); "
                "prepare it anew"
            )
        return cls(path, card, factors, inputs)

    def verify(self) -> None:
        """Read everything; AtlabError unless inputs and factors have the content hash of the card.

        >>> import atlab, tempfile
        >>> atlab.data.toy(tempfile.mkdtemp() + "/toy", words=2, speakers=2, repetitions=1).verify()
        """
        digest = content_digest(self.inputs.shape, self.inputs.dtype)
        flat = self.inputs.reshape(-1)
        for start in range(0, len(flat), BLOCK):
            digest.update(flat[start : start + BLOCK])
        add_factors(digest, self.factors)
        if (found := digest.hexdigest()) != self.content_hash:
            raise AtlabError(
                f"{self.path} is not what its card says: the content hash is {found[:12]}, in the card {self.content_hash[:12]}"
            )

    def __len__(self) -> int:
        return len(self.factors)

    @property
    def kind(self) -> str:
        """ "audio" (int16 waveforms [N, T]) or "image" (uint8 [N, C, H, W])."""
        return self.card["kind"]

    @property
    def sample_rate(self) -> int | None:
        """Samples per second; None for images."""
        return self.card["sample_rate"]

    @property
    def content_hash(self) -> str:
        """SHA-256 of inputs and factors: equal hashes, equal data."""
        return self.card["content_hash"]

    @property
    def factor_names(self) -> list[str]:
        """The columns that can be a task."""
        return list(self.card["factors"])

    def labels(self, factor: str, rows: Sequence[int] | None = None) -> np.ndarray:
        """Values of a factor, of all clips or of some rows; AtlabError for an unknown factor or row."""
        if factor not in self.factor_names:
            raise unknown("factor", factor, self.factor_names)
        values = self.factors[factor].to_numpy()
        return values if rows is None else values[row_numbers(rows, len(self))]

    def classes(self, factor: str) -> list:
        """Sorted distinct values of a factor."""
        return sorted(set(self.labels(factor).tolist()))

    def codes(self, factor: str, classes: Sequence | None = None) -> np.ndarray:
        """Class number of every clip, int64 [N]: its value's position in `classes` (all, sorted, if None).

        Clips of a class that is not among `classes` have -1; AtlabError if none of the values is.
        """
        import pandas as pd

        classes = self.classes(factor) if classes is None else list(classes)
        codes = pd.Index(classes).get_indexer(self.labels(factor)).astype(np.int64)
        if not (codes >= 0).any():
            raise AtlabError(
                f"factor {factor!r} has none of the classes {classes[:8]}; it has {self.classes(factor)[:8]}"
            )
        return codes

    def read(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """A copy of the inputs of some rows, int16 [n, T] or uint8 [n, C, H, W].

        AtlabError for a row that is not there.
        """
        return np.ascontiguousarray(self.inputs[row_numbers(rows, len(self))])


def content_digest(shape: tuple[int, ...], dtype: np.dtype) -> hashlib._Hash:
    """The beginning of a content hash, to be updated with all inputs in order and `add_factors`."""
    clips, *rest = shape
    return hashlib.sha256(f"{clips} {tuple(rest)} {dtype}".encode())


def add_factors(digest: hashlib._Hash, table: pd.DataFrame) -> None:
    """Update a content hash with the table of factors."""
    for start in range(0, len(table), 10_000):
        digest.update(table.iloc[start : start + 10_000].to_csv(index=False, header=start == 0).encode())


def sample_hash(path: Path) -> str:
    """SHA-256 of the factors' file, of the size of inputs.npy and of 16 of its pieces: a quick check of whether it is the same.

    Takes a moment whatever the size; `FactorSet.verify` reads everything.
    """
    size = (path / "inputs.npy").stat().st_size
    digest = hashlib.sha256(f"{size}".encode())
    digest.update((path / "factors.parquet").read_bytes())
    with open(path / "inputs.npy", "rb") as file:
        for piece in range(16):
            file.seek(max(0, size - PIECE) * piece // 15)
            digest.update(file.read(PIECE))
    return digest.hexdigest()


def row_numbers(rows: Sequence[int] | np.ndarray, clips: int) -> np.ndarray:
    """Row numbers, int64 [n], of numbers or of a mask over all `clips`; AtlabError if a row is not there.

    >>> row_numbers([2, 0], 3).tolist(), row_numbers(np.array([True, False, True]), 3).tolist()
    ([2, 0], [0, 2])
    """
    rows = np.asarray(rows)
    if rows.dtype == bool:
        if rows.shape != (clips,):
            raise AtlabError(f"expected a mask with one value for each of the {clips} clips, got shape {rows.shape}")
        return np.flatnonzero(rows)
    rows = rows.astype(np.int64)
    if rows.size and not 0 <= rows.min() <= rows.max() < clips:
        raise AtlabError(f"rows must lie in 0..{clips - 1}, found {rows.min()}..{rows.max()}")
    return rows
