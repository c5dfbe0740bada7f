"""Measured cost of a training step: plain, with a live or a cached teacher, and as the authors' code computes it.

Durations are taken in one process, the variants in turn, so that the machine's noise affects them alike; on one thread
of a CPU they are processor time, which other programs do not lengthen. Memory is what PyTorch's allocator hands out, in
a process of its own: libraries do not count.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as nnf
from tqdm.auto import tqdm

import atlab
from atlab.cost.predicted import PUBLISHED_TIME_RATIO, SHAPE, feature_maps, predict, vgg16
from atlab.data import InMemory
from atlab.errors import AtlabError
from atlab.system import devices
from atlab.taps import find_layer

VARIANTS = ("plain", "cached", "live", "published")
RIVALS = (*VARIANTS, "by_hand")  # with anti-transfer as a careful user writes it in plain PyTorch
CLASSES, ORTHOGONAL_CLASSES = 10, 24


class Scale(NamedTuple):
    """What `experiments/cost.ipynb` measures at a scale: width of VGG16, layers, timed steps of each variant."""

    width: float
    layers: list[str]
    repeats: int


ALL = [f"conv{n}" for n in range(1, 14)]
SCALES = {"tiny": Scale(1 / 16, ["conv5"], 3), "laptop": Scale(1 / 8, ALL, 15), "paper": Scale(1.0, ALL, 7)}


def measure(
    layers: Iterable[str] = ALL,
    *,
    width: float = 1 / 8,
    batch: int = 13,
    shape: Sequence[int] = SHAPE,
    repeats: int = 15,
    device: str = "cpu",
    memory: bool = True,
) -> pd.DataFrame:
    """Duration and memory of a step of each variant with the anti-transfer loss at each layer in turn.

    The step is Adam's on random inputs, fp32. Columns besides `layer`, for each variant of `VARIANTS`: <variant>_ms, median
    of `repeats`; <variant>_ratio to the plain step of the same round, its median, with _low and _high, its quartiles; and
    if `memory` <variant>_bytes, most bytes of tensors alive at once during a step.

    Raises AtlabError for an unknown layer or device and sizes out of range.
    """
    layers = list(layers)
    feature_maps(vgg16(width, shape[0]), layers, shape)  # AtlabError for unknown layers and unusable shapes
    if batch < 1 or repeats < 1:
        raise AtlabError(f"batch and repeats must be at least 1, got {batch} and {repeats}")
    where = devices.choose(device)
    clock = time.process_time if where.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    rows = []
    peaks = _peaks_apart(layers, width, batch, shape, str(where)) if memory else {layer: {} for layer in layers}
    for layer in tqdm(layers, desc="timing steps", unit="layer", leave=False):
        times = step_times(layer, width, repeats, where, batch, shape, clock)
        row: dict = {"layer": layer}
        for variant in VARIANTS:
            ratios = times[variant] / times["plain"]
            row[f"{variant}_ms"] = 1e3 * float(np.median(times[variant]))
            for name, quantile in (("low", 0.25), ("ratio", 0.5), ("high", 0.75)):
                row[f"{variant}_{name}"] = float(np.quantile(ratios, quantile))
        rows.append(row | {f"{variant}_bytes": size for variant, size in peaks[layer].items()})
    return pd.DataFrame(rows)


def beside_prediction(
    measured: pd.DataFrame, width: float = 1 / 8, batch: int = 13, shape: Sequence[int] = SHAPE
) -> pd.DataFrame:
    """`measure`'s table with `cost.predict`'s columns for the same layers.

    predicted_<kind>_ms is the plain step's time x the ratio of operations, added_<variant>_bytes what a variant takes
    beyond the plain step.
    """
    predicted = predict(vgg16(width, shape[0]), measured["layer"], batch=batch, shape=shape).rename(
        columns={
            f"{kind}_{what}": f"predicted_{kind}_{what}"
            for kind in ("live", "cached")
            for what in ("bytes", "flops", "ratio")
        }
    )
    table = predicted.merge(measured, on="layer")
    for kind in ("live", "cached"):
        table[f"predicted_{kind}_ms"] = table["plain_ms"] * table[f"predicted_{kind}_ratio"]
    for variant in VARIANTS[1:]:
        table[f"added_{variant}_bytes"] = table[f"{variant}_bytes"] - table["plain_bytes"]
    return table


def findings(table: pd.DataFrame) -> str:
    """What the table of `beside_prediction` says, in words (Markdown)."""
    mib, ratios = 2**20, {variant: table[f"{variant}_ratio"] for variant in VARIANTS[1:]}
    off = {kind: (ratios[kind] / table[f"predicted_{kind}_ratio"] - 1).abs().mean() for kind in ("live", "cached")}
    added, eq4 = table["added_live_bytes"], table["predicted_live_bytes"]
    lines = [
        f"**Time.** A step with a live teacher took {ratios['live'].mean():.2f} times the plain one (mean over {len(table)} layers, "
        f"{ratios['live'].min():.2f} to {ratios['live'].max():.2f}), with cached targets {ratios['cached'].mean():.2f} times, and in the "
        f"authors' formulation {ratios['published'].mean():.2f} times; the paper states about {PUBLISHED_TIME_RATIO} times for "
        "its implementation.",
        f"Counting operations predicts the live step within {100 * off['live']:.0f} % and the cached one within "
        f"{100 * off['cached']:.0f} % (mean over layers of |measured / predicted - 1|).",
        f"**Memory.** Eq. 4 gives {eq4.min() / mib:.1f} to {eq4.max() / mib:.1f} MiB for a live teacher; the measurement gives "
        f"{added.min() / mib:.1f} to {added.max() / mib:.1f} MiB more than plain training, and "
        f"{table['added_cached_bytes'].max() / mib:.1f} MiB at most with cached targets.",
    ]
    for what, above in (("more", added > eq4), ("less", added < eq4)):
        if above.any():
            names = ", ".join(table.loc[above, "layer"])
            lines.append(f"- Measured {what} than eq. 4 at {names}.")
    return "\n\n".join(lines)


def make_step(
    variant: str,
    layer: str,
    width: float,
    device: torch.device,
    folder: str,
    batch: int = 13,
    shape: Sequence[int] = SHAPE,
    mode: devices.Precision | None = None,
) -> Callable[[], None]:
    """A function that takes one optimiser step of the variant; `folder` is for the cache of a cached teacher.

    It computes in `mode`, as `training.fit` does, or in float32 and PyTorch's default layout without one.
    """
    devices.reuse_memory()  # as training does
    mode = mode or devices.Precision("fp32", device, channels_last=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        student = atlab.models.vgg16(CLASSES, width, in_channels=shape[0]).to(device).train()
        orthogonal = atlab.models.vgg16(ORTHOGONAL_CLASSES, width, in_channels=shape[0]).to(device)
    x = torch.rand(batch, *shape, generator=torch.Generator().manual_seed(1)).to(device)
    y, index = (torch.arange(batch) % CLASSES).to(device), torch.arange(batch)
    extra = None
    if variant == "published":
        mode.place(orthogonal.eval().requires_grad_(False))

        def extra(x, index):
            features = forward_to(student, layer, x), forward_to(orthogonal, layer, x)
            return atlab.functional.anti_transfer_loss(*features, published=True)

    elif variant == "by_hand":
        extra = by_hand(student, mode.place(orthogonal.eval().requires_grad_(False)), layer)
    elif variant in ("live", "cached"):
        teacher = atlab.Teacher(orthogonal, layer)
        if variant == "cached":
            clips = InMemory(x, y, batch_size=batch)
            with contextlib.redirect_stderr(io.StringIO()), mode.autocast():  # its bar for one batch
                teacher = atlab.CachedTeacher(
                    teacher, clips, f"{folder}/{layer}-{width}", channels_last=mode.channels_last
                )
        extra = atlab.AntiTransferLoss(student, teacher)
    mode.place(student)
    optimizer = torch.optim.Adam(student.parameters(), lr=5e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with mode.autocast():
            logits = student(x)
            added = extra(x, index=index) if extra else 0.0
        (nnf.cross_entropy(logits.float(), y) + added).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def by_hand(
    student: torch.nn.Module, orthogonal: torch.nn.Module, layer: str
) -> Callable[[torch.Tensor, object], torch.Tensor]:
    """The loss as a careful user writes it without atlab: a hook, a teacher that stops at the layer, a Gram matrix per clip."""
    seen = {}
    find_layer(student, layer).register_forward_hook(lambda module, given, features: seen.update(features=features))

    def loss(x: torch.Tensor, index: object) -> torch.Tensor:
        with torch.no_grad():
            theirs = forward_to(orthogonal, layer, x)
        with torch.autocast(x.device.type, enabled=False):
            maps = [features.float().flatten(2) for features in (seen["features"], theirs)]
            ours, others = (torch.bmm(m, m.mT).flatten(1) for m in maps)
            return nnf.cosine_similarity(ours, others).square().mean()

    return loss


def forward_to(model: torch.nn.Module, layer: str, x: torch.Tensor) -> torch.Tensor:
    """A second, separate forward pass through the convolutions up to a layer, as the authors' code runs it."""
    x, last = (x - model.input_mean) / model.input_std, find_layer(model, layer)
    for module in model.features:
        x = module(x)
        if module is last:
            return x
    raise AtlabError(f"layer {layer!r} is not among the convolutional part's")


