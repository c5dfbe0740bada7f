"""What a study takes, from the data set to its report: a sweep, against two loops that a user would write.

    python -m benchmarks.study --epochs 20 --seeds 3 --repeats 1 --out FILE

One table on embedded speech: a baseline, WI and anti-transfer at four layers against one speaker network, three seeds each (1/8 width,
batch norm, 208 clips). atlab runs it as a sweep of two workers, with kernels, caches, checkpoints and the page of the report. The rivals train the
same networks on the same clips one after the other in this process, on all cores, in the precision and layout that atlab
chooses, with spectrograms computed once: `by hand` has the loss as a careful user writes it in plain PyTorch (a hook, a
teacher that stops at the layer), `published` as the authors did, both with a live teacher. `bare steps` are the plain steps of all
networks by themselves, each at the median time of a step on one thread, shared by all cores. Seconds by the clock.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as nnf

from atlab import experiment, functional, models
from atlab.analysis import report
from atlab.cost import measured
from atlab.data import Spectrogram
from atlab.experiment import Settings
from atlab.runs import sweep
from atlab.system import devices, processes
from atlab.system.home import packaged_notebooks
from benchmarks.loop import stepper
from benchmarks.machine import describe
from benchmarks.rows import HEADER, Row, line, ratio_row

LAYERS = ("conv1", "conv5", "conv9", "conv13")
SIZE = {
    "width": 1 / 8,
    "batch_norm": True,
    "head": "pool",
    "schedule": "one_cycle",
    "batch_size": 26,
    "learning_rate": 2e-3,
}
Extra = Callable[[torch.nn.Module, torch.nn.Module, str], Callable[[torch.Tensor, object], torch.Tensor]]


def students(
    epochs: int, seeds: int, clips: int = 208, teacher_clips: int = 800, data: str = "synthetic_speech"
) -> list[Settings]:
    """The table's runs: every arm with every seed, against one speaker network."""
    base = Settings(data=data, split="disjoint", epochs=epochs, clips=clips, teacher_clips=teacher_clips, **SIZE)
    alone = [replace(base, strategy=strategy) for strategy in ("baseline", "wi")]
    arms = alone + [replace(base, strategy="at", layers=layer) for layer in LAYERS]
    return [replace(arm, seed=seed) for seed in range(seeds) for arm in arms]


def by_sweep(arms: list[Settings], workers: int) -> None:
    """The study as a user of atlab runs it, report included."""
    notebook = packaged_notebooks() / "experiments/train.ipynb"
    with tempfile.TemporaryDirectory() as root:
        jobs = [{name: value for name, value in asdict(arm).items() if name != "role"} for arm in arms]
        what = {
            "study": "table",
            "notebook": str(notebook),
            "fixed": {},
            "axes": {"arm": jobs},
            "scales": {"laptop": {}},
        }
        swept = sweep.run(what, root=root, workers=workers, progress=False).check().seconds
        start = time.perf_counter()
        report.write("table", root)
        print(f"atlab: {swept:.1f} s of sweep, {time.perf_counter() - start:.1f} s of report")


def published(student: torch.nn.Module, orthogonal: torch.nn.Module, layer: str):
    """The authors' formulation: both networks once more up to the layer, one Gram matrix of the batch."""

    def loss(x: torch.Tensor, index: object) -> torch.Tensor:
        features = measured.forward_to(student, layer, x), measured.forward_to(orthogonal, layer, x)
        return functional.anti_transfer_loss(*features, published=True)

    return loss


