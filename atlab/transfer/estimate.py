"""What a transfer run will take before it is run: steps from its split, seconds from a few timed steps, memory."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from atlab.data.catalog import load_data
from atlab.experiment import estimate
from atlab.system.processes import one_thread
from atlab.transfer import treatments
from atlab.transfer.experiment import TransferSettings, from_parameters, new_model

FLOAT = 4  # bytes
COPIES = 4  # of the parameters: themselves, their gradients, Adam's two moments


@dataclass(frozen=True)
class Probe:
    """Seconds of a training step, a validation step and a batch through frozen layers; bytes of a step, of a stored activation."""

    train: float
    validation: float
    prefix: float
    step_bytes: int
    activation_bytes: int


@one_thread()
def estimate_run(parameters: Mapping) -> dict[str, float]:
    """Upper bound of what a transfer run takes, without its base network; of a base network too, as `required_by` gives it.

    A few steps with random weights are timed in this process, once for all runs that differ in seed, division, split or
    length only; early stopping can only shorten the run.

    Returns:
        seconds, steps, seconds_per_step and peak_bytes, as of `atlab.experiment.estimate_run`.

    Raises:
        AtlabError: what the run itself would refuse.
    """
    if "orthogonal" in parameters:  # a base network of a factor: anti-transfer's
        return estimate.estimate_run(parameters)
    s, device = from_parameters(parameters), str(parameters.get("device", "auto"))
    s.check()
    sizes = _part_sizes(replace(s, seed=0))
    batches = [math.ceil(clips / s.batch_size) for clips in sizes]
    found = _probe(_timed_alike(s), device)
    frozen = s.n > 0 and not treatments.treatment(s.treatment).tuned
    learns = s.role == "base" or s.n > 0 or (s.base and s.treatment == "base")
    epochs = s.duration(batches[0]) if learns else 0
    steps, validations = epochs * batches[0], epochs * batches[1] + sum(batches)
    runs_once = sum(batches) * found.prefix if frozen and s.cached else 0.0
    stored = sum(sizes) * found.activation_bytes if frozen and s.cached else 0
    return {
        "seconds": steps * found.train + validations * found.validation + runs_once,
        "peak_bytes": found.step_bytes + stored,
        "steps": steps,
        "seconds_per_step": found.train,
    }


@functools.lru_cache(maxsize=256)
def _part_sizes(s: TransferSettings) -> list[int]:
    split = s.make_split(load_data(s.data))
    return [len(part) for part in (split.train, split.validation, split.test)]


def _timed_alike(s: TransferSettings) -> TransferSettings:
    """The same for all settings whose steps take equally long: what learns does not tell fine-tuned treatments apart."""
    default = TransferSettings()
    frozen = s.n > 0 and not treatments.treatment(s.treatment).tuned
    alike = (
        "half",
        "split",
        "split_by",
        "split_seed",
        "clips",
        "base_clips",
        "halves",
        "halves_seed",
        "epochs",
        "patience",
        "learning_rate",
        "optimizer",
        "iterations",
        "seed",
        "base_seed",
        "base",
        "role",
    )
    kind = {"treatment": "random", "n": s.n} if frozen else {"treatment": "base", "n": 0, "cached": True}
    return replace(s, **{name: getattr(default, name) for name in alike}, **kind)


@functools.lru_cache(maxsize=256)
def _probe(s: TransferSettings, device_name: str) -> Probe:
    import torch

    from atlab import training
    from atlab.data import Batches
    from atlab.system import devices
    from atlab.transfer.crops import Crops
    from atlab.transfer.prefix import PrefixBatches

    fs = load_data(s.data)
    device = devices.choose(None if device_name == "auto" else device_name)
    mode = devices.precision(s.precision, device)
    rows = np.arange(min(len(fs), estimate.BATCHES * s.batch_size))
    batches = Batches(fs, rows, fs.codes(s.target), batch_size=s.batch_size, device=device)
    batches = Crops(batches, s.crop, random=True) if s.crop else batches
    with torch.random.fork_rng(), mode.settings():
        model = new_model(s, len(fs.classes(s.target)), next(iter(batches.epoch(0))).x)
        cut = treatments.apply(s.treatment, s.n, mode.place(model))
        source, trained, prefix, stored = batches, cut, 0.0, 0
        if cut.frozen and s.cached:
            source, trained = PrefixBatches(cut.prefix, batches, mode), cut.rest
            stored = FLOAT * source.x[0].numel()
        optimizer = torch.optim.Adam([p for p in trained.parameters() if p.requires_grad], lr=1e-6, fused=True)

        def train(batch) -> None:
            optimizer.zero_grad()
            losses, _ = training.step_losses(trained, batch, (), mode)
            losses[0].backward()
            optimizer.step()

        def look(batch, module=trained) -> None:
            with torch.no_grad(), mode.autocast():
                module(batch.x)

        seconds = estimate.median_seconds(train, source, device)
        trained.eval()
        validation = estimate.median_seconds(look, source, device)
        if stored:
            prefix = estimate.median_seconds(functools.partial(look, module=cut.prefix), batches, device)
    held = COPIES * FLOAT * sum(p.numel() for p in trained.parameters()) + 2 * _feature_bytes(
        trained, next(iter(source.epoch(0))).x
    )
    return Probe(seconds, validation, prefix, held, stored)


def _feature_bytes(module, x) -> int:
    """Of all activations of a forward pass, in float32."""
    import torch

    total = [FLOAT * x.numel()]
    leaves = [part for part in module.modules() if not list(part.children())]
    hooks = [part.register_forward_hook(lambda m, i, out: total.append(FLOAT * out.numel())) for part in leaves]
    with torch.no_grad():
        module(x)
    for hook in hooks:
        hook.remove()
    return sum(total)
