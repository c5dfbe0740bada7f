"""What a GPU makes of it, in under ten minutes: steps against the card's own rate and their rivals, the loop, runs side by side.

    python -m benchmarks.gpu --out FILE [--device cuda] [--minutes 9]

Rows, each next to its rival: the plain step over the time that the card's measured rate of matrix products would take for its
operations; anti-transfer steps as in `benchmarks.at_step`; the plain step as `torch.compile` makes it (CUDA graphs) over the
eager one, at the paper's batch of 13; an epoch of `fit` over bare steps with data on the card; steps a second of several
processes on one card over those of one; and the hours of one cell of the paper's tables (10,000 clips, 50 epochs, AT at 13
layers in turn), extrapolated from epochs of 2,000 clips at four layers. Sections that no time is left for are named and left out.
`--device cpu --tiny` runs the same code on a CPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import atlab
from atlab import cost, training
from atlab.data import InMemory
from atlab.system import devices
from benchmarks import at_step, loop
from benchmarks.machine import describe
from benchmarks.rows import HEADER, Row, in_turn, line, ratio_row


@dataclass(frozen=True)
class Size:
    """How much of everything is taken."""

    widths: tuple[float, ...] = (1.0, 1 / 8)
    batches: tuple[int, ...] = (13, 64)
    layers: tuple[str, ...] = ("conv1", "conv5", "conv9", "conv13")
    matrix: int = 8192
    repeats: int = 15
    clips: int = 2000
    processes: tuple[int, ...] = (1, 2, 4)
    seconds: float = 10.0
    shape: tuple[int, int] = (126, 129)


TINY = Size((1 / 32,), (4,), ("conv1", "conv13"), 64, 2, 8, (1,), 0.2, (32, 32))


def roofline(size: Size, mode: devices.Precision) -> Iterator[Row]:
    """The plain step over its operations at the rate of a large matrix product in the same precision."""
    kind = torch.bfloat16 if mode.name == "bf16" else torch.float32
    a = torch.rand(size.matrix, size.matrix, device=mode.device, dtype=kind)
    product = in_turn({"product": lambda: a @ a}, size.repeats, loop.clock(mode.device))["product"]
    rate = 2 * size.matrix**3 / float(np.median(product))
    for width in size.widths:
        for batch in size.batches:
            model = loop.network(width)
            floor = cost.step_flops(model, batch=batch, shape=(1, *size.shape)) / rate
            times = in_turn({"step": _step(model, mode, batch, size.shape)}, size.repeats, loop.clock(mode.device))
            case = f"width {width:g}, batch {batch}, {mode.name}, {rate / 1e12:.1f} TFLOP/s"
            yield ratio_row("plain step", case, "rate of products", times["step"] / floor, 2.0, "operations")


def steps(size: Size, mode: devices.Precision) -> Iterator[Row]:
    """Cached, live and rival steps over the plain one."""
    for width in size.widths:
        for batch in size.batches:
            yield from at_step.rows(
                list(size.layers), width, size.repeats, batch=batch, device=str(mode.device), shape=(1, *size.shape)
            )


def compiled(size: Size, mode: devices.Precision) -> Iterator[Row]:
    """The plain step with the network compiled into CUDA graphs over the eager step, where starting kernels costs most."""
    for width in size.widths:
        batch, model = size.batches[0], loop.network(width)
        graphs = torch.compile(loop.network(width), mode="reduce-overhead")
        tasks = {"eager": _step(model, mode, batch, size.shape), "compiled": _step(graphs, mode, batch, size.shape)}
        times = in_turn(tasks, size.repeats, loop.clock(mode.device))
        case = f"width {width:g}, batch {batch}, {mode.name}, torch.compile"
        yield ratio_row("compiled step", case, "eager step", times["compiled"] / times["eager"], 1.0, "bare loop")


def fits(size: Size, mode: devices.Precision) -> Iterator[Row]:
    """Epochs of `fit` over bare ones, data on the device."""
    for width in size.widths:
        for batch in size.batches:
            yield loop.fit_row(width, 8 * batch, batch, min(size.repeats, 5), size.shape, str(mode.device))


def side_by_side(size: Size, mode: devices.Precision) -> Iterator[Row]:
    """Steps a second of several processes on one device over those of one."""
    width, rates = size.widths[-1], {}
    for count in size.processes:
        command = [sys.executable, "-m", "benchmarks.gpu", "--device", str(mode.device), "--steps", str(width)]
        start = str(time.time() + 20 if size.seconds > 1 else time.time())
        command += [start, str(size.seconds), str(size.batches[0]), *map(str, size.shape)]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        rates[count] = sum(float(process.communicate()[0].split()[-1]) for process in running) / size.seconds
    one = rates[size.processes[0]]
    for count in size.processes:
        case = f"width {width:g}, batch {size.batches[0]}, {count} processes"
        yield ratio_row("side by side", case, "1 process", [rates[count] / one], 1.0, "wanted", more_is_better=True)


def count_steps(width: float, start: float, seconds: float, batch: int, shape: tuple[int, int], device: str) -> int:
    """Steps that this process takes from the time `start` on."""
    mode = devices.precision("auto", device)
    step, now = _step(loop.network(width), mode, batch, shape), loop.clock(mode.device)
    step()
    time.sleep(max(0.0, start - time.time()))
    begin, taken = now(), 0
    while now() < begin + seconds:
        step()
        taken += 1
    return taken


def cell(size: Size, mode: devices.Precision) -> Iterator[Row]:
    """Hours of one cell of the paper's tables, from an epoch at each of some layers with a cached teacher."""
    width, batch = size.widths[0], size.batches[0]
    data = loop.sound(size.clips, batch, size.shape, mode.device)
    tenth = max(batch, size.clips // 10)
    validation = InMemory(data.x[:tenth], data.y[:tenth], batch_size=batch)  # their targets are among the cached ones
    now, seconds = loop.clock(mode.device), []
    with tempfile.TemporaryDirectory() as folder:
        for layer in size.layers:
            student, teacher = loop.network(width), atlab.Teacher(loop.network(width, 1), layer)
            term = atlab.AntiTransferLoss(student, atlab.CachedTeacher(teacher, data, Path(folder) / layer))
            start = now()
            training.fit(
                student, data, validation, loss_terms=[term], epochs=1, device=str(mode.device), progress=False
            )
            seconds.append(now() - start)
    hours = np.array(seconds) * 13 * 50 * (10_000 / size.clips) / 3600
    yield ratio_row("table cell", f"width {width:g}, hours (extrapolated)", "", hours, 1.0, "wanted")


def _step(model: torch.nn.Module, mode: devices.Precision, batch: int, shape: tuple[int, int]) -> Callable[[], None]:
    step = loop.stepper(model, mode)
    x = torch.rand(batch, 1, *shape, generator=torch.Generator().manual_seed(0)).to(mode.device)
    y = (torch.arange(batch) % loop.CLASSES).to(mode.device)
    return lambda: step(x, y)


SECTIONS = (roofline, steps, fits, side_by_side, cell, compiled)  # the compiler takes longest, and may fail


def measure(size: Size, mode: devices.Precision, minutes: float) -> tuple[list[Row], dict[str, str]]:
    """All rows, and why a section has none."""
    end, found, left_out = time.monotonic() + 60 * minutes, [], {}
    for section in SECTIONS:
        if time.monotonic() > end:
            left_out[section.__name__] = "no time was left"
            continue
        try:
            with mode.settings():
                for row in section(size, mode):
                    print(line(row), flush=True)
                    found.append(row)
        except (RuntimeError, OSError) as error:  # what a driver or compiler refuses
            left_out[section.__name__] = f"{type(error).__name__}: {error}".splitlines()[0]
    return found, left_out


def main(arguments: list[str] | None = None) -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--steps", nargs=6, help=argparse.SUPPRESS)
    a = parser.parse_args(arguments)
    if a.steps:
        width, start, seconds, batch, *shape = a.steps
        where = (int(shape[0]), int(shape[1]))
        print(count_steps(float(width), float(start), float(seconds), int(batch), where, a.device))
        return
    mode = devices.precision("auto", a.device)
    print(HEADER)
    found, left_out = measure(TINY if a.tiny else Size(), mode, a.minutes)
    for name, why in left_out.items():
        print(f"{name} was left out: {why}")
    if a.out:
        report = {"machine": describe(), "left_out": left_out, "rows": [row.as_dict() for row in found]}
        a.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
