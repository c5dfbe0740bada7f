"""What sharing saves in a study of transferability: base networks trained once, frozen layers run once.

    python -m benchmarks.transfer [--clips 600] [--epochs 5] [--layers 1,4,7] [--data FOLDER] [--out FILE]

First the study itself, one seed and one division, all treatments in both directions: with the base networks shared and the
frozen layers cached, against every training by itself, which trains its own base network and runs the frozen layers in every
epoch. Then a frozen transfer at each n with cached and with recomputed layers, in turn. All in one process of one thread, in
processor time, which other programs do not lengthen. Data are noise of CIFAR-10's shape unless a folder is given.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from atlab.data import Clip, build
from atlab.transfer import TREATMENTS, TransferSettings, train

CLASSES = 4


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--clips", type=int, default=600, help="training clips of each half")
    arguments.add_argument("--epochs", type=int, default=5)
    arguments.add_argument("--layers", default="1,4,7")
    arguments.add_argument("--data", default="")
    arguments.add_argument("--out", type=Path)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    layers = [int(n) for n in given.layers.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        data = given.data or str(noise(Path(folder) / "noise", 2 * given.clips // CLASSES))
        base = TransferSettings(data=data, epochs=given.epochs, patience=given.epochs, clips=given.clips)
        report = {
            "command": f"python -m benchmarks.transfer --clips {given.clips} --epochs {given.epochs} --layers {given.layers}",
            "cores": os.cpu_count(),
            "study": study(Path(folder), base, layers),
            "prefix": [prefix(Path(folder), base, n) for n in layers],
        }
    whole = report["study"]
    print(
        f"study of {whole['trainings']} trainings: shared {whole['shared']:.1f} s, one by one {whole['one_by_one']:.1f} s, ratio {whole['ratio']:.2f}"
    )
    for row in report["prefix"]:
        print(
            f"frozen n = {row['n']}: cached {row['cached']:.2f} s, recomputed {row['recomputed']:.2f} s, ratio {row['ratio']:.2f}"
        )
    if given.out:
        given.out.write_text(json.dumps(report, indent=1) + "\n")


def study(folder: Path, base: TransferSettings, layers: list[int]) -> dict[str, float]:
    """Processor seconds of all treatments in both directions: shared, and each training by itself."""
    jobs = [
        replace(base, treatment=treatment, n=n, half=half)
        for half in "AB"
        for treatment in TREATMENTS
        if treatment != "base"
        for n in layers
    ]
    shared = sum(seconds(job, folder / "shared") for job in jobs)
    alone = sum(seconds(replace(job, cached=False), folder / f"alone{k}") for k, job in enumerate(jobs))
    return {"trainings": len(jobs), "shared": shared, "one_by_one": alone, "ratio": shared / alone}


def prefix(folder: Path, base: TransferSettings, n: int) -> dict[str, float]:
    """Processor seconds of a frozen transfer at n, with its base network trained before: the median of three, in turn."""
    times: dict[bool, list[float]] = {True: [], False: []}
    seconds(replace(base, treatment="AnB", n=n), folder / "prefix")  # the base network, and everything loaded
    for number in range(3):
        for cached, found in times.items():
            found.append(
                seconds(
                    replace(base, treatment="AnB", n=n, cached=cached), folder / "prefix", again=f"{number}{cached}"
                )
            )
    cached, recomputed = (float(np.median(times[which])) for which in (True, False))
    return {"n": n, "cached": cached, "recomputed": recomputed, "ratio": cached / recomputed}


def seconds(job: TransferSettings, root: Path, again: str = "") -> float:
    """Processor seconds of a run, with the base network if it is not there; `again` is a study of its own to run it anew in."""
    start = time.process_time()
    train(job, root, study=f"transfer{again}", progress=False)
    return time.process_time() - start


def noise(folder: Path, per_class: int) -> Path:
    """uint8 [N, 3, 32, 32] in four classes, of different brightness so that there is something to learn."""
    items = [(k, c) for c in range(CLASSES) for k in range(round(per_class * 1.6))]
    card = {
        "name": "noise",
        "kind": "image",
        "sample_rate": None,
        "licence": "none",
        "citation": "",
        "recipe": "benchmark",
        "recipe_version": 1,
        "parameters": {"per_class": per_class},
        "seed": 0,
    }
    build(folder, items, partial(_picture, test_from=per_class * 1.3), card=card, factors=["class"], workers=1)
    return folder


def _picture(item: tuple[int, int], test_from: float) -> list[Clip]:
    k, c = item
    picture = np.random.default_rng([k, c]).normal(80 + 20 * c, 40, (3, 32, 32)).clip(0, 255).astype(np.uint8)
    row = {
        "id": f"{c}-{k}",
        "source": f"{c}-{k}",
        "duration": 0.0,
        "class": str(c),
        "official": "test" if k >= test_from else "train",
    }
    return [Clip(picture, row)]


if __name__ == "__main__":
    main()
