"""What opening a data set costs beyond reading its table and mapping its inputs.

    python -m benchmarks.factorset_open --clips 100000 --repeats 9

Printed are the median time of `FactorSet.open` and its ratio to `numpy.load` with `pandas.read_parquet` of the
same files; both are timed in turn in one process, after a first time each.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from atlab.data import Clip, FactorSet, build

BLOCK = 1000


def block(start: int, clips: int) -> list[Clip]:
    """Clips of four samples; the table is that of a large corpus of words."""
    return [
        Clip(
            np.zeros(4, np.int16),
            {"id": f"clip{n:07d}", "source": f"folder/{n:07d}.wav", "duration": 1.0}
            | {"word": f"word{n % 35}", "speaker": f"speaker{n % 2618}"},
        )
        for n in range(start, min(start + BLOCK, clips))
    ]


def bare(path: Path) -> tuple[np.ndarray, pd.DataFrame]:
    return np.load(path / "inputs.npy", mmap_mode="r"), pd.read_parquet(path / "factors.parquet")


def seconds(call: Callable, path: Path) -> float:
    started = time.perf_counter()
    call(path)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=9)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, starts = Path(folder) / "set", range(0, a.clips, BLOCK)
        factors = ["word", "speaker"]
        build(path, starts, lambda start: block(start, a.clips), card={}, factors=factors, workers=0)
        times = [(seconds(FactorSet.open, path), seconds(bare, path)) for _ in range(a.repeats + 1)][1:]
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{a.clips:,} clips open in {1e3 * ours:.1f} ms, {ours / theirs:.2f} times the two files alone")


if __name__ == "__main__":
    main()
