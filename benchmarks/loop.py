"""What the training loop, the precision, the cache's making and an opened data set cost compared with the bare thing."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as nnf

import atlab
from atlab import training
from atlab.data import InMemory
from atlab.system import devices
from benchmarks.rows import Row, in_turn, ratio_row

CLASSES = 10


def rows(width: float, clips: int, batches: list[int], repeats: int, shape: tuple[int, int] = (126, 129)) -> list[Row]:
    """The loop at each batch size, the precision that is chosen, and the making of a cache."""
    return [
        *(fit_row(width, clips, batch, repeats, shape) for batch in batches),
        precision_row(width, clips, batches[0], repeats, shape),
        cache_row(width, clips, batches[0], repeats, shape),
    ]


def sound(clips: int, batch: int, shape: tuple[int, int], device: str | torch.device = "cpu") -> InMemory:
    x = torch.rand(clips, 1, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    return InMemory(x, (torch.arange(clips) % CLASSES).to(device), batch_size=batch, shuffle=True)


def clock(device: torch.device) -> Callable[[], float]:
    """Seconds by the clock, after what the device was given is done."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


def network(width: float, seed: int = 0) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return atlab.models.vgg16(CLASSES, width)


def stepper(model: torch.nn.Module, mode: devices.Precision) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """What any loop has to do with a batch: forward, cross-entropy, backward, fused Adam."""
    mode.place(model.train())
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4, fused=True)

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        optimizer.zero_grad()
        with mode.autocast():
            logits = model(x)
        nnf.cross_entropy(logits.float(), y).backward()
        optimizer.step()

    return step


def bare_epoch(model: torch.nn.Module, data: InMemory, validation: InMemory, mode: devices.Precision) -> None:
    """An epoch of bare steps, then the validation's forward."""
    step = stepper(model, mode)
    for x, y, _ in data.epoch(0):
        step(x, y)
    model.eval()
    with torch.no_grad(), mode.autocast():
        for x, _, _ in validation.epoch(0):
            model(x)


def fit_row(width: float, clips: int, batch: int, repeats: int, shape: tuple[int, int], device: str = "cpu") -> Row:
    """An epoch of `training.fit` over the same one written out by hand; on a GPU by the clock."""
    mode = devices.precision("auto", device)
    data = sound(clips, batch, shape, mode.device)
    validation = InMemory(data.x[:batch], data.y[:batch], batch_size=batch)
    model, bare = network(width), network(width)
    times = in_turn(
        {
            "fit": lambda: training.fit(model, data, validation, epochs=1, device=device, progress=False),
            "bare": lambda: bare_epoch(bare, data, validation, mode),
        },
        repeats,
        time.process_time if mode.device.type == "cpu" else clock(mode.device),
    )
    case = f"width {width:g}, batch {batch}, {mode.name}"
    return ratio_row("fit", case, "bare epoch", times["fit"] / times["bare"], 1.03, "bare loop")


def precision_row(width: float, clips: int, batch: int, repeats: int, shape: tuple[int, int]) -> Row:
    """An epoch in PyTorch's default (float32, channels first) over one in the precision that is chosen here."""
    data, mode = sound(clips, batch, shape), devices.precision("auto", "cpu")
    default = devices.Precision("fp32", torch.device("cpu"), channels_last=False)
    models = network(width), network(width)
    times = in_turn(
        {
            "default": lambda: bare_epoch(models[0], data, data, default),
            "chosen": lambda: bare_epoch(models[1], data, data, mode),
        },
        repeats,
    )
    case = f"width {width:g}, batch {batch}, default layout in fp32"
    rival = f"{mode.name}, channels last"
    return ratio_row(
        "precision", case, rival, times["default"] / times["chosen"], 1.0, "bare loop", more_is_better=True
    )


def cache_row(width: float, clips: int, batch: int, repeats: int, shape: tuple[int, int]) -> Row:
    """Making the cache of a teacher up to conv9 over one teacher pass on the same clips."""
    data, teacher = sound(clips, batch, shape), atlab.Teacher(network(width, 1), "conv9")
    made = iter(range(10**6))
    with tempfile.TemporaryDirectory() as folder:

        def build() -> None:
            with contextlib.redirect_stderr(io.StringIO()):
                atlab.CachedTeacher(teacher, data, Path(folder) / str(next(made)))

        times = in_turn({"build": build, "pass": lambda: [teacher(x) for x, _, _ in data.epoch(0)]}, repeats)
    case = f"width {width:g}, {clips} clips, fp32, conv9"
    return ratio_row("cache", case, "teacher pass", times["build"] / times["pass"], 1.05, "bare loop")