def by_loop(arms: list[Settings], form: Extra, threads: int) -> None:
    """The same networks one after the other, the speaker network first."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        teacher = trained(arms[-1].teacher()).eval().requires_grad_(False)
        for arm in arms:
            start = teacher if arm.strategy == "wi" else None
            trained(
                arm, start, partial(form, orthogonal=teacher, layer=arm.layers[0]) if arm.strategy == "at" else None
            )
    finally:
        torch.set_num_threads(before)


def trained(s: Settings, start: torch.nn.Module | None = None, form: Callable | None = None) -> torch.nn.Module:
    """A network of these settings, trained, validated in every epoch and tested."""
    devices.reuse_memory()
    fs, mode, front = s.data_set(), devices.precision("auto", "cpu"), Spectrogram()
    split, codes = s.make_split(fs), fs.codes(s.task)
    parts = {
        name: (front(torch.from_numpy(fs.read(rows))), torch.from_numpy(codes[rows]))
        for name, rows in (("train", split.train), ("validation", split.validation), ("test", split.test))
    }
    torch.manual_seed(s.seed)
    model = mode.place(models.vgg16(int(codes.max()) + 1, s.width, batch_norm=s.batch_norm, head=s.head))
    if start is not None:
        model.features.load_state_dict(start.features.state_dict())
    extra = form(model) if form else None
    x, y = parts["train"]
    steps = s.epochs * -(-len(x) // s.batch_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=s.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, s.learning_rate, total_steps=steps)
    for _ in range(s.epochs):
        model.train()
        for index in torch.randperm(len(x)).split(s.batch_size):
            optimizer.zero_grad()
            with mode.autocast():
                logits = model(x[index])
                added = extra(x[index], None) if extra else 0.0
            (nnf.cross_entropy(logits.float(), y[index]) + added).backward()
            optimizer.step()
            schedule.step()
        accuracy(model, *parts["validation"], mode)
    accuracy(model, *parts["test"], mode)
    return model


def accuracy(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, mode: devices.Precision) -> float:
    model.eval()
    with torch.no_grad(), mode.autocast():
        found = torch.cat([model(part).argmax(1) for part in x.split(128)])
    return float((found == y).float().mean())


def bare_seconds(arms: list[Settings], cores: int, times: int = 20) -> float:
    """Seconds of all plain steps of the study on all cores, at the median time of one on one thread."""
    s = arms[0]
    fs = s.data_set()
    total = sum(n.epochs * -(-len(n.make_split(fs).train) // n.batch_size) for n in [*arms, arms[-1].teacher()])
    step = stepper(models.vgg16(10, s.width, batch_norm=s.batch_norm, head=s.head), devices.precision("auto", "cpu"))
    batch = torch.rand(s.batch_size, 1, 126, 129), torch.arange(s.batch_size) % 10
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        step(*batch)
        seconds.append(time.perf_counter() - start)
    return total * float(np.median(seconds)) / cores


def rows(arms: list[Settings], repeats: int, cores: int) -> tuple[list[Row], dict[str, list[float]]]:
    """atlab over each rival, the contenders in turn, and everybody's seconds."""
    contenders = {
        "atlab": lambda: by_sweep(arms, cores),
        "by hand": lambda: by_loop(arms, measured.by_hand, cores),
        "published": lambda: by_loop(arms, published, cores),
    }
    seconds: dict[str, list[float]] = {name: [] for name in (*contenders, "bare steps")}
    for _ in range(repeats):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
        seconds["bare steps"].append(bare_seconds(arms, cores))
    ours, case = np.array(seconds["atlab"]), f"{len(arms)} runs, {arms[0].epochs} epochs, {cores} cores"
    limits = {"by hand": (1.0, "by hand"), "published": (1 / 3, "wanted"), "bare steps": (1.05, "wanted")}
    return [ratio_row("study", case, name, ours / seconds[name], *limits[name]) for name in limits], seconds


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    arms = students(a.epochs, a.seeds)
    experiment.load_data(arms[0].data)  # rendered once, before anything is timed
    torch.set_num_threads(1)
    found, seconds = rows(arms, a.repeats, processes.cores())
    print(HEADER, *map(line, found), sep="\n")
    print(*(f"{name}: {', '.join(f'{s:.1f}' for s in of)} s" for name, of in seconds.items()), sep="\n")
    if a.out:
        report_of = {"machine": describe(), "seconds": seconds, "rows": [row.as_dict() for row in found]}
        a.out.write_text(json.dumps(report_of, indent=1) + "\n")


if __name__ == "__main__":
    main()
