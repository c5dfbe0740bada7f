"""Gradual transfer learning (Fayek, Cavedon & Wu 2018, section 2): copy all hidden layers, hold the first ones, tune the rest."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from atlab.data.loaders import RESIDENT_BYTES, Batch
from atlab.errors import AtlabError, unknown
from atlab.models import ARCHITECTURES
from atlab.system import devices
from atlab.training.loop import fit
from atlab.training.optimizers import Sgd
from atlab.transfer.cut import Cut
from atlab.transfer.prefix import PrefixBatches

# Where the held part may end, in stages: single layers of A and B, the supplement's groups of blocks of DenseNet-40.
BLOCKS = {"0": 0, "block 1": 1, "blocks 2-3": 3, "blocks 4-5": 5, "blocks 6-7": 7}


@dataclass(frozen=True)
class Transferred:
    """A network after transfer, how many stages were held, and the history of what was tuned after the output layer alone."""

    model: nn.Module
    held: int
    history: pd.DataFrame


def intervals(model: nn.Module) -> dict[str, int]:
    """Name -> number of held stages l_c, from none to all hidden ones.

    >>> import atlab
    >>> intervals(atlab.models.fayek_a(4, width=1 / 32))
    {'0': 0, 'layer 1': 1, 'layer 2': 2, 'layer 3': 3, 'layer 4': 4, 'layer 5': 5}
    >>> intervals(atlab.models.densenet40(4, width=1 / 12))["blocks 6-7"]
    7
    """
    names = _names(model)
    if model.architecture == "densenet40":
        return dict(BLOCKS)
    return {"0": 0} | {f"layer {n}": n for n in range(1, len(names))}


def copy_hidden(base: nn.Module, num_classes: int) -> nn.Module:
    """A network for another task: all of `base` (weights, batch-norm statistics, input normalisation) but its output layer.

    The output layer is drawn from PyTorch's random state. AtlabError if the base is not cut into stages.

    >>> import atlab
    >>> base = atlab.models.fayek_a(144, width=1 / 32)
    >>> net = copy_hidden(base, num_classes=4)
    >>> bool((net.stages.layer1[1].weight == base.stages.layer1[1].weight).all()), net.stages.output.out_features
    (True, 4)
    """
    _names(base)
    model = ARCHITECTURES[base.architecture](**{**base.arguments, "num_classes": num_classes})
    weights = base.state_dict()
    own = model.state_dict()
    model.load_state_dict({n: own[n] if n.startswith("stages.output.") else weights[n] for n in own})
    return model


def gradual(
    base: nn.Module,
    num_classes: int,
    train,
    validation,
    held: Sequence[int],
    *,
    epochs: int = 50,
    patience: int = 5,
    output_epochs: int = 1,
    learning_rate: float = 5e-4,
    optimizer: str | Sgd = "adam",
    seed: int = 0,
    device: str | torch.device | None = None,
    normalisation: tuple | None = None,
    progress: bool = True,
) -> Iterator[Transferred]:
    """Transfer `base` to the task of `train`, once for every number of held stages, each from the same start.

    First the output layer alone is tuned for `output_epochs` on the copied network's last hidden activations (so that
    no gradients of random weights reach copied ones); all values of `held` share that. Then what follows the held
    stages is tuned, with what `atlab.training.fit` does. With all hidden stages held, the output layer is simply tuned to the
    end. Held stages compute in evaluation mode: neither weights nor batch-norm statistics change, nothing is
    dropped; what they give is computed once, not in every epoch, where it fits into 1 GiB.

    Args:
        train, validation: sources of batches such as `atlab.data.Batches` and `InMemory`.
        held: values of l_c, from 0 to the number of hidden stages (`intervals`).
        epochs, patience, learning_rate, optimizer: as in `training.fit`.
        normalisation: mean and standard deviation of the new task's inputs; the base's if None.
        seed: of the new output layer, dropout and order.

    Raises:
        AtlabError: a number of stages out of range, `output_epochs` below 1, a base without stages.
    """
    hidden = len(_names(base)) - 1
    for number in held:
        if not 0 <= number <= hidden:
            raise AtlabError(f"expected 0 to {hidden} held stages of {base.architecture}, got {number}")
    if output_epochs < 1:
        raise AtlabError(f"output_epochs must be at least 1, found {output_epochs}")
    device = devices.choose(device)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        start = copy_hidden(base, num_classes)
    if normalisation is not None:
        start.set_normalisation(*normalisation)
    start.to(device)
    settings = {"learning_rate": learning_rate, "optimizer": optimizer, "seed": seed}
    settings |= {"device": device, "progress": progress}
    _fit_rest(start, hidden, train, validation, epochs=output_epochs, patience=output_epochs, **settings)
    for number in held:
        model = copy.deepcopy(start)
        history = _fit_rest(model, number, train, validation, epochs=epochs, patience=patience, **settings)
        yield Transferred(model, number, history)


def _fit_rest(model: nn.Module, held: int, train, validation, device, **settings) -> pd.DataFrame:
    """Train what follows the first `held` stages, on what these give; the model is left in evaluation mode."""
    mode = devices.precision("auto", device)
    model.requires_grad_(True)
    cut = Cut(model, held, frozen=True)
    parts = [_seen_through(cut.prefix, batches, mode) for batches in (train, validation)]
    history = fit(cut.rest, *parts, device=device, description=f"{held} stages held", **settings)
    model.requires_grad_(True).eval()
    return history


def _seen_through(prefix: nn.Module, batches, mode: devices.Precision) -> PrefixBatches | Through:
    """A source of batches seen through stages that do not change: computed once, if all of it fits into 1 GiB."""
    with torch.no_grad():
        one = prefix.eval()(next(iter(batches.epoch(0))).x[:1].to(mode.device))
    if 4 * one.numel() * batches.clips > RESIDENT_BYTES:
        return Through(prefix, batches, mode)
    return PrefixBatches(prefix, batches, mode)


class Through:
    """A source of batches whose inputs go through fixed layers each time: for what does not fit into memory."""

    augmented = False

    def __init__(self, prefix: nn.Module, batches, mode: devices.Precision) -> None:
        self.prefix, self.batches, self.mode, self.clips = prefix, batches, mode, batches.clips

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on."""
        for batch in self.batches.epoch(number, start):
            with torch.no_grad(), self.mode.autocast():
                x = self.prefix(batch.x.to(self.mode.device)).float()
            yield Batch(x, batch.y, batch.index)


def _names(model: nn.Module) -> list[str]:
    """Names of the model's stages; AtlabError if it has none."""
    if not hasattr(model, "stages"):
        raise unknown(
            "architecture with stages:",
            getattr(model, "architecture", type(model).__name__),
            ("densenet40", "fayek_a", "fayek_b"),
        )
    return [name for name, _ in model.stages.named_children()]