def step_times(
    layer: str,
    width: float,
    repeats: int,
    device: torch.device,
    batch: int = 13,
    shape: Sequence[int] = SHAPE,
    clock: Callable[[], float] = time.perf_counter,
    mode: devices.Precision | None = None,
    variants: Sequence[str] = VARIANTS,
) -> dict[str, np.ndarray]:
    """Seconds of each variant's steps [repeats], the variants in turn, after one step each that does not count."""
    with tempfile.TemporaryDirectory() as folder:
        steps = {variant: make_step(variant, layer, width, device, folder, batch, shape, mode) for variant in variants}
        for step in steps.values():
            step()
        times: dict[str, list[float]] = {variant: [] for variant in variants}
        for _ in range(repeats):
            for variant, step in steps.items():
                start = clock()
                step()
                times[variant].append(clock() - start)
    return {variant: np.array(seconds) for variant, seconds in times.items()}


def _peaks_apart(layers: list[str], width: float, batch: int, shape: Sequence[int], device: str) -> dict:
    """{layer: {variant: bytes}} from a process of its own: PyTorch's profiler slows what is timed, and logs to stderr."""
    asked = json.dumps([layers, width, batch, list(shape), device, torch.get_num_threads()])
    path = os.pathsep.join(filter(None, [*sys.path, os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "atlab.cost.measured", asked],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    if done.returncode:
        raise AtlabError(f"memory could not be measured: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _peak(variant: str, layer: str, width: float, device: torch.device, batch: int, shape: Sequence[int]) -> int:
    """Most bytes that the tensors made for two steps take at once during them."""
    with tempfile.TemporaryDirectory() as folder:
        if device.type == "cuda":
            step = make_step(variant, layer, width, device, folder, batch, shape)
            torch.cuda.reset_peak_memory_stats(device)
            step(), step()
            return torch.cuda.max_memory_allocated(device)
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=True
        ) as profiler:
            step = make_step(variant, layer, width, device, folder, batch, shape)
            with torch.profiler.record_function("steps"):
                step(), step()
        events = sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    start = next(event.start_ns() for event in events if event.name() == "steps")
    alive = peak = 0
    for event in events:
        if event.name() == "[memory]":
            alive += event.nbytes()
            peak = max(peak, alive) if event.start_ns() >= start else alive
    return peak


def main() -> None:
    """Measure the memory that the only argument asks for, as JSON."""
    layers, width, batch, shape, device, threads = json.loads(sys.argv[1])
    torch.set_num_threads(threads)
    where = torch.device(device)
    plain = _peak("plain", layers[0], width, where, batch, shape)  # the same for all layers
    print(
        json.dumps(
            {
                layer: {"plain": plain} | {v: _peak(v, layer, width, where, batch, shape) for v in VARIANTS[1:]}
                for layer in layers
            }
        )
    )


if __name__ == "__main__":
    main()
