"""Many multinomial logistic regressions on the same features at once, streamed over the clips.

All problems of a layer (folds x strengths of regularisation x label sets) share one matrix product per block of clips.
Each has variables of its own in which its Hessian is at most the identity (Böhning 1992), and its own L-BFGS steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

RESIDENT = 256 << 20  # bytes of features kept on the device; more are read in blocks
BLOCK = 1 << 18  # logits computed at a time on a processor (its cache), 64 times as many on a GPU
MEMORY = 8  # L-BFGS pairs
ARMIJO = 1e-4


class Design:
    """Feature vectors [N, D] of one layer on a device, scaled to mean 0 and variance 1 for the arithmetic's sake.

    Up to 256 MiB stay on the device; more are read from `x` (a memory map, say) in every pass.
    """

    def __init__(self, x: np.ndarray, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.x, self.device, self.dtype = x, torch.device(device), dtype
        self.clips, self.size = x.shape
        total, squares = np.zeros(self.size), np.zeros(self.size)
        for part in self._raw():
            total += part.sum(0)
        mean = total / self.clips
        for part in self._raw():
            squares += np.square(part - mean).sum(0)
        deviation = np.sqrt(squares / self.clips)
        dead = deviation <= 1e-6 * np.abs(mean)  # constant but for rounding
        self.mean, self.scale = (
            mean,
            np.where(dead | (deviation == 0), 0.0, 1 / np.where(deviation > 0, deviation, 1)),
        )
        self._resident = None
        if x.shape[0] * x.shape[1] * dtype.itemsize <= RESIDENT:
            self._resident = torch.cat([self._scaled(part) for part in self._raw()])

    def blocks(self, rows: Tensor | None = None, size: int = 4096) -> Iterator[tuple[Tensor | slice, Tensor]]:
        """Row numbers (or a slice of them) and scaled features of `size` clips at a time, of all or of some rows."""
        count = self.clips if rows is None else len(rows)
        for start in range(0, count, size):
            index = slice(start, min(start + size, count)) if rows is None else rows[start : start + size]
            if self._resident is not None:
                yield index, self._resident[index]
            else:
                yield index, self._scaled(self.x[index if rows is None else index.cpu().numpy()])

    def moments(self, part: Tensor, parts: int) -> tuple[Tensor, Tensor, Tensor]:
        """Counts [F], sums [F, D] and sums of products [F, D, D] of the clips of each part, float64."""
        counts = torch.bincount(part, minlength=parts).double()
        sums = torch.zeros(parts, self.size, dtype=torch.float64, device=self.device)
        products = torch.zeros(parts, self.size, self.size, dtype=torch.float64, device=self.device)
        for index, x in self.blocks():
            for number in part[index].unique().tolist():
                mine = x[part[index] == number]
                sums[number] += mine.sum(0, dtype=torch.float64)
                products[number] += mine.T @ mine
        return counts, sums, products

    def _raw(self, size: int = 8192) -> Iterator[np.ndarray]:
        for start in range(0, self.clips, size):
            yield np.asarray(self.x[start : start + size], dtype=np.float64)

    def _scaled(self, part: np.ndarray) -> Tensor:
        scaled = (np.asarray(part, np.float64) - self.mean) * self.scale
        return torch.from_numpy(scaled).to(self.device, self.dtype)


@dataclass
class Problems:
    """P regressions on one design: who trains on which parts of the clips, with which labels, how regularised.

    Attributes:
        part: [N] number of the part that each clip lies in, 0 to F - 1.
        codes: [L, N] class numbers, 0 to K - 1: L label sets (true ones, shuffled ones).
        classes: K.
        trains: bool [P, F]. labels: [P] which label set. strength: [P], scikit-learn's C.
        balanced: classes weigh the same in the loss, however many clips they have.
        penalised: the intercepts are regularised too.
    """

    part: Tensor
    codes: Tensor
    classes: int
    trains: Tensor
    labels: Tensor
    strength: Tensor
    balanced: bool = True
    penalised: bool = False


@dataclass
class Spaces:
    """For each training set (a union of parts): variables in which a problem on it is well conditioned.

    count [S], mean [S, D], deviation [S, D], and the eigenvectors [S, D, D] and eigenvalues [S, D] of the correlations.
    """

    count: Tensor
    mean: Tensor
    deviation: Tensor
    vectors: Tensor
    values: Tensor


def spaces(moments: tuple[Tensor, Tensor, Tensor], sets: Tensor) -> Spaces:
    """Statistics of unions of parts, bool [S, F], from the parts' moments."""
    weights = sets.double()
    count = weights @ moments[0]
    mean = weights @ moments[1] / count[:, None]
    second = torch.einsum("sf,fde->sde", weights, moments[2]) / count[:, None, None]
    covariance = second - mean[:, :, None] * mean[:, None, :]
    variance = covariance.diagonal(dim1=1, dim2=2).clamp_min(0)
    alive = variance > 1e-9
    deviation = torch.where(alive, variance, 1).sqrt()
    both = deviation[:, :, None] * deviation[:, None, :]
    correlation = torch.where(alive[:, :, None] & alive[:, None, :], covariance / both, 0)
    values, vectors = torch.linalg.eigh(correlation)
    # A constant feature has scale infinity: it never enters.
    return Spaces(count, mean, torch.where(alive, deviation, torch.inf), vectors, values.clamp_min(0))


