"""Would training the variants of a layer sweep at once pay? One vectorised step of several networks against their steps one by one.

    python -m benchmarks.stacked [--networks 13] [--width 0.125] [--repeats 5] [--device cpu]

Weights are stacked and `torch.func.vmap` runs all networks on the same batch, which turns their convolutions into grouped ones;
the rival takes a plain step with each network in turn. Both in the precision that training chooses, forward, cross-entropy and
backward; the optimiser is left out, since it is the same work on both sides.
"""

from __future__ import annotations

import argparse
import time

import torch
import torch.nn.functional as nnf
from torch.func import functional_call, grad, stack_module_state, vmap

from atlab.system import devices
from benchmarks.loop import network, sound
from benchmarks.rows import HEADER, Row, in_turn, line, ratio_row


def stacked_row(count: int, width: float, repeats: int, device: str, batch: int = 13) -> Row:
    """Time of the step of `count` networks at once over that of the same networks one after the other."""
    mode = devices.precision("auto", device)
    models = [mode.place(network(width, seed).eval()) for seed in range(count)]  # no dropout: both compute the same
    data = next(sound(batch, batch, (126, 129)).epoch(0))
    x, y = data.x.to(mode.device), data.y.to(mode.device)
    parameters, buffers = stack_module_state(models)

    def loss(own: dict, kept: dict) -> torch.Tensor:
        with mode.autocast():
            logits = functional_call(models[0], (own, kept), (x,))
        return nnf.cross_entropy(logits.float(), y)

    together = vmap(grad(loss))

    def one_by_one() -> list:
        for model in models:
            model.zero_grad()
            with mode.autocast():
                logits = model(x)
            nnf.cross_entropy(logits.float(), y).backward()
        return [p.grad for model in models for p in model.parameters()]

    def synchronised(task):
        def run() -> None:
            task()
            if mode.device.type == "cuda":
                torch.cuda.synchronize()

        return run

    clock = time.perf_counter if mode.device.type == "cuda" else time.process_time
    tasks = {"at once": synchronised(lambda: together(parameters, buffers)), "one by one": synchronised(one_by_one)}
    times = in_turn(tasks, repeats, clock)
    case = f"{count} networks, width {width:g}, batch {batch}, {mode.name}"
    return ratio_row("stacked", case, "one by one", times["at once"] / times["one by one"], 1.0, "wanted")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=13)
    parser.add_argument("--width", type=float, default=0.125)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    a = parser.parse_args()
    torch.set_num_threads(1)
    print(HEADER, line(stacked_row(a.networks, a.width, a.repeats, a.device)), sep="\n")


if __name__ == "__main__":
    main()
