"""What anti-transfer costs a training step: plain, cached teacher, live teacher, and two rivals.

The rivals are the authors' formulation, given every general advantage (layout, precision, frozen teacher, fused Adam), and the loss
as a careful user writes it in plain PyTorch (`cost.measured.by_hand`), which the last row holds the live teacher against.

    python -m benchmarks.at_step --width 1.0 --layers conv1 conv5 conv9 conv13 --repeats 5 --memory --out FILE

All variants take their steps in turn in one process, in the precision that training chooses, so that machine noise meets
them alike; on one CPU thread the clock counts processor time. Ratios are to the plain step (fused Adam on all sides), limits
the operations of the step (the counts of `atlab.cost`, which the tests hold against PyTorch's counter) with 2 % for cached
targets and 3 % for a live teacher. With --memory also the most bytes of tensors alive in a step, against eq. 4's terms.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from atlab import cost
from atlab.cost import measured as steps
from atlab.cost.predicted import SHAPE
from atlab.system import devices
from benchmarks.machine import describe
from benchmarks.rows import HEADER, Row, line, ratio_row

LAYERS = ["conv1", "conv5", "conv9", "conv13"]


def rows(
    layers: list[str],
    width: float,
    repeats: int,
    *,
    batch: int = 13,
    precision: str = "auto",
    device: str = "cpu",
    memory: bool = False,
    shape: tuple[int, ...] = SHAPE,
) -> list[Row]:
    """Time of each variant at each layer, as a multiple of the plain step; and the memory if asked for."""
    mode = devices.precision(precision, device)
    on_one_thread = mode.device.type == "cpu" and torch.get_num_threads() == 1
    found = []
    for layer in layers:
        predicted = cost.predict(cost.vgg16(width), [layer], batch=batch, shape=shape).iloc[0]
        times = steps.step_times(
            layer,
            width,
            repeats,
            mode.device,
            batch,
            shape,
            clock=time.process_time if on_one_thread else time.perf_counter,
            mode=mode,
            variants=steps.RIVALS,
        )
        case = f"width {width:g}, batch {batch}, {mode.name}, {layer}"
        limits = {"cached": 1.02, "live": predicted["live_ratio"] + 0.03}
        for variant in ("cached", "live", "published", "by_hand"):
            limit = limits.get(variant, limits["live"])
            found.append(
                ratio_row(f"{variant} step", case, "plain step", times[variant] / times["plain"], limit, "operations")
            )
        found.append(ratio_row("live", case, "by hand", times["live"] / times["by_hand"], 1.0, "by hand"))
    if memory:
        measured = steps.measure(layers, width=width, batch=batch, repeats=1, device=device)
        found += [
            row
            for _, of in steps.beside_prediction(measured, width=width, batch=batch).iterrows()
            for row in memory_rows(of, width, batch)
        ]
    return found


def memory_rows(of, width: float, batch: int) -> list[Row]:
    """Most bytes alive during a float32 step, over those of the plain step; the limit adds eq. 4's terms and 5 %."""
    plain, case = of["plain_bytes"], f"width {width:g}, batch {batch}, fp32, {of['layer']}"
    return [
        ratio_row(
            "memory",
            f"{case}, {kind}",
            "plain step",
            [of[f"{kind}_bytes"] / plain],
            1.05 * (1 + of[f"predicted_{kind}_bytes"] / plain),
            "bytes",
        )
        for kind in ("cached", "live")
    ]


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=0.125)
    parser.add_argument("--layers", nargs="+", default=LAYERS)
    parser.add_argument("--batch", type=int, default=13)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    print(HEADER)
    found = rows(a.layers, a.width, a.repeats, batch=a.batch, precision=a.precision, device=a.device, memory=a.memory)
    for row in found:
        print(line(row), flush=True)
    if a.out:
        report = {"machine": describe(), "rows": [row.as_dict() for row in found]}
        a.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