@dataclass
class Solution:
    """Coefficients [P, D, K] and intercepts [P, K] on the design's features, and how far the fit came.

    standardised: coefficients on the features scaled by their training part, as scikit-learn would show them.
    loss [P]: mean weighted cross-entropy in training (nats); objective [P]: with the penalty.
    """

    coefficients: Tensor
    intercepts: Tensor
    standardised: Tensor
    loss: Tensor
    objective: Tensor
    passes: int


def fit(
    design: Design,
    problems: Problems,
    space: Spaces,
    which: Tensor,
    *,
    start: tuple[Tensor, Tensor] | None = None,
    rows: Tensor | None = None,
    tolerance: float = 1e-5,
    most: int = 200,
) -> Solution:
    """Minimise mean cross-entropy + ||W||² / (2 C n) for all problems: scikit-learn's objective over C n.

    Of two classes W is the one column of coefficients that scikit-learn has, here the difference of two.

    Args:
        which: [P] number of the problem's training set in `space`.
        start: standardised coefficients [P, D, K] and centred intercepts [P, K] to start from.
        rows: the clips that any problem trains on; all if None.
        tolerance: a problem is done when half its squared gradient (the gain, in nats, that a step can still be
            proven to bring) is at most this.
        most: passes over the clips.
    """
    task = _Task(design, problems, space, which)
    state = _start(task, start)
    passes = 0
    while len(state.active) and passes < most:
        passes += 1
        active = state.active
        trial = state.theta[active] + state.step[active, None] * state.direction[active]
        objective, loss, gradient = task.evaluate(trial, active, rows)
        state.advance(trial, objective, loss, gradient, tolerance)
    return task.solution(state, passes)


