"""What the kernel of a small training run costs: forked, as a sweep's workers start it, and one of its own, as `atlab run` does.

    python -m benchmarks.kernels --runs 5 --out FILE

One epoch of 48 clips at 1/16 width through `train.ipynb`, figures included, the two kinds in turn in one process. Seconds by the
clock, from the parameters to the finished run; the server that kernels are forked from has started before, in the seconds
printed as `server`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from atlab.experiment import load_data
from atlab.runs import forked, notebooks
from atlab.system.home import packaged_notebooks
from benchmarks.machine import describe
from benchmarks.rows import HEADER, line, ratio_row

RUN = {"strategy": "baseline", "clips": 48, "epochs": 1, "width": 1 / 16, "precision": "fp32"}


def seconds(root: str, seed: int, fork: bool) -> float:
    """What one run takes."""
    os.environ["JUPYTER_DEFAULT_PROVISIONER_NAME"] = (
        forked.ENVIRONMENT["JUPYTER_DEFAULT_PROVISIONER_NAME"] if fork else ""
    )
    forked.ForkedProvisioner.server = False  # until execution begins
    start = time.perf_counter()
    notebooks.run(packaged_notebooks() / "experiments/train.ipynb", RUN | {"seed": seed}, root=root, progress=False)
    return time.perf_counter() - start


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    os.environ.update(forked.ENVIRONMENT)  # read when the first kernel starts
    load_data("synthetic_speech")  # rendered once, before anything is timed
    with tempfile.TemporaryDirectory() as root:
        first = seconds(root, 0, fork=True)
        found: dict[bool, list[float]] = {True: [], False: []}
        for seed in range(1, a.runs + 1):
            for fork in found:
                found[fork].append(seconds(os.path.join(root, str(fork)), seed, fork))
    row = ratio_row(
        "kernel", "1 epoch of 48 clips", "own kernel", np.array(found[True]) / np.array(found[False]), 1.0, "of its own"
    )
    print(HEADER, line(row), sep="\n")
    print(
        f"forked {np.median(found[True]):.1f} s, own {np.median(found[False]):.1f} s, server {first - np.median(found[True]):.1f} s"
    )
    if a.out:
        found_of = {"forked": found[True], "own": found[False], "first": [first]}
        a.out.write_text(
            json.dumps({"machine": describe(), "seconds": found_of, "rows": [row.as_dict()]}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
