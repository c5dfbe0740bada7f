"""Many small multilayer perceptrons on the same features at once: what a linear probe cannot see."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as nnf

from atlab.invariance.probes.logistic import Design, Problems, Spaces

HIDDEN = 64
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-3
BATCH = 320  # clips drawn per step, of which each problem uses those it trains on
STEPS = 600
CHECK = 10  # steps between looks at the validation clips
PATIENCE = 10  # looks without a better one
LOOK = 1000  # validation clips looked at, at most


def fit(
    design: Design, problems: Problems, space: Spaces, which: Tensor, validation: Tensor, seed: int = 0
) -> list[Tensor]:
    """Train one hidden layer of 64 units (ReLU) for every problem, stopped early on a part of its own: -> weights.

    Adam with decoupled weight decay, the same batches for all problems; each keeps the weights of its best look at
    `validation` [P] (a part that it does not train on). Class weights as in `logistic.fit`.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = _initial(len(which), design, problems.classes, generator)
    best = [w.detach().clone() for w in weights]
    optimiser = torch.optim.AdamW(weights, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    view = _View(design, problems, space, which)
    watched = _watched(problems.part, problems.trains.shape[1])
    is_mine = validation[:, None] == problems.part[watched]
    lowest = torch.full((len(which),), torch.inf, device=design.device)
    since = 0
    order = torch.zeros(0, dtype=torch.int64)
    for step in range(STEPS):
        if len(order) < min(BATCH, design.clips):
            order = torch.randperm(design.clips, generator=generator)
        rows, order = order[:BATCH].to(design.device), order[BATCH:]
        optimiser.zero_grad()
        uses = problems.trains[:, problems.part[rows]]
        view.loss(weights, rows, uses).sum().backward()
        optimiser.step()
        if (step + 1) % CHECK == 0:
            with torch.no_grad():
                found = view.loss(weights, watched, is_mine)
            better = found < lowest
            lowest = torch.where(better, found, lowest)
            for kept, now in zip(best, weights, strict=True):
                kept[better] = now.detach()[better]
            since = 0 if better.any() else since + 1
            if since == PATIENCE:
                break
    return best


def predictions(
    design: Design, problems: Problems, space: Spaces, which: Tensor, weights: list[Tensor], owner: Tensor
) -> Tensor:
    """Class number of every clip by the problem `owner` [L, N] that did not train on it: -> [L, N]."""
    view = _View(design, problems, space, which)
    found = torch.empty_like(owner)
    for start in range(0, design.clips, 1024):
        rows = torch.arange(start, min(start + 1024, design.clips), device=design.device)
        with torch.no_grad():
            classes = view.logits(weights, rows).argmax(2)  # [P, m]
        found[:, rows] = classes.gather(0, owner[:, rows])
    return found


class _View:
    """The clips as each problem sees them: scaled by its own training set, weighted by class."""

    def __init__(self, design: Design, problems: Problems, space: Spaces, which: Tensor) -> None:
        self.design, self.p = design, problems
        self.mean = space.mean[which].to(design.dtype)
        self.scale = (1 / space.deviation[which]).to(design.dtype)

    def logits(self, weights: list[Tensor], rows: Tensor) -> Tensor:
        """[P, m, K]."""
        into, bias, out, last = weights
        x = next(self.design.blocks(rows, len(rows)))[1]
        # The scaling is part of the first matrix: no copy of the clips for every problem.
        first = into * self.scale[:, :, None]
        offset = bias - torch.einsum("pd,pdh->ph", self.mean, first)
        hidden = torch.matmul(x, first) + offset[:, None]
        return torch.baddbmm(last[:, None], hidden.relu(), out)

    def loss(self, weights: list[Tensor], rows: Tensor, uses: Tensor) -> Tensor:
        """Mean cross-entropy [P] over the rows that each problem uses, classes weighing the same."""
        y = self.p.codes[:, rows][self.p.labels]  # [P, m]
        one_hot = nnf.one_hot(y, self.p.classes).float() * uses[:, :, None]
        share = 1 / one_hot.sum(1).clamp_min(1)  # [P, K]
        w = share.gather(1, y) * uses
        losses = nnf.cross_entropy(self.logits(weights, rows).flatten(0, 1), y.flatten(), reduction="none")
        return (losses.view_as(w) * w).sum(1) / w.sum(1).clamp_min(1e-12)


def _initial(p: int, design: Design, classes: int, generator: torch.Generator) -> list[Tensor]:
    def uniform(*shape: int, inputs: int) -> Tensor:
        drawn = (2 * torch.rand(shape, generator=generator) - 1) / inputs**0.5
        return drawn.to(design.device, design.dtype).requires_grad_()

    d = design.size
    return [
        uniform(p, d, HIDDEN, inputs=d),
        uniform(p, HIDDEN, inputs=d),
        uniform(p, HIDDEN, classes, inputs=HIDDEN),
        uniform(p, classes, inputs=HIDDEN),
    ]


def _watched(part: Tensor, parts: int) -> Tensor:
    """Up to `LOOK` rows of every part."""
    return torch.cat([torch.nonzero(part == number)[:LOOK, 0] for number in range(parts)])