class _Task:
    """Objective and gradient of the problems in their own variables."""

    def __init__(self, design: Design, problems: Problems, space: Spaces, which: Tensor) -> None:
        self.design, self.p = design, problems
        dtype, k = design.dtype, problems.classes
        self.count = space.count[which]
        # Two classes have columns +-w/2, whose squares sum to half of those of scikit-learn's one column w.
        self.penalty = (2 if k == 2 else 1) / (problems.strength.double() * self.count)  # [P]
        self.shrink = (0.5 * space.values[which] + self.penalty[:, None]).rsqrt()  # [P, D]
        turned = space.vectors[which] * self.shrink[:, None, :]
        self.turned = turned.to(dtype)
        self.basis = (turned / space.deviation[which][:, :, None]).to(dtype)
        self.mean = space.mean[which].to(dtype)
        self.bias = (0.5 + (self.penalty if problems.penalised else 0 * self.penalty)).rsqrt().to(dtype)
        counts = torch.stack(
            [_class_counts(codes, problems.part, problems.trains.shape[1], k) for codes in problems.codes]
        )
        mine = torch.einsum("pf,pfk->pk", problems.trains.double(), counts[problems.labels])
        weights = self.count[:, None] / (k * mine.clamp_min(1)) if problems.balanced else torch.ones_like(mine)
        self.weights = weights.to(dtype)
        self.shape = len(which), design.size + 1, k

    def effective(self, theta: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients [p, D, K] and intercepts [p, K] on the design's features."""
        theta = theta.unflatten(1, self.shape[1:])
        coefficients = self.basis[active] @ theta[:, :-1]
        centred = torch.einsum("pd,pdk->pk", self.mean[active], coefficients)
        return coefficients, self.bias[active, None] * theta[:, -1] - centred

    def evaluate(self, theta: Tensor, active: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Objective and loss float64 [p], gradient [p, (D + 1) K] of the active problems."""
        p, (_, _, k), mean = len(active), self.shape, self.mean[active]
        coefficients, intercepts = self.effective(theta, active)
        columns, offset = coefficients.permute(2, 0, 1).flatten(0, 1), intercepts.T.reshape(-1, 1)
        trains, weights = self.p.trains[active].to(theta.dtype), self.weights[active]
        labels = self.p.labels[active]
        loss = torch.zeros(p, dtype=torch.float64, device=theta.device)
        slope, total = torch.zeros_like(columns), torch.zeros(k, p, dtype=theta.dtype, device=theta.device)
        many = BLOCK * (64 if theta.is_cuda else 1) // (k * p)
        for index, x in self.design.blocks(rows, max(64, many)):
            y = self.p.codes[:, index][labels]
            w = weights.gather(1, y) * trains[:, self.p.part[index]]
            z = torch.addmm(offset, columns, x.T).unflatten(0, (k, p))
            z -= z.amax(0)
            mine = z.gather(0, y[None])[0]
            z = z.exp_()
            norm = z.sum(0)
            loss += (w * (norm.log() - mine)).sum(1, dtype=torch.float64)
            z *= w / norm
            z.scatter_add_(0, y[None], -w[None])
            slope += z.flatten(0, 1) @ x
            total += z.sum(2)
        return self._with_penalty(theta, active, loss / self.count[active], slope, total, mean)

    def _with_penalty(self, theta, active, loss, slope, total, mean):
        p, (_, d, k), n = len(active), self.shape, self.count[active].to(theta.dtype)
        parts = theta.unflatten(1, (d, k))
        slope = slope.unflatten(0, (k, p)).permute(1, 2, 0) - mean[:, :, None] * total.T[:, None, :]
        pull = (self.penalty[active, None] * self.shrink[active].square()).to(theta.dtype)
        inner = self.basis[active].mT @ slope / n[:, None, None] + pull[:, :, None] * parts[:, :-1]
        outer = self.bias[active, None] * total.T / n[:, None]
        penalty = 0.5 * (pull[:, :, None] * parts[:, :-1].square()).sum((1, 2), dtype=torch.float64)
        if self.p.penalised:
            more = self.penalty[active].to(theta.dtype) * self.bias[active].square()
            outer = outer + more[:, None] * parts[:, -1]
            penalty = penalty + 0.5 * more * parts[:, -1].square().sum(1)
        return loss + penalty, loss, torch.cat([inner, outer[:, None]], 1).flatten(1)

    def solution(self, state: _State, passes: int) -> Solution:
        every = torch.arange(self.shape[0], device=state.theta.device)
        coefficients, intercepts = self.effective(state.theta, every)
        standardised = self.turned @ state.theta.unflatten(1, self.shape[1:])[:, :-1]
        return Solution(coefficients, intercepts, standardised, state.loss, state.objective, passes)


class _State:
    """L-BFGS of every problem by itself: those whose step is not good enough shorten it while the others go on."""

    def __init__(self, theta: Tensor) -> None:
        p, size = theta.shape
        self.theta, self.gradient = theta, torch.zeros_like(theta)
        self.direction, self.step = (torch.zeros_like(theta), torch.zeros(p, dtype=theta.dtype, device=theta.device))
        self.objective = torch.full((p,), torch.inf, dtype=torch.float64, device=theta.device)
        self.loss = self.objective.clone()
        self.moves = torch.zeros(MEMORY, p, size, dtype=theta.dtype, device=theta.device)
        self.turns = torch.zeros_like(self.moves)
        self.inverse = torch.zeros(MEMORY, p, dtype=theta.dtype, device=theta.device)
        self.active = torch.arange(p, device=theta.device)
        self.noise = 4 * torch.finfo(theta.dtype).eps

    def advance(self, trial: Tensor, objective: Tensor, loss: Tensor, gradient: Tensor, tolerance: float) -> None:
        """Take or shorten the steps that were tried; problems that are done leave `active`."""
        a = self.active
        slope = (self.gradient[a] * self.direction[a]).sum(1)
        bound = self.objective[a] + ARMIJO * self.step[a] * slope + self.noise * objective.abs()
        good = objective <= bound
        self.step[a[~good]] *= 0.5
        stuck = ~good & (self.step[a] < 1e-6)
        taken = a[good]
        first = torch.isinf(self.objective[taken])
        self._remember(taken[~first], trial[good][~first], gradient[good][~first])
        self.theta[taken], self.gradient[taken] = trial[good], gradient[good]
        self.objective[taken], self.loss[taken] = objective[good], loss[good]
        self.direction[taken], self.step[taken] = self._direction(taken), 1.0
        self.active = a[~(stuck | (0.5 * self.gradient[a].square().sum(1) <= tolerance) & good)]

    def _remember(self, problems: Tensor, theta: Tensor, gradient: Tensor) -> None:
        move, turn = theta - self.theta[problems], gradient - self.gradient[problems]
        curvature = (move * turn).sum(1)
        keep = curvature > 1e-3 * self.noise * turn.square().sum(1)
        problems, move, turn, curvature = problems[keep], move[keep], turn[keep], curvature[keep]
        for history, new in ((self.moves, move), (self.turns, turn), (self.inverse, 1 / curvature)):
            history[:-1, problems] = history[1:, problems]
            history[-1, problems] = new

    def _direction(self, problems: Tensor) -> Tensor:
        """-H g by the two-loop recursion (Nocedal & Wright 2006, algorithm 7.4); pairs not yet there have inverse 0."""
        q, weights = self.gradient[problems].clone(), []
        moves, turns, inverse = self.moves[:, problems], self.turns[:, problems], self.inverse[:, problems]
        for i in reversed(range(MEMORY)):
            weights.append(inverse[i] * (moves[i] * q).sum(1))
            q -= weights[-1][:, None] * turns[i]
        newest = turns[-1].square().sum(1)
        q *= torch.where(newest > 0, 1 / (inverse[-1] * newest), 1.0)[:, None]
        for i in range(MEMORY):
            q += (weights.pop() - inverse[i] * (turns[i] * q).sum(1))[:, None] * moves[i]
        return -q


def _start(task: _Task, start: tuple[Tensor, Tensor] | None) -> _State:
    p, d, k = task.shape
    theta = torch.zeros(p, d, k, dtype=task.design.dtype, device=task.design.device)
    if start is not None:
        # The inverse of `turned`, whose columns are orthogonal vectors of length `shrink`.
        theta[:, :-1] = (task.turned / task.shrink.to(theta.dtype)[:, None, :].square()).mT @ start[0]
        theta[:, -1] = start[1] / task.bias[:, None]
    return _State(theta.flatten(1))


def _class_counts(codes: Tensor, part: Tensor, parts: int, classes: int) -> Tensor:
    """Clips of each class in each part: float64 [F, K]."""
    return torch.bincount(part * classes + codes, minlength=parts * classes).reshape(parts, classes).double()


def logits(design: Design, solution: Solution, rows: Tensor | None = None) -> Iterator[tuple[Tensor | slice, Tensor]]:
    """Row numbers and logits [m, P, K] of every problem, block by block."""
    p, _, k = solution.coefficients.shape
    columns = solution.coefficients.permute(1, 0, 2).flatten(1)
    size = max(64, BLOCK * (64 if columns.is_cuda else 1) // (p * k))
    for index, x in design.blocks(rows, size):
        yield index, torch.addmm(solution.intercepts.flatten(), x, columns).unflatten(1, (p, k))
