"""The suite: one table, every row next to its rival and its limit.

    python -m benchmarks [--quick] [--out FOLDER]

On one thread of a CPU, in processor time, rivals in turn in one process; medians and quartiles. Written to
FOLDER/<machine>.json. Benchmarks with commands of their own: study (a table, from data to report), sweep,
kernels and throughput (grids), precision (planned repetitions, simulated), gpu, stacked (networks at once), transfer, recipes and
large_sets (raw files to data sets), factorset_open, explore, probes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm.auto import tqdm

from benchmarks import at_step, inputs, loop
from benchmarks.machine import describe, label
from benchmarks.rows import HEADER, Row, line


@dataclass(frozen=True)
class Size:
    """How much of everything the suite takes."""

    layers: dict[float, list[str]] = field(
        default_factory=lambda: {1 / 8: at_step.LAYERS, 1 / 4: ["conv1", "conv5", "conv9", "conv13"]}
    )
    batches: tuple[int, ...] = (13, 64)
    repeats: int = 11
    memory: bool = True
    clips: int = 100_000
    steps: int = 40
    loop_width: float = 1 / 8
    loop_clips: int = 260


FULL = Size()
QUICK = Size({1 / 8: ["conv1", "conv5"]}, (13,), 3, False, 100_000, 10, 1 / 8, 52)


def measure(size: Size) -> Iterator[Row]:
    """Every row, as it is measured."""
    for width, layers in size.layers.items():
        for batch in size.batches:
            yield from at_step.rows(
                layers, width, size.repeats, batch=batch, memory=size.memory and batch == size.batches[0]
            )
    yield from inputs.rows(size.clips, size.loop_width, size.steps, min(size.repeats, 5))
    yield inputs.front_end_row(size.loop_clips, epochs=5)
    yield from loop.rows(size.loop_width, size.loop_clips, list(size.batches), min(size.repeats, 5))


def main(arguments: list[str] | None = None, size: Size | None = None) -> Path:
    """Measure, print, write: -> the file."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="about a minute on an idle core")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    a = parser.parse_args(arguments)
    torch.set_num_threads(1)
    machine, found = describe(), []
    print(HEADER)
    for row in tqdm(measure(size or (QUICK if a.quick else FULL)), desc="measuring", unit="row", leave=False):
        tqdm.write(line(row))
        found.append(row.as_dict())
    a.out.mkdir(parents=True, exist_ok=True)
    path = a.out / f"{label(machine)}.json"
    path.write_text(json.dumps({"machine": machine, "quick": a.quick, "rows": found}, indent=1) + "\n")
    print(f"written to {path}")
    return path


if __name__ == "__main__":
    main()
