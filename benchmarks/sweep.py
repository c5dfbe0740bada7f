"""What a sweep costs beyond the work of its notebooks: 16 notebooks of a few busy seconds on two workers.

    python -m benchmarks.sweep [--seconds 3] [--notebooks 16] [--out FILE]

Rivals, in one run: notebooks one after the other in one process with an ordinary kernel each (`atlab run`), the local
engine, and a Dask cluster on this machine. Every notebook imports torch and then computes for a fixed processor time. Printed
is the wall time over the sum of that work divided by the workers; start-up (the server that imports torch, the cluster) is
measured by a first sweep of two notebooks and shown beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from atlab import grid, notebooks, sweep

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
    ideal = given.seconds * given.notebooks / WORKERS
    with tempfile.TemporaryDirectory() as folder:
        rows = {"one by one": one_by_one(Path(folder), given.seconds, max(2, given.notebooks // 4))}
        rows["one by one"] |= {"over_ideal": rows["one by one"]["wall_s"] / (given.seconds * max(2, given.notebooks // 4))}
        for name, scheduler in (("local", ""), ("dask", "local")):
            rows[name] = swept(Path(folder), name, scheduler, given.seconds, given.notebooks)
            rows[name]["over_ideal"] = rows[name]["wall_s"] / ideal
            rows[name]["over_ideal_beyond_start"] = (rows[name]["wall_s"] - rows[name]["start_s"]) / ideal
    report = {"notebooks": given.notebooks, "seconds": given.seconds, "workers": WORKERS, "load_before": os.getloadavg()[0], "rows": rows}
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
    for job in opened.jobs:
        notebooks.run(opened.notebook, job, root=folder / "runs", study="plain", progress=False)
    return {"wall_s": time.monotonic() - start}


def swept(folder: Path, name: str, scheduler: str, seconds: float, count: int) -> dict[str, float]:
    """Wall time of a sweep, and of what it takes to start: a sweep of one notebook a worker without work."""
    start = time.monotonic()
    sweep.run(study(folder, f"{name}_start", 0.0, WORKERS), root=folder / "runs", workers=WORKERS, scheduler=scheduler, progress=False).check()
    started = time.monotonic()
    sweep.run(study(folder, name, seconds, count), root=folder / "runs", workers=WORKERS, scheduler=scheduler, progress=False).check()
    wall = time.monotonic() - started
    # The local engine's server lives on with this process: the second sweep does not start it again. A cluster does start again.
    return {"wall_s": wall, "start_s": started - start if scheduler else 0.0, "first_start_s": started - start}


if __name__ == "__main__":
    main()
