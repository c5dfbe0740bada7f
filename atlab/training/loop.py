"""One compact training loop: early stopping or a schedule of learning rates, exact resume."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from tqdm.auto import tqdm

from atlab.errors import AtlabError, unknown
from atlab.losses.term import LossTerm
from atlab.system import devices
from atlab.training import optimizers
from atlab.training.checkpoint import Checkpoint, State, describe_parameters, random_states, set_random_states
from atlab.training.evaluation import check_codes

if TYPE_CHECKING:
    from atlab.data import Batches

# Steps between two looks at the losses on an accelerator, where each look waits for the device.
LOOK_EVERY = 25
SCHEDULES = ("constant", "one_cycle")
LARGEST_BETA = 1e6


def fit(
    model: nn.Module,
    train: Batches,
    validation: Batches,
    *,
    loss_terms: Sequence[LossTerm] = (),
    epochs: int = 50,
    patience: int = 5,
    learning_rate: float = 5e-4,
    schedule: str = "constant",
    optimizer: str | optimizers.Sgd = "adam",
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: str = "auto",
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
    progress: bool = True,
    description: str = "training",
) -> pd.DataFrame:
    """Train `model` in place and leave it in evaluation mode, with the weights of its best epoch.

    The loss is the cross-entropy of the target plus every loss term. The best epoch is the first with the lowest
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
        learning_rate: the constant one, the largest of the cycle, or the first of those that drop.
        schedule: "constant", or "one_cycle" (see `one_cycle`).
        optimizer: a name in `optimizers.OPTIMIZERS` ("adam", "caffe", "densenet"), or a `training.Sgd`.
        seed: of dropout and whatever the loss terms draw; the caller's random state is left as it was.
        device, precision: see `atlab.system.devices`.
        checkpoint_every: seconds between checkpoints; the end of an epoch writes one where that costs little.
        description: of the progress bar.

    Returns:
        One row per epoch: epoch (from 1), seconds, train_loss (target only), train_accuracy, train_<name> of each
        term, train_<name>_<layer> for what it compared (the similarity before beta and warm-up), and the same of
        validation; means over clips. Training values are those seen during the epoch, with
        dropout.

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
    names = _term_names(loss_terms)
    logged = [
        *names,
        *(f"{n}_{c}" for n, term in zip(names, loss_terms, strict=True) for c in getattr(term, "compared", ())),
    ]
    sgd = optimizers.named(optimizer)
    _check_arguments(train, validation, epochs, patience, learning_rate, schedule, sgd)
    _check_terms(loss_terms)
    _check_batch_sizes(model, train)
    if mode.device.type == "cpu":
        devices.reuse_memory()
    mode.place(model)
    everything = _with_modules(model, loss_terms, names)
    state = State(everything, optimizers.build(sgd, everything, learning_rate), mode.device)
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
            "loss_terms": [
                [name, str(getattr(term, "identity", ""))] for name, term in zip(names, loss_terms, strict=True)
            ],
            "train": _identity(train),
            "validation": _identity(validation),
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
                for term in loss_terms:
                    if hasattr(term, "set_epoch"):
                        term.set_epoch(state.at.epoch)
                trained = _train_epoch(state, model, train, loss_terms, logged, mode, rate, saver, bar)
                validated = _validate(state, model, validation, loss_terms, logged, mode)
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


def one_cycle(step: int, steps: int, largest: float) -> float:
    """The learning rate of step 0 to steps - 1: from largest / 25 up for 30 % of the steps, then down to about 0, by cosines.

    The policy of Smith & Topin (2018) as `torch.optim.lr_scheduler.OneCycleLR` has it without cycling the momentum; a
    function of the step alone, so a training that is taken up again needs no state of it.

    >>> [round(one_cycle(step, 11, 0.1), 4) for step in (0, 2, 10)]
    [0.004, 0.096, 0.0]
    """
    first, last = largest / 25, largest / 25e4
    top = 0.3 * steps - 1
    low, share = (first, step / top) if step <= top else (last, (steps - 1 - step) / (steps - 1 - top))
    return low + (largest - low) * (1 - math.cos(math.pi * share)) / 2


class NotFinite(AtlabError):
    """A loss became NaN or infinite."""


class _Sums:
    """Sums over clips of the losses and the right answers of one epoch, exact whenever it is interrupted.

    Values stay on the device and are fetched together, every step on a CPU and every `LOOK_EVERY` elsewhere.
    """

    def __init__(
        self, names: Sequence[str], what: str, device: torch.device, clips: int = 0, sums: Sequence[float] = ()
    ) -> None:
        self.names, self.what, self.clips = names, what, clips
        self.sums = list(sums) or [0.0] * (2 + len(names))
        self._every = 1 if device.type == "cpu" else LOOK_EVERY
        self._waiting: list[tuple[int, int, Tensor]] = []

    def add(self, step: int, clips: int, losses: list[Tensor], right: Tensor) -> bool:
        """Take one step's losses (target first) and right answers; True if they were fetched."""
        self._waiting.append((step, clips, torch.stack([right.float(), *(loss.detach().float() for loss in losses)])))
        if len(self._waiting) < self._every:
            return False
        self.fetch()
        return True

    def fetch(self) -> None:
        """Bring `clips` and `sums` up to date; AtlabError at the first loss that is not finite."""
        if not self._waiting:
            return
        for (step, clips, _), (right, *losses) in zip(
            self._waiting, torch.stack([w[2] for w in self._waiting]).tolist(), strict=True
        ):
            for name, loss in zip(("target loss", *(f"loss term {n!r}" for n in self.names)), losses, strict=True):
                if not math.isfinite(loss):
                    raise NotFinite(
                        f"the {name} became {loss} in {self.what}, step {step + 1}; "
                        "a smaller learning rate, fp32 precision or a look at the inputs may help"
                    )
            self.clips += clips
            self.sums = [
                total + value
                for total, value in zip(self.sums, [right, *(clips * loss for loss in losses)], strict=True)
            ]
        self._waiting.clear()

    def means(self) -> dict[str, float]:
        """{"loss": mean over clips, "accuracy": share right, <name>: mean over clips}."""
        self.fetch()
        right, *losses = (value / self.clips for value in self.sums)
        return {"loss": losses[0], "accuracy": right} | dict(zip(self.names, losses[1:], strict=True))


