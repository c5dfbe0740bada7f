"""Whether a second worker pays: notebooks that train, on one core with one worker and on two cores with two.

    python -m benchmarks.throughput --notebooks 8 --steps 60 --repeats 2 --out FILE

Each notebook trains VGG16 at 1/8 width on random inputs (batch 13, the precision that is chosen here). Every measurement is a
process of its own, bound to as many cores as it has workers (Linux); the two take turns. Started servers and imports are not
counted: a first sweep of a notebook a worker comes before. 1.8 is wanted. What the machine allows is measured beside it: steps
of two processes, each bound to a core and doing nothing else, over those of one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import torch
from nbformat.v4 import new_code_cell, new_notebook

from atlab.runs import grid, sweep
from atlab.system import devices
from benchmarks.loop import network, sound, stepper
from benchmarks.rows import HEADER, line, ratio_row

TRAINING = """
import torch
from benchmarks.loop import network, sound
from atlab import training
data = sound(13 * steps, 13, (126, 129))
training.fit(network(width), data, sound(13, 13, (126, 129)), epochs=1, device="cpu", progress=False)
print(torch.get_num_threads())
"""


def study(folder: Path, name: str, count: int, steps: int, width: float) -> grid.Grid:
    """A grid of notebooks that differ in a number only."""
    text = f"number = 0\nsteps = {steps}\nwidth = {width}"
    notebook = folder / f"{name}.ipynb"
    cells = [new_code_cell(text, metadata={"tags": ["parameters"]}), new_code_cell(TRAINING)]
    nbformat.write(new_notebook(cells=cells), notebook)
    return grid.Grid(name, notebook, [{"number": number} for number in range(count)])


def seconds_a_notebook(workers: int, count: int, steps: int, width: float) -> float:
    """Wall time of a sweep over its notebooks, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"root": Path(folder) / "runs", "workers": workers, "progress": False}
        sweep.run(study(Path(folder), "first", workers, 1, width), **options).check()
        start = time.monotonic()
        sweep.run(study(Path(folder), "timed", count, steps, width), **options).check()
        return (time.monotonic() - start) / count


def in_own_process(workers: int, count: int, steps: int, width: float) -> float:
    """The same in a fresh process, bound to as many cores as workers where the system can do that."""
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) < workers:
        raise SystemExit(f"{workers} workers need as many cores, this process may use {len(os.sched_getaffinity(0))}")
    command = [sys.executable, "-m", "benchmarks.throughput", "--measure", *map(str, (workers, count, steps, width))]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    return float(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout.split()[-1]
    )


def bare_steps(processes: int, width: float, seconds: float = 12.0) -> float:
    """Steps a second of processes that train, each on a core of its own, all in the same seconds."""
    start = time.time() + 10  # time to import
    command = [sys.executable, "-m", "benchmarks.throughput", "--bare"]
    running = [
        subprocess.Popen([*command, str(core), str(start), str(seconds), str(width)], stdout=subprocess.PIPE, text=True)
        for core in range(processes)
    ]
    return sum(float(process.communicate()[0].split()[-1]) for process in running) / seconds


def count_steps(core: int, start: float, seconds: float, width: float) -> int:
    """Steps that this process takes on one core from the time `start` on."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[core]})
    torch.set_num_threads(1)
    devices.reuse_memory()
    step, batch = (stepper(network(width), devices.precision("auto", "cpu")), next(sound(13, 13, (126, 129)).epoch(0)))
    for _ in range(3):
        step(batch.x, batch.y)
    time.sleep(max(0.0, start - time.time()))
    begin, steps = time.time(), 0
    while time.time() < begin + seconds:
        step(batch.x, batch.y)
        steps += 1
    return steps


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--notebooks", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--width", type=float, default=0.125)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--bare", nargs=4, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.bare:
        core, start, seconds, width = a.bare
        print(count_steps(int(core), float(start), float(seconds), float(width)))
        return
    if a.measure:
        workers, count, steps, width = a.measure
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(workers)])
        print(seconds_a_notebook(int(workers), int(count), int(steps), float(width)))
        return
    load, ratios, bare, seconds = os.getloadavg()[0], [], [], {1: [], 2: []}
    for _ in range(a.repeats):
        alone = bare_steps(1, a.width)
        bare.append(bare_steps(2, a.width) / alone)
        for workers in seconds:
            seconds[workers].append(in_own_process(workers, a.notebooks, a.steps, a.width))
        ratios.append(seconds[1][-1] / seconds[2][-1])
    case = f"{a.notebooks} notebooks of {a.steps} steps, 2 workers"
    rows = [
        ratio_row("grid", case, "throughput of 1 worker", ratios, 1.8, "wanted", more_is_better=True),
        ratio_row("machine", "bare steps, 2 processes", "steps of 1 process", bare, 2.0, "cores", more_is_better=True),
    ]
    print(HEADER, *map(line, rows), sep="\n")
    if a.out:
        report = {"load_before": load, "seconds_a_notebook": seconds, "rows": [row.as_dict() for row in rows]}
        a.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
