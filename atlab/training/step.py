"""One step: the forward pass, the target's loss and the loss terms; what is asked of a loss term."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as nnf
from torch import Tensor, nn

from atlab.errors import AtlabError
from atlab.losses.target import TargetLoss
from atlab.losses.term import LossTerm
from atlab.system import devices
from atlab.training.evaluation import check_codes

LARGEST_BETA = 1e6


def step_losses(
    model: nn.Module,
    batch: tuple,
    terms: Sequence[LossTerm],
    mode: devices.Precision,
    target_loss: TargetLoss | None = None,
) -> tuple[list[Tensor], Tensor]:
    """One forward pass: ([loss of the target, each term], number of right answers); cross-entropy if there is no `target_loss`."""
    x, y, index = batch
    x, y = x.to(mode.device, non_blocking=True), y.to(mode.device, non_blocking=True)
    with mode.autocast():
        logits = model(x)
        extra = [term(x, index=index) for term in terms]
    if mode.device.type == "cpu":  # elsewhere this look would wait for the device
        check_codes(y, logits.shape[1])
    logits = logits.float()
    target = nnf.cross_entropy(logits, y) if target_loss is None else target_loss(logits, y, index)
    return [target, *extra], (logits.argmax(1) == y).sum()


def logged(terms: Sequence[LossTerm]) -> list[str]:
    """What an epoch says of the terms: the name of each, then NAME_WHAT for what each `compared`."""
    names = term_names(terms)
    compared = (f"{n}_{c}" for n, term in zip(names, terms, strict=True) for c in getattr(term, "compared", ()))
    return [*names, *compared]


def measured(terms: Sequence[LossTerm]) -> list[Tensor]:
    """What the terms measured in their last call, beyond the losses."""
    return [term.values[name] for term in terms for name in getattr(term, "compared", ())]


def with_modules(model: nn.Module, losses: Sequence[LossTerm | TargetLoss]) -> nn.Module:
    """The network, together with the modules that losses bring if any does."""
    modules = {loss.name: loss.module for loss in losses if hasattr(loss, "module")}
    return nn.ModuleDict({"network": model} | modules) if modules else model


def term_names(terms: Sequence[LossTerm]) -> list[str]:
    """The name of each term; AtlabError unless they differ."""
    names = [str(getattr(term, "name", type(term).__name__)) for term in terms]
    if len(set(names)) != len(names) or {"loss", "accuracy"} & set(names):
        raise AtlabError(f"expected loss terms with different names, none of them 'loss' or 'accuracy', got {names}")
    return names


def check_terms(terms: Sequence[LossTerm]) -> None:
    """AtlabError for terms that cannot be added up."""
    for term in terms:
        if getattr(term, "reduction", "mean") != "mean":
            raise AtlabError(
                f"training adds up scalars: expected a loss term with reduction='mean', got {term.reduction!r}"
            )
        for beta in getattr(term, "betas", [getattr(term, "beta", 0.0)]):
            if not abs(beta) <= LARGEST_BETA:
                raise AtlabError(f"beta is {beta}; expected a finite number of at most {LARGEST_BETA:g} in size")
