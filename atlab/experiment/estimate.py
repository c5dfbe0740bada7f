"""What a training run will take before it is run: steps from its split, seconds from a few timed steps, memory."""

from __future__ import annotations

import functools
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from atlab.experiment.acting import COMPARING, Clips, needs_labels, orthogonal_clips
from atlab.experiment.one import fit_arguments, network, strategy_settings
from atlab.experiment.settings import Settings, from_parameters
from atlab.system.processes import one_thread

WARM_UP, TIMED = 1, 5
BATCHES = 4  # different ones, taken in turn


@dataclass(frozen=True)
class Probe:
    """Median seconds of a training step and of a validation step, input shape, bytes of a clip as it is stored."""

    train: float
    validation: float
    shape: tuple[int, ...]
    clip_bytes: int


@one_thread()
def estimate_run(parameters: Mapping) -> dict[str, float]:
    """Upper bound of what a run of `experiments/train.ipynb` with these parameters takes, its networks apart.

    A few steps with random weights are timed in this process (once for all runs that differ in seed, split or length
    only) and multiplied by the steps of all epochs: early stopping can only shorten them. What the run requires
    (`experiment.required_by`) is estimated by the same function with those settings' own parameters.

    Returns:
        seconds: of the training with its validations and final evaluation, on one thread as in a run.
        peak_bytes: weights, Adam, feature maps, eq. 4 and data on the device (see `step_memory`); libraries apart.
        steps: optimiser steps, epochs x batches of the training part.
        seconds_per_step: median of the timed steps.

    Raises:
        AtlabError: what the run itself would refuse, with the same message.

    >>> import atlab, tempfile
    >>> fs = atlab.data.toy(tempfile.mkdtemp() + "/toy")
    >>> estimate = estimate_run({"data": str(fs.path), "split": "random", "width": 0.0625, "epochs": 3, "strategy": "baseline"})
    >>> estimate["steps"], estimate["seconds"] > 0
    (15, True)
    """
    s, device = from_parameters(parameters), str(parameters.get("device", "auto"))
    s.check()
    sizes = _part_sizes(replace(s, seed=0))
    batches = [math.ceil(clips / s.batch_size) for clips in sizes]
    probe = _probe(_timed_alike(s), device)
    steps = s.epochs * batches[0]
    streamed = _streamed(replace(s, seed=0))
    stored = math.ceil(streamed / s.batch_size) or sum(batches[:2])
    passes = s.epochs * batches[1] + sum(batches) + (stored if _cached(s) else 0)
    return {
        "seconds": steps * probe.train + passes * probe.validation,
        "peak_bytes": _peak_bytes(s, probe, sizes + [streamed] * (streamed > 0), device),
        "steps": steps,
        "seconds_per_step": probe.train,
    }


@functools.lru_cache(maxsize=256)
def _part_sizes(s: Settings) -> list[int]:
    """Clips of the training, validation and test part."""
    split = s.make_split(_data(s))
    return [len(part) for part in (split.train, split.validation, split.test)]


def _data(s: Settings):
    heard = ("data", "noise", "noise_from", "split_seed", "role")
    return _opened(Settings(**{name: getattr(s, name) for name in heard}))


@functools.lru_cache(maxsize=256)
def _streamed(s: Settings) -> int:
    """Clips of the second stream, 0 if there is none."""
    return len(orthogonal_clips(s)[1]) if s.clips_from == "orthogonal" else 0


@functools.lru_cache(maxsize=8)
def _opened(s: Settings):
    return s.data_set()


def _timed_alike(s: Settings) -> Settings:
    """The same for all settings whose steps take equally long: noise is mixed in once, before the first step."""
    default = Settings()
    if "noise" not in (s.task, *s.own_factors()):
        s = replace(s, noise="none", noise_from="")
    alike = (
        "split_by",
        "pairing",
        "held_out",
        "split_seed",
        "clips",
        "teacher_clips",
        "teacher_batch_size",
        "teacher_learning_rate",
        "beta",
        "warm_up",
        "start",
        "epochs",
        "patience",
        "learning_rate",
        "schedule",
        "seed",
        "teacher_seed",
    )
    return replace(s, split="random", **{name: getattr(default, name) for name in alike})


