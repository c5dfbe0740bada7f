"""What anti-transfer costs a training step: plain, live teacher, cached teacher, the authors' formulation.

    python -m benchmarks.at_step --width 1.0 --layers conv1 conv5 conv9 conv13 --repeats 5

All variants take their steps in turn in one process (batch 13, 126 x 129, VGG16, fused Adam), so that machine noise
meets them alike; printed are ratios of median times to the plain step. Expected limits: cached 1.02, live
1 + 0.33 x (share of the forward's operations up to the layer). Peak memory is read in a fresh process a variant.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as nnf

import atlab
from atlab.data import InMemory
from atlab.taps import find_layer

VARIANTS = ("plain", "cached", "live", "authors")
BATCH, HEIGHT, WIDTH = 13, 126, 129


def forward_to(model: torch.nn.Module, layer: str, x: torch.Tensor) -> torch.Tensor:
    """A second, separate forward pass through the convolutions up to a layer, as the authors' code runs it."""
    x, last = (x - model.input_mean) / model.input_std, find_layer(model, layer)
    for module in model.features:
        x = module(x)
        if module is last:
            return x
    raise AssertionError(layer)


def make_step(variant: str, layer: str, width: float, device: torch.device, folder: str):
    """A function that takes one optimiser step of the variant."""
    torch.manual_seed(0)
    student = atlab.models.vgg16(10, width).to(device).train()
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(BATCH, 1, HEIGHT, WIDTH, generator=generator).to(device)
    y = (torch.arange(BATCH) % 10).to(device)
    index = torch.arange(BATCH)
    extra = None
    if variant != "plain":
        orthogonal = atlab.models.vgg16(24, width).to(device)
        teacher = atlab.Teacher(orthogonal, layer)
        if variant == "live":
            extra = atlab.AntiTransferLoss(student, teacher)
        elif variant == "cached":
            cached = atlab.CachedTeacher(
                teacher, InMemory(x, y, batch_size=BATCH), f"{folder}/{layer}-{width}"
            )
            extra = atlab.AntiTransferLoss(student, cached)
        else:
            orthogonal.eval().requires_grad_(False)

            def extra(x, index):
                features = forward_to(student, layer, x), forward_to(orthogonal, layer, x)
                return atlab.functional.anti_transfer_loss(*features, published=True)

    optimizer = torch.optim.Adam(student.parameters(), lr=5e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss = nnf.cross_entropy(student(x), y)
        if extra is not None:
            loss = loss + extra(x, index=index)
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def share_of_forward(layer: str, width: float) -> float:
    """Operations of the forward pass up to a layer over those of the whole, by torch's counter."""
    from torch.utils.flop_counter import FlopCounterMode

    model = atlab.models.vgg16(10, width)
    x = torch.rand(1, 1, HEIGHT, WIDTH)
    with torch.no_grad():
        with FlopCounterMode(display=False) as whole:
            model(x)
        with FlopCounterMode(display=False) as part:
            forward_to(model, layer, x)
    return part.get_total_flops() / whole.get_total_flops()


def time_layer(layer: str, width: float, repeats: int, device: torch.device) -> dict:
    """Median ratio of each variant's step to the plain step taken just before it, with its quartiles."""
    with tempfile.TemporaryDirectory() as folder:
        steps = {variant: make_step(variant, layer, width, device, folder) for variant in VARIANTS}
        for step in steps.values():
            step()
        times = {variant: [] for variant in VARIANTS}
        for _ in range(repeats):
            for variant, step in steps.items():
                start = time.perf_counter()
                step()
                times[variant].append(time.perf_counter() - start)
    plain = np.array(times["plain"])
    row = {
        "layer": layer,
        "width": width,
        "plain_s": float(np.median(plain)),
        "share": share_of_forward(layer, width),
    }
    for variant in VARIANTS[1:]:
        ratios = np.array(times[variant]) / plain
        row[variant] = float(np.median(ratios))
        row[f"{variant}_quartiles"] = [float(q) for q in np.quantile(ratios, [0.25, 0.75])]
    return row


def peak_gib(variant: str, layer: str, width: float, device: torch.device) -> float:
    """Peak memory of three steps in a fresh process: of the device, or of the process beyond its libraries."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.at_step",
        "--peak",
        variant,
        "--layers",
        layer,
        "--width",
        str(width),
        "--device",
        str(device),
    ]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def memory_gib(field: str) -> float:
    """VmRSS (resident now) or VmHWM (its peak) of this process; Linux only."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 2**20


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=float, default=0.125)
    parser.add_argument("--layers", nargs="+", default=["conv1", "conv5", "conv9", "conv13"])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    device = torch.device(a.device)
    if a.peak:
        with tempfile.TemporaryDirectory() as folder:
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
            libraries = memory_gib("VmRSS")
            step = make_step(a.peak, a.layers[0], a.width, device, folder)
            for _ in range(3):
                step()
        on_device = device.type == "cuda"
        print(torch.cuda.max_memory_allocated() / 2**30 if on_device else memory_gib("VmHWM") - libraries)
        return
    rows = []
    print(
        f"{'layer':8}{'plain s':>9}{'cached':>9}{'live':>9}{'limit':>9}{'authors':>9}   peak GiB: "
        + ", ".join(VARIANTS)
    )
    for layer in a.layers:
        row = time_layer(layer, a.width, a.repeats, device)
        row["peak_gib"] = {variant: peak_gib(variant, layer, a.width, device) for variant in VARIANTS}
        rows.append(row)
        limit = 1.03 + 0.33 * row["share"]
        peaks = ", ".join(f"{p:.2f}" for p in row["peak_gib"].values())
        print(
            f"{layer:8}{row['plain_s']:9.3f}{row['cached']:9.2f}{row['live']:9.2f}{limit:9.2f}{row['authors']:9.2f}   {peaks}",
            flush=True,
        )
    if a.out:
        machine = {
            "processor": platform.machine(),
            "threads": a.threads,
            "torch": torch.__version__,
            "device": str(device),
        }
        a.out.parent.mkdir(parents=True, exist_ok=True)
        a.out.write_text(
            json.dumps({"machine": machine, "command": " ".join(sys.argv[1:]), "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
