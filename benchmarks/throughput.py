"""Whether a second worker pays: training runs by a sweep of one worker and of two.

    python -m benchmarks.throughput --runs 4 --epochs 48 --repeats 2 --out FILE

The runs are baselines of the grid table3_words at laptop scale, of half a minute or more each (`--epochs`), on one thread as every
run. One worker and two take turns, each with a root of its own; every sweep is whole, from the start of its workers to their
end, and so are the seconds until its first kernel starts. 1.8 is wanted. What the machine allows is measured in the same turn:
steps of two processes, each bound to a core and doing nothing else, over those of one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import nbformat
import torch

from atlab import experiment
from atlab.runs import grid, jobs, sweep
from atlab.system import devices
from benchmarks.loop import network, sound, stepper
from benchmarks.rows import HEADER, line, ratio_row


class Swept(NamedTuple):
    """Seconds of a sweep: in all, until its first kernel starts, and of its shortest run."""

    seconds: float
    start: float
    shortest_run: float


def baselines(runs: int, epochs: int) -> grid.Grid:
    """Baselines of the laptop's grid that differ in the seed."""
    opened = jobs.load("table3_words", "laptop", epochs=epochs)
    baseline = next(job for job in opened.jobs if job["strategy"] == "baseline")
    return grid.Grid(opened.study, opened.notebook, [baseline | {"seed": seed} for seed in range(runs)])


def measure(what: grid.Grid, workers: int) -> Swept:
    """Run all of a grid, in a root of its own."""
    with tempfile.TemporaryDirectory() as root:
        start = time.time()
        outcome = sweep.run(what, root=root, workers=workers, progress=False).check()
        seconds = time.time() - start
        executed = [nbformat.read(folder / "out.ipynb", 4).metadata.papermill for folder in outcome.folders]
        first = min(datetime.fromisoformat(run.start_time).timestamp() for run in executed)
        return Swept(seconds, first - start, min(run.duration for run in executed))


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
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--bare", nargs=4, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.bare:
        core, start, seconds, width = a.bare
        print(count_steps(int(core), float(start), float(seconds), float(width)))
        return
    what, load = baselines(a.runs, a.epochs), os.getloadavg()[0]
    experiment.load_data(what.jobs[0]["data"])  # rendered once, before anything is timed
    ratios, bare, swept = [], [], {1: [], 2: []}
    for _ in range(a.repeats):
        bare.append(bare_steps(2, 0.125) / bare_steps(1, 0.125))
        for workers in swept:
            swept[workers].append(measure(what, workers))
        ratios.append(swept[1][-1].seconds / swept[2][-1].seconds)
    case = f"{a.runs} runs of {a.epochs} epochs, 2 workers"
    rows = [
        ratio_row("grid", case, "throughput of 1 worker", ratios, 1.8, "wanted", more_is_better=True),
        ratio_row("machine", "bare steps, 2 processes", "steps of 1 process", bare, 2.0, "cores", more_is_better=True),
    ]
    print(HEADER, *map(line, rows), sep="\n")
    for workers, found in swept.items():
        print(
            f"{workers} workers:",
            *(", ".join(f"{k} {v:.1f} s" for k, v in one._asdict().items()) for one in found),
            sep="\n  ",
        )
    if a.out:
        seconds = {workers: [one._asdict() for one in found] for workers, found in swept.items()}
        report = {"load_before": load, "sweeps": seconds, "rows": [row.as_dict() for row in rows]}
        a.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