def _train_epoch(
    state: State, model: nn.Module, train: Batches, terms, names, mode, rate, saver: Checkpoint, bar: tqdm
) -> _Sums:
    """The rest of the present epoch, from the step where the state stands."""
    at = state.at
    _set_training(state.model)
    sums = _Sums(names, f"epoch {at.epoch + 1}", mode.device, at.clips, at.sums)
    start = time.monotonic() - at.seconds
    for batch in train.epoch(at.epoch, at.step):
        if at.epoch == at.step == 0:
            _require_finite(batch[0], "training")
        for group in state.optimizer.param_groups:
            group["lr"] = rate(at.epoch * len(train) + at.step) * group["factor"]
        state.optimizer.zero_grad()
        losses, right = step_losses(model, batch, terms, mode)
        sum(losses).backward()
        losses += _values(terms)
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


def _validate(state: State, model: nn.Module, validation: Batches, terms, names, mode) -> _Sums:
    state.model.eval()
    sums = _Sums(names, f"the validation of epoch {state.at.epoch + 1}", mode.device)
    start = time.monotonic()
    with torch.no_grad():
        for step, batch in enumerate(validation.epoch(0)):
            if state.at.epoch == step == 0:
                _require_finite(batch[0], "validation")
            losses, right = step_losses(model, batch, terms, mode)
            sums.add(step, len(batch[1]), losses + _values(terms), right)
    sums.fetch()
    state.at.seconds += time.monotonic() - start
    return sums


def step_losses(
    model: nn.Module, batch: tuple, terms: Sequence[LossTerm], mode: devices.Precision
) -> tuple[list[Tensor], Tensor]:
    """One forward pass: ([cross-entropy of the target, each term], number of right answers)."""
    x, y, index = batch
    x, y = x.to(mode.device, non_blocking=True), y.to(mode.device, non_blocking=True)
    with mode.autocast():
        logits = model(x)
        extra = [term(x, index=index) for term in terms]
    if mode.device.type == "cpu":  # elsewhere this look would wait for the device
        check_codes(y, logits.shape[1])
    return [nnf.cross_entropy(logits.float(), y), *extra], (logits.argmax(1) == y).sum()


def _values(terms: Sequence[LossTerm]) -> list[Tensor]:
    """What the terms measured in their last call, beyond the losses."""
    return [term.values[name] for term in terms for name in getattr(term, "compared", ())]


def _with_modules(model: nn.Module, terms: Sequence[LossTerm], names: Sequence[str]) -> nn.Module:
    """The network, together with the modules that loss terms bring if any does."""
    modules = {name: term.module for name, term in zip(names, terms, strict=True) if hasattr(term, "module")}
    return nn.ModuleDict({"network": model} | modules) if modules else model


def _end_epoch(state: State, trained: _Sums, validated: _Sums, remember: bool) -> None:
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


def _postfix(state: State, sums: _Sums) -> dict[str, str]:
    shown = {name: f"{value:.3f}" for name, value in sums.means().items()}
    if state.at.history:
        shown["validation"] = f"{state.at.history[-1]['validation_loss']:.3f}"
    return shown


def _term_names(terms: Sequence[LossTerm]) -> list[str]:
    names = [str(getattr(term, "name", type(term).__name__)) for term in terms]
    if len(set(names)) != len(names) or {"loss", "accuracy"} & set(names):
        raise AtlabError(f"loss terms need different names other than 'loss' and 'accuracy', found {names}")
    return names


def _set_training(model: nn.Module) -> None:
    """Training mode, but batch norms whose weights are frozen keep their statistics."""
    model.train()
    for norm in _batch_norms(model):
        if norm.affine and not norm.weight.requires_grad:
            norm.eval()


def _batch_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def _check_arguments(
    train: Batches,
    validation: Batches,
    epochs: int,
    patience: int,
    learning_rate: float,
    schedule: str,
    sgd: optimizers.Sgd | None,
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


def _check_terms(terms: Sequence[LossTerm]) -> None:
    for term in terms:
        if getattr(term, "reduction", "mean") != "mean":
            raise AtlabError(
                f"training adds up scalars: expected a loss term with reduction='mean', got {term.reduction!r}"
            )
        for beta in getattr(term, "betas", [getattr(term, "beta", 0.0)]):
            if not abs(beta) <= LARGEST_BETA:
                raise AtlabError(f"beta is {beta}; expected a finite number of at most {LARGEST_BETA:g} in size")


def _require_finite(x: Tensor, part: str) -> None:
    if not torch.isfinite(x).all():
        raise AtlabError(f"the inputs of the first {part} batch hold NaN or infinite values; expected finite numbers")


def _check_batch_sizes(model: nn.Module, train: Batches) -> None:
    """AtlabError for a batch that is too small for batch norm."""
    size = getattr(train, "batch_size", 0)
    if size and (size == 1 or train.clips % size == 1) and _batch_norms(model):
        raise AtlabError(
            f"batch norm cannot learn from a batch of one clip: {train.clips} training clips in batches of {size} leave "
            "one; choose another batch size or leave one clip out"
        )


def _identity(batches: Batches) -> list:
    """What a checkpoint knows data and the order of clips by."""
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
