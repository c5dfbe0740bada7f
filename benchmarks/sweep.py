"""What a sweep costs beyond the work of its notebooks: 16 notebooks of a few busy seconds on two workers.

    python -m benchmarks.sweep [--seconds 3] [--notebooks 16] [--out FILE]

Rivals, in one run: notebooks one after the other in one process (`atlab run`), and a sweep. Every notebook imports torch and then computes for a fixed processor time. Printed
is the wall time over the sum of that work divided by the workers (`over_ideal`), and the same without the kernels' start-up
(`beyond_kernels`): the time from papermill's start to a notebook's first cell, as its executed copy records it, and the start of
the workers, measured by a first sweep of two notebooks.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from datetime import datetime
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from atlab.runs import grid, notebooks, sweep

WORKERS = 2
WORK = """
import time, torch
end = time.process_time() + seconds
while time.process_time() < end:
    sum(range(10_000))
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seconds", type=float, default=3.0)
    arguments.add_argument("--notebooks", type=int, default=16)
    arguments.add_argument("--out", type=Path)
    given = arguments.parse_args()
    load = os.getloadavg()[0]
    few = max(WORKERS, given.notebooks // 4)
    with tempfile.TemporaryDirectory() as folder:
        rows = {"one by one": one_by_one(Path(folder), given.seconds, few)}
        rows["sweep"] = swept(Path(folder), given.seconds, given.notebooks)
    report = {
        "command": f"python -m benchmarks.sweep --seconds {given.seconds:g} --notebooks {given.notebooks}",
        "workers": WORKERS,
        "cores": os.cpu_count(),
        "load_before": load,
        "rows": rows,
    }
    for name, row in rows.items():
        print(f"{name:12}", *(f"{key} {value:.2f}" for key, value in row.items()), sep="  ")
    if given.out:
        given.out.write_text(json.dumps(report, indent=1) + "\n")


def study(folder: Path, name: str, seconds: float, count: int) -> grid.Grid:
    """A grid of notebooks that differ in a number only."""
    parameters = new_code_cell(f"number = 0\nseconds = {seconds}", metadata={"tags": ["parameters"]})
    notebook = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=[parameters, new_code_cell(WORK)]), notebook)
    return grid.Grid(name, notebook, [{"number": number} for number in range(count)])


def one_by_one(folder: Path, seconds: float, count: int) -> dict[str, float]:
    opened = study(folder, "plain", seconds, count)
    start = time.monotonic()
    done = [
        notebooks.run(opened.notebook, job, root=folder / "runs", study="plain", progress=False) for job in opened.jobs
    ]
    return ratios(time.monotonic() - start, 0.0, [kernel_start(run.path) for run in done], seconds * count, workers=1)


def swept(folder: Path, seconds: float, count: int) -> dict[str, float]:
    """A sweep, after one of a notebook a worker without work that shows what the engine takes to start."""
    how = {"root": folder / "runs", "workers": WORKERS, "progress": False}
    start = time.monotonic()
    sweep.run(study(folder, "start", 0.0, WORKERS), **how).check()
    started = time.monotonic()
    table = sweep.run(study(folder, "sweep", seconds, count), **how).check().table()
    wall = time.monotonic() - started
    kernels = [kernel_start(Path(path)) for path in table["path"]]
    engine = started - start - max(kernels)
    return ratios(wall, engine, kernels, seconds * count, WORKERS) | {"first_sweep_s": started - start}


def ratios(wall: float, engine: float, kernels: list[float], work: float, workers: int) -> dict[str, float]:
    ideal = work / workers
    beyond = wall - engine - sum(kernels) / workers
    return {
        "wall_s": wall,
        "engine_start_s": engine,
        "kernel_start_s": sum(kernels) / len(kernels),
        "over_ideal": wall / ideal,
        "beyond_kernels": beyond / ideal,
    }


def kernel_start(run: Path) -> float:
    """Seconds from papermill's start to the first cell's, from the executed notebook."""
    executed = nbformat.read(run / "out.ipynb", 4)
    cells = [cell["metadata"]["papermill"]["start_time"] for cell in executed.cells if cell.cell_type == "code"]
    begun = executed["metadata"]["papermill"]["start_time"]
    return (datetime.fromisoformat(min(cells)) - datetime.fromisoformat(begun)).total_seconds()


if __name__ == "__main__":
    main()