def _cached(s: Settings) -> bool:
    return s.role == "student" and s.cached and not s.published and s.strategy in COMPARING


@functools.lru_cache(maxsize=256)
def _probe(s: Settings, device_name: str) -> Probe:
    import torch

    from atlab import strategies, training
    from atlab.data import Batches
    from atlab.system import devices

    fs = _data(s)
    device = devices.choose(None if device_name == "auto" else device_name)
    mode = devices.precision(s.precision, device)
    rows, codes = np.arange(min(len(fs), BATCHES * s.batch_size)), fs.codes(s.task)
    batches = Batches(fs, rows, codes, batch_size=s.batch_size, device=device, least=s.least_batch())
    shape = tuple(next(iter(batches.epoch(0))).x.shape[1:])
    with torch.random.fork_rng(), mode.settings(), tempfile.TemporaryDirectory() as folder:
        model = network(s, len(fs.classes(s.task)), shape[0]).to(device)
        networks = [network(s, 2, shape[0]).to(device) for _ in s.sources()]
        clips = Clips([batches], _two_classes(s, len(fs)))
        with mode.autocast():
            settings = strategy_settings(s, clips, codes, Path(folder), mode)
            plan = strategies.apply(s.strategy, model, networks, settings)
        given = fit_arguments(s, plan, clips)
        terms, stream, target = given.get("loss_terms", ()), given.get("stream"), given.get("target_loss")
        mode.place(model)
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-6, fused=True)

        def train(batch) -> None:
            optimizer.zero_grad()
            losses, _ = training.step_losses(model, batch, terms, mode, target)
            if stream:
                losses += stream.losses(model, batch, mode)
            sum(losses).backward()
            optimizer.step()

        def validate(batch) -> None:
            with torch.no_grad():
                training.step_losses(model, batch, terms, mode)

        model.train()
        seconds = median_seconds(train, batches, device)
        model.eval()
        probe = Probe(seconds, median_seconds(validate, batches, device), shape, fs.read(rows[:1]).nbytes)
        plan.close()
    return probe


def _two_classes(s: Settings, clips: int):
    """Orthogonal classes for the probe, whose numbers do not matter."""
    return np.arange(clips) % 2 if needs_labels(s) else None


def median_seconds(step: Callable, batches, device) -> float:
    """Median seconds of a step, making the batches included, after a warm-up; the batches are taken in turn."""
    import torch

    seconds = []
    while len(seconds) < WARM_UP + TIMED:
        start = time.perf_counter()
        for batch in batches.epoch(0):
            step(batch)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            now = time.perf_counter()
            seconds.append(now - start)
            start = now
    return float(np.median(seconds[WARM_UP:]))


def _peak_bytes(s: Settings, probe: Probe, sizes: list[int], device_name: str) -> int:
    import torch

    from atlab.cost import predicted
    from atlab.data.loaders import RESIDENT_BYTES
    from atlab.system import devices

    device = devices.choose(None if device_name == "auto" else device_name)
    networks, at = len(s.sources()), s.strategy in COMPARING and s.role == "student"
    teachers = (networks - (s.strategy == "dual_at")) if at else 0
    with torch.device("meta"):
        model = network(s, 2, probe.shape[0])
    step = predicted.step_memory(
        model,
        s.layers if at else (),
        batch=min(s.batch_size, max(sizes)) * (2 if s.clips_from == "orthogonal" else 1),
        shape=probe.shape,
        networks=networks + (0 if _cached(s) else teachers),
        teachers=teachers,
        cached=_cached(s),
        bf16=devices.precision(s.precision, device).name == "bf16",
    )
    resident = [
        clips * probe.clip_bytes for clips in (sizes[0], *sizes)
    ]  # the training part is opened again for evaluation
    return step + sum(size for size in resident if size <= RESIDENT_BYTES)
