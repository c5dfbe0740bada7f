"""One compact training loop: early stopping or a schedule of learning rates, exact resume."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from atlab.errors import AtlabError, unknown
from atlab.losses.target import TargetLoss
from atlab.losses.term import LossTerm
from atlab.system import devices
from atlab.training.checkpoint import Checkpoint, State, describe_parameters, random_states, set_random_states
from atlab.training.norms import batch_norms, set_training
from atlab.training.optimizers import Sgd, build, named
from atlab.training.schedule import SCHEDULES, one_cycle
from atlab.training.step import check_terms, logged, measured, step_losses, term_names, with_modules
from atlab.training.stream import Stream
from atlab.training.sums import NotFinite, Sums

if TYPE_CHECKING:
    from atlab.data import Batches


def fit(
    model: nn.Module,
    train: Batches,
    validation: Batches,
    *,
    loss_terms: Sequence[LossTerm] = (),
    stream: Stream | None = None,
    target_loss: TargetLoss | None = None,
    epochs: int = 50,
    patience: int = 5,
    learning_rate: float = 5e-4,
    schedule: str = "constant",
    optimizer: str | Sgd = "adam",
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: str = "auto",
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
    progress: bool = True,
    description: str = "training",
) -> pd.DataFrame:
    """Train `model` in place and leave it in evaluation mode, with the weights of its best epoch.

    The loss is the cross-entropy of the target (or `target_loss`) plus every loss term. The best epoch is the first with the lowest
    cross-entropy on `validation`; training ends `patience` epochs after it (Guizzo, Weyde & Tarroni 2021,
    section 4.2, for the defaults). With `schedule="one_cycle"`, or an optimiser whose learning rate drops, nothing stops
    early and the last weights are kept: `patience` has no effect, and validation is only recorded. Frozen parameters
    (requires_grad False) stay as they are, and so do the statistics of batch norms whose weights are frozen.

    With `checkpoint`, a training that was killed at any step goes on from there when it is called again, and ends
    with the same bits on a CPU with the same number of threads. (On CUDA the backward pass of VGG16's adaptive
    pooling adds in any order.) The file stays: delete it when the result is safe.

    Args:
        model: any network [B, ...] -> logits [B, K]; moved to the device and into the layout that is fast there.
        train, validation: `atlab.data.Batches` of (x, y [B] int64, index [B]).
        loss_terms: callables (x, index=...) -> scalar with a `name`, such as `AntiTransferLoss`; called right after
            the model's forward pass, in validation too.
        stream: a second batch in every step, with loss terms of its own (see `Stream`).
        target_loss: what is minimised in place of the target's cross-entropy (see `losses.target`); validation uses the
            cross-entropy alone.
        learning_rate: the constant one, the largest of the cycle, or the first of those that drop.
        schedule: "constant", or "one_cycle" (see `one_cycle`).
        optimizer: a name in `optimizers.OPTIMIZERS` ("adam", "caffe", "densenet"), or a `training.Sgd`.
        seed: of dropout and whatever the loss terms draw; the caller's random state is left as it was.
        device, precision: see `atlab.system.devices`.
        checkpoint_every: seconds between checkpoints; the end of an epoch writes one where that costs little.
        description: of the progress bar.

    Returns:
        One row per epoch: epoch (from 1), seconds, train_loss (the target's alone), train_accuracy, train_<name> of each
        term, train_<name>_<layer> for what it compared (the similarity before beta and warm-up), and the same of
        validation; means over clips. Training values are those seen during the epoch, with
        dropout. The terms of a stream are averaged like the others, by the step, and not computed in validation.

    Raises:
        AtlabError: a loss that is not finite (naming epoch, step and term); a class number outside the network's;
            arguments out of range; inputs that are not finite in the first batch; a batch of one clip for a network with
            batch norm; a checkpoint of another configuration.

    >>> import atlab
    >>> x = torch.randn(8, 1, 32, 32) + torch.tensor([1.0, -1.0]).repeat(4).reshape(-1, 1, 1, 1)
    >>> clips = atlab.data.InMemory(x, torch.tensor([0, 1]).repeat(4), batch_size=4)
    >>> history = fit(atlab.models.vgg16(num_classes=2, width=1 / 16), clips, clips, epochs=2, progress=False)
    >>> list(history.columns)
    ['epoch', 'seconds', 'train_loss', 'train_accuracy', 'validation_loss', 'validation_accuracy']
    """
    mode = devices.precision(precision, device)
    terms = [*loss_terms, *(stream.terms if stream else ())]
    names = term_names(terms)
    sgd = named(optimizer)
    _check_arguments(train, validation, epochs, patience, learning_rate, schedule, sgd)
    check_terms(terms)
    _check_batch_sizes(model, train, stream)
    if mode.device.type == "cpu":
        devices.reuse_memory()
    mode.place(model)
    everything = with_modules(model, [*terms, *([target_loss] if target_loss else [])])
    state = State(everything, build(sgd, everything, learning_rate), mode.device)
    saver = Checkpoint(
        checkpoint,
        {
            "epochs": epochs,
            "patience": patience,
            "learning_rate": learning_rate,
            "schedule": schedule,
            "optimizer": "adam" if sgd is None else str(sgd),
            "seed": seed,
            "device": mode.device.type,
            "precision": mode.name,
            "parameters": describe_parameters(everything),
            "loss_terms": [[name, str(getattr(term, "identity", ""))] for name, term in zip(names, terms, strict=True)],
            "train": _identity(train),
            "validation": _identity(validation),
            "target_loss": [target_loss.name, target_loss.identity] if target_loss else None,
            "stream": [stream.statistics, *_identity(stream.batches)] if stream else None,
        },
        checkpoint_every,
    )
    steps, drops = epochs * len(train), sgd is not None and bool(sgd.drops)
    stops = schedule == "constant" and not drops

    def rate(step: int) -> float:
        if drops:
            return sgd.rate(step, steps, learning_rate)
        return learning_rate if stops else one_cycle(step, steps, learning_rate)

    bar = tqdm(total=steps, desc=description, unit="step", disable=not progress)
    with mode.settings(), _own_randomness(mode.device, seed), bar:
        saver.restore(state)
        bar.update(state.at.epoch * len(train) + state.at.step)
        try:
            while not _finished(state.at.history, epochs, patience if stops else epochs):
                for term in terms:
                    if hasattr(term, "set_epoch"):
                        term.set_epoch(state.at.epoch)
                trained = _train_epoch(state, model, train, loss_terms, stream, target_loss, mode, rate, saver, bar)
                validated = _validate(state, model, validation, loss_terms, mode)
                _end_epoch(state, trained, validated, remember=stops)
                if saver.due(epoch_ended=True):
                    saver.write(state)
        except NotFinite:
            saver.remove()  # going on from it would end here again
            raise
        if stops:
            everything.load_state_dict(state.best)
    everything.eval()
    return pd.DataFrame(state.at.history)


def _train_epoch(
    state: State,
    model: nn.Module,
    train: Batches,
    terms,
    stream: Stream | None,
    target_loss: TargetLoss | None,
    mode,
    rate,
    saver: Checkpoint,
    bar: tqdm,
) -> Sums:
    """The rest of the present epoch, from the step where the state stands."""
    at, everything = state.at, [*terms, *(stream.terms if stream else ())]
    set_training(state.model)
    sums = Sums(logged(everything), f"epoch {at.epoch + 1}", mode.device, at.clips, at.sums)
    start = time.monotonic() - at.seconds
    others = stream.after(at.epoch * len(train) + at.step) if stream else itertools.repeat(())
    for batch, other in zip(train.epoch(at.epoch, at.step), others, strict=False):
        if at.epoch == at.step == 0:
            _require_finite(batch[0], "training")
        for group in state.optimizer.param_groups:
            group["lr"] = rate(at.epoch * len(train) + at.step) * group["factor"]
        state.optimizer.zero_grad()
        losses, right = step_losses(model, batch, terms, mode, target_loss)
        if stream:
            losses += stream.losses(model, other, mode)
        sum(losses).backward()
        losses += measured(everything)
        state.optimizer.step()
        looked = sums.add(at.step, len(batch[1]), losses, right)
        at.step += 1
        bar.update()
        if looked:
            bar.set_postfix(_postfix(state, sums), refresh=False)
        if saver.due():
            sums.fetch()
            at.clips, at.sums, at.seconds = sums.clips, sums.sums, time.monotonic() - start
            saver.write(state)
    sums.fetch()
    at.seconds = time.monotonic() - start
    return sums


def _validate(state: State, model: nn.Module, validation: Batches, terms, mode) -> Sums:
    state.model.eval()
    sums = Sums(logged(terms), f"the validation of epoch {state.at.epoch + 1}", mode.device)
    start = time.monotonic()
    with torch.no_grad():
        for step, batch in enumerate(validation.epoch(0)):
            if state.at.epoch == step == 0:
                _require_finite(batch[0], "validation")
            losses, right = step_losses(model, batch, terms, mode)
            sums.add(step, len(batch[1]), losses + measured(terms), right)
    sums.fetch()
    state.at.seconds += time.monotonic() - start
    return sums


def _end_epoch(state: State, trained: Sums, validated: Sums, remember: bool) -> None:
    """Add the epoch's row to the history, remember the weights if they are the best, go to the next epoch's start."""
    at = state.at
    row: dict[str, float] = {"epoch": at.epoch + 1, "seconds": at.seconds}
    for part, sums in (("train", trained), ("validation", validated)):
        row |= {f"{part}_{name}": value for name, value in sums.means().items()}
    at.history.append(row)
    if remember and _best(at.history) == at.epoch:
        state.remember_best()
    at.epoch, at.step, at.clips, at.sums, at.seconds = at.epoch + 1, 0, 0, [], 0.0


def _best(history: list[dict]) -> int:
    """The number of the first epoch with the lowest cross-entropy on the validation part."""
    return min(range(len(history)), key=lambda epoch: history[epoch]["validation_loss"])


def _finished(history: list[dict], epochs: int, patience: int) -> bool:
    return len(history) >= epochs or (len(history) > 0 and len(history) - 1 - _best(history) >= patience)


def _postfix(state: State, sums: Sums) -> dict[str, str]:
    shown = {name: f"{value:.3f}" for name, value in sums.means().items()}
    if state.at.history:
        shown["validation"] = f"{state.at.history[-1]['validation_loss']:.3f}"
    return shown


def _check_arguments(
    train: Batches,
    validation: Batches,
    epochs: int,
    patience: int,
    learning_rate: float,
    schedule: str,
    sgd: Sgd | None,
) -> None:
    for name, value in (("epochs", epochs), ("patience", patience)):
        if value < 1:
            raise AtlabError(f"{name} must be at least 1, found {value}")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise AtlabError(f"learning_rate must be positive and finite, found {learning_rate}")
    if schedule not in SCHEDULES:
        raise unknown("schedule", schedule, SCHEDULES)
    if schedule != "constant" and sgd is not None and sgd.drops:
        raise AtlabError(f"a learning rate that drops is a schedule of its own: expected 'constant', got {schedule!r}")
    for name, part in (("training", train), ("validation", validation)):
        if getattr(part, "batch_size", 1) < 1:
            raise AtlabError(f"the {name} part has batch_size {part.batch_size}; expected at least 1")
        if len(part) == 0:
            raise AtlabError(f"the {name} part is empty: there is no clip to take")


def _require_finite(x: Tensor, part: str) -> None:
    if not torch.isfinite(x).all():
        raise AtlabError(f"the inputs of the first {part} batch hold NaN or infinite values; expected finite numbers")


def _check_batch_sizes(model: nn.Module, train: Batches, stream: Stream | None) -> None:
    """AtlabError for a batch that is too small for batch norm."""
    if stream and stream.batches.batch_size == 1 and batch_norms(model):
        raise AtlabError("batch norm cannot learn from a batch of one clip: the second stream has batches of 1")
    size = getattr(train, "batch_size", 0)
    alone = size and train.clips % size == 1 and getattr(train, "least", 1) < 2
    if (size == 1 or alone) and batch_norms(model):
        raise AtlabError(
            f"batch norm cannot learn from a batch of one clip: {train.clips} training clips in batches of {size} leave "
            "one; choose another batch size, or let it join another batch with Batches(..., least=2)"
        )


def _identity(batches: Batches) -> list:
    """What identifies the data and the order of clips in a checkpoint."""
    order = [getattr(batches, name, None) for name in ("batch_size", "shuffle", "seed")]
    return [str(getattr(batches, "identity", "")), len(batches), batches.clips, *order]


@contextmanager
def _own_randomness(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the generators of the CPU and of `device`; give them their former states back at the end."""
    before = random_states(device)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
    try:
        yield
    finally:
        set_random_states(before, device)
