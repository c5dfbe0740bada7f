"""Whether a training waits for its data: an epoch from a memory map, the first batch of a fresh process, imports.

The data set has as many clips of one second as asked for and takes no disk space: its inputs are a sparse file, zeros.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from atlab.data import Batches, FactorSet, loaders
from atlab.data.stored import FORMAT
from atlab.system import devices
from atlab.system.processes import cores
from benchmarks.loop import network, stepper
from benchmarks.rows import Row, in_turn, ratio_row

SAMPLES, CLASSES, BATCH = 16_000, 10, 13
FIRST_BATCH = """
import sys, time
import torch, pandas, pyarrow.parquet
import atlab.training
from atlab.data import Batches, FactorSet
torch.set_num_threads(1)
start = time.process_time()
fs = FactorSet.open(sys.argv[1])
batches = Batches(fs, range(len(fs)), fs.codes("word"), shuffle=True)
x = next(batches.epoch(0)).x
print(time.process_time() - start)
"""
IMPORTED = "import time; start = time.process_time(); import {module}; print(time.process_time() - start)"


def sparse_set(folder: Path, clips: int) -> FactorSet:
    """A FactorSet of `clips` seconds of silence, with the table of a large corpus."""
    folder.mkdir()
    np.lib.format.open_memmap(folder / "inputs.npy", "w+", np.int16, (clips, SAMPLES))
    numbers = np.arange(clips)
    pd.DataFrame(
        {
            "id": [f"clip{n:07d}" for n in numbers],
            "source": [f"file{n:07d}" for n in numbers],
            "duration": 1.0,
            "word": [f"word{n % CLASSES}" for n in numbers],
        }
    ).to_parquet(folder / "factors.parquet")
    card = {"format": FORMAT, "kind": "audio", "sample_rate": 16_000, "clips": clips, "factors": {"word": CLASSES}}
    (folder / "card.json").write_text(json.dumps(card | {"content_hash": f"silence {clips}"}))
    return FactorSet.open(folder)


def rows(clips: int, width: float, steps: int, repeats: int) -> list[Row]:
    """An epoch's steps over bare steps, the first batch, and what importing costs."""
    with tempfile.TemporaryDirectory() as folder:
        fs = sparse_set(Path(folder) / "set", clips)
        found = [
            epoch_row(fs, width, steps, repeats, time.process_time),
            epoch_row(fs, width, steps, repeats, time.perf_counter),
            first_batch_row(fs.path, min(repeats, 3), clips),
        ]
    return [*found, *(import_row(module, min(repeats, 3)) for module in ("atlab", "atlab.cli.main"))]


def epoch_row(fs: FactorSet, width: float, steps: int, repeats: int, clock: Callable[[], float]) -> Row:
    """Steps on batches of the set against as many steps on one batch that is there already.

    Processor time counts what the thread that reads ahead computes, as where it has no core of its own; the clock on the wall
    tells what is left where it has one.
    """
    devices.reuse_memory()  # as training does
    step = stepper(network(width), devices.precision("auto", "cpu"))
    batches = Batches(fs, range(len(fs)), fs.codes("word"), batch_size=BATCH, shuffle=True)

    def some(number: int) -> Iterator:
        epoch = batches.epoch(number)
        yield from (next(epoch) for _ in range(min(steps, len(batches))))
        epoch.close()

    held = next(iter(some(0)))
    times = in_turn(
        {
            "epoch": lambda: [step(x, y) for x, y, _ in some(1)],
            "bare": lambda: [step(held.x, held.y) for _ in range(min(steps, len(batches)))],
        },
        repeats,
        clock,
    )
    where = "memory map" if batches._resident is None else "memory"
    kind = "one core" if clock is time.process_time else f"by the clock, {cores()} cores"
    case = f"{len(fs):,} clips from {where}, width {width:g}, {kind}"
    return ratio_row("epoch", case, "bare steps", times["epoch"] / times["bare"], 1.03, "bare loop")


def first_batch_row(path: Path, repeats: int, clips: int) -> Row:
    """Seconds from the end of the imports to the first batch of a fresh process."""
    seconds = [float(fresh(FIRST_BATCH, str(path))) for _ in range(repeats)]
    return ratio_row("first batch", f"{clips:,} clips, after imports", "", seconds, 1.0, "wanted")


def import_row(module: str, repeats: int) -> Row:
    """Seconds that importing a module takes in a fresh process."""
    seconds = [float(fresh(IMPORTED.format(module=module))) for _ in range(repeats)]
    return ratio_row("import", module, "", seconds, 0.3, "wanted")


def fresh(code: str, *arguments: str) -> str:
    """What a fresh process prints."""
    return subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True).stdout


def front_end_row(clips: int, epochs: int) -> Row:
    """Epochs of a small set, whose spectrograms are kept, over the same ones when each epoch computes them."""
    with tempfile.TemporaryDirectory() as folder:
        fs = sparse_set(Path(folder) / "set", clips)
        seconds = {}
        for name, kept in (("kept", loaders.KEPT_BYTES), ("computed", 0)):
            before, loaders.KEPT_BYTES = loaders.KEPT_BYTES, kept
            try:
                batches = Batches(fs, range(clips), fs.codes("word"), batch_size=BATCH)
                start = time.process_time()
                for number in range(epochs):
                    for _ in batches.epoch(number):
                        pass
                seconds[name] = time.process_time() - start
            finally:
                loaders.KEPT_BYTES = before
    return ratio_row(
        "spectrograms",
        f"{clips} clips, {epochs} epochs",
        "computed each epoch",
        [seconds["kept"] / seconds["computed"]],
        1.5 / epochs,
        "operations",
    )
