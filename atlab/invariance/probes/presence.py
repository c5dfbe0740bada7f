"""Presence: how much of a factor can be read from features, by probes that are trained for it.

Linear probes (Alain & Bengio 2016) and small multilayer perceptrons, cross-validated so that no group (source file,
speaker) lies on both sides; a control with shuffled labels (Hewitt & Liang 2019); and the bits that a linear probe needs
to transmit the labels one after the other (Voita & Titov 2020). All probes of a layer and factor train at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from atlab.errors import AtlabError, unknown
from atlab.invariance.probes import logistic, mlp
from atlab.invariance.probes.logistic import Design, Problems
from atlab.stats.accuracy import balanced_accuracy, fold_interval
from atlab.system import devices

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
PROBES = ("linear", "mlp")
CHOICE = 2000  # clips on which strengths of regularisation are compared, at most
CHOOSING = 1e-4  # nats that may be left to gain then
FOLDS = 5
SMALLEST = 16  # clips in the first block of the code


def presence(
    features: Mapping[str, np.ndarray],
    labels: Mapping[str, Sequence],
    groups: Sequence | None = None,
    *,
    probes: Sequence[str] = ("linear",),
    folds: int = FOLDS,
    strengths: Sequence[float] = STRENGTHS,
    bits: bool = True,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> pd.DataFrame:
    """Probe every factor at every layer: -> one row per layer, factor and probe.

    Direction: more is more of the factor. Range: chance (1 / classes) to 1; 0 to log2(classes) bits. Invariances: linear
    probes to invertible affine maps of the features, up to the regularisation. Assumes that the factors vary
    independently on these clips: where they are confounded, one is read from the other.

    Args:
        features: layer -> [N, D], from `features.extract` or any arrays.
        labels: factor -> value of every clip [N].
        groups: clips of equal value stay on one side of every fold [N]; every clip by itself if None.
        probes: "linear": multinomial logistic regression on standardised features, its strength of
            regularisation chosen inside each fold; "mlp": one hidden layer of 64, stopped early inside each fold. Classes
            weigh the same in training.
        strengths: scikit-learn's C, to choose from.
        bits: also the prequential code length (of the linear probe).

    Returns columns:
        balanced_accuracy over all clips, each predicted by the probe of the folds it is not in; low, high: its 95 %
        interval over clips (groups); fold_low, fold_high: over folds; chance; control: the same for shuffled labels, with the
        strengths chosen for the true ones; selectivity: the difference; bits, uniform_bits: bits per clip, and those of a code that
        knows nothing; n, classes, folds.

    Raises:
        AtlabError: lengths that differ, an unknown probe, too few groups, a factor of one class, a class that lies in one
            fold only (so no probe could learn it from the others).

    >>> rng = np.random.default_rng(0)
    >>> speaker = rng.integers(3, size=300)
    >>> x = rng.standard_normal((300, 8)) + 2 * np.eye(3, 8)[speaker]
    >>> table = presence({"conv1": x}, {"speaker": speaker})
    >>> bool(table.low[0] > table.chance[0]), bool(table.bits[0] < table.uniform_bits[0])
    (True, True)
    """
    for probe in probes:
        if probe not in PROBES:
            raise unknown("probe", probe, PROBES)
    _check_lengths(features, labels, groups)
    groups, part, tasks = _dealt(labels, groups, folds, seed)
    dev = devices.choose(None if device == "auto" else device)
    blocks, order = code_blocks(groups, seed)
    rows = []
    with tqdm(total=len(features) * len(tasks), desc="probes", delay=2, leave=False, disable=not progress) as bar:
        for layer, x in features.items():
            design = Design(x, dev)
            layer_of = _Layer(
                design, torch.from_numpy(part).to(dev), folds, torch.from_numpy(blocks).to(dev), order, bits
            )
            for factor, task in tasks.items():
                for probe in probes:
                    found = {"layer": layer, "factor": factor, "probe": probe}
                    right, control = layer_of.linear(task, strengths) if probe == "linear" else layer_of.mlp(task, seed)
                    found |= _summary(right, control, task, part, groups)
                    if bits and probe == "linear":
                        found |= {"bits": layer_of.bits(task, strengths), "uniform_bits": float(np.log2(task.classes))}
                    rows.append(found)
                bar.update()
    return pd.DataFrame(rows)


def check(labels: Mapping[str, Sequence], groups: Sequence | None = None, folds: int = FOLDS, seed: int = 0) -> None:
    """Raise what `presence` raises about labels and groups, before there are features."""
    _dealt(labels, groups, folds, seed)


def _dealt(labels: Mapping, groups: Sequence | None, folds: int, seed: int) -> tuple[np.ndarray, np.ndarray, dict]:
    """Numbers of the clips' groups [N], their folds [N], and the factors as tasks."""
    n = len(next(iter(labels.values())))
    groups = np.arange(n) if groups is None else pd.factorize(np.asarray(groups))[0]
    part = deal(groups, folds, seed)
    return groups, part, {factor: _task(factor, values, part, folds, seed) for factor, values in labels.items()}


@dataclass(frozen=True)
class _Task:
    """Class numbers of a factor, true and shuffled [2, N]."""

    codes: np.ndarray
    classes: int


def _task(factor: str, values: Sequence, part: np.ndarray, folds: int, seed: int) -> _Task:
    values = pd.Series(np.asarray(values))
    if values.isna().any():
        raise AtlabError(
            f"factor {factor!r} has no value for {int(values.isna().sum())} of {len(values)} clips: leave these out"
        )
    codes, names = pd.factorize(values, sort=True)
    if len(names) < 2:
        raise AtlabError(
            f"factor {factor!r} has a single class {names[0]!r} on these clips: there is nothing to tell apart"
        )
    spread = [len(np.unique(part[codes == k])) for k in range(len(names))]
    if min(spread) < 2:
        alone = names[int(np.argmin(spread))]
        raise AtlabError(
            f"class {alone!r} of factor {factor!r} lies in one of {folds} folds, so that no probe can learn it from the others: "
            "group the clips by another column, or measure more of them"
        )
    shuffled = np.random.default_rng([seed, 11]).permutation(codes)
    return _Task(np.stack([codes, shuffled]).astype(np.int64), len(names))


class _Layer:
    """The features of one layer, and what all factors share: folds, their moments, their well-conditioned variables."""

    def __init__(self, design: Design, part: Tensor, folds: int, blocks: Tensor, order: np.ndarray, bits: bool) -> None:
        self.design, self.part, self.folds, self.blocks = design, part, folds, blocks
        self.order = torch.from_numpy(order).to(part.device)
        eye = torch.eye(folds, dtype=torch.bool, device=part.device)
        self.outer, self.next = ~eye, (torch.arange(folds, device=part.device) + 1) % folds
        self.inner = self.outer & ~eye[self.next]  # without the fold on which the choice is made, too
        moments = design.moments(part, folds)
        self.space, self.inner_space = (logistic.spaces(moments, self.outer), logistic.spaces(moments, self.inner))
        self.few = None
        if design.clips > CHOICE:
            rows = np.sort(np.random.default_rng(13).permutation(design.clips)[:CHOICE])
            self.few = torch.from_numpy(rows).to(part.device)
        self.small = design if self.few is None else Design(design.x[rows], design.device, design.dtype)
        self.small_part = part if self.few is None else part[self.few]
        self.small_space = (
            self.inner_space
            if self.few is None
            else logistic.spaces(self.small.moments(self.small_part, folds), self.inner)
        )
        if bits:
            count = int(blocks.max()) + 1
            sets = torch.ones(count, count, dtype=torch.bool, device=part.device).tril(-1)[1:]
            self.prefixes, self.prefix_space = sets, logistic.spaces(design.moments(blocks, count), sets)

    def linear(self, task: _Task, strengths: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Whether each clip is classified correctly by the probe that did not train on its fold, bool [N]: true, shuffled labels."""
        chosen, start = self._choose(task, strengths)
        f, device = self.folds, self.part.device
        fold = torch.arange(f, device=device).repeat(2)
        labels = torch.arange(2, device=device).repeat_interleave(f)
        problems = self._problems(task, self.outer[fold], labels, chosen.repeat(2))
        solution = logistic.fit(self.design, problems, self.space, fold, start=start)
        right = np.empty((2, self.design.clips), bool)
        for index, z in logistic.logits(self.design, solution):
            named = z.argmax(2)  # [m, 2 F]
            mine = self.part[index][:, None] + torch.tensor([0, f], device=device)
            right[:, index] = (problems.codes[:, index] == named.gather(1, mine).T).cpu().numpy()
        return right[0], right[1]

    def _choose(self, task: _Task, strengths: Sequence[float]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Each fold's best strength on the fold after it [F], and where the fits start: [2 F, D, K], [2 F, K].

        The strength weighs the prior against single clips, so the best one hardly depends on their number: with very many,
        2,000 of them decide.
        """
        f, s, device, part = self.folds, len(strengths), self.part.device, self.small_part
        fold = torch.arange(f, device=device).repeat_interleave(s)
        c = torch.tensor(strengths, dtype=torch.float64, device=device).repeat(f)
        codes = torch.from_numpy(task.codes[0]).to(device)
        codes = codes if self.few is None else codes[self.few]
        problems = Problems(part, codes[None], task.classes, self.inner[fold], torch.zeros_like(fold), c)
        solution = logistic.fit(self.small, problems, self.small_space, fold, tolerance=CHOOSING)
        losses = torch.zeros(f * s, dtype=torch.float64, device=device)
        seen = torch.zeros(f, task.classes, device=device)
        seen.index_put_((part, codes), torch.ones((), device=device), accumulate=True)  # clips by fold and class
        weight = torch.where(self.inner.float() @ seen > 0, 1 / seen[self.next].clamp_min(1), 0)  # [F, K]
        for index, z in logistic.logits(self.small, solution):
            y = codes[index]
            loss = -z.log_softmax(2).gather(2, y[:, None, None].expand(-1, z.shape[1], 1))[:, :, 0]
            mine = weight[fold][:, y].T * (part[index][:, None] == self.next[fold])
            losses += (loss * mine).sum(0, dtype=torch.float64)
        at = torch.arange(f, device=device) * s + losses.view(f, s).argmin(1)
        mean = self.small_space.mean.to(solution.coefficients.dtype)
        centred = solution.intercepts[at] + torch.einsum("pd,pdk->pk", mean, solution.coefficients[at])
        start = solution.standardised[at]
        return c[at], (torch.cat([start, 0 * start]), torch.cat([centred, 0 * centred]))

    def mlp(self, task: _Task, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """As `linear`; the fold after each one stops the training."""
        f, device = self.folds, self.part.device
        fold = torch.arange(f, device=device).repeat(2)
        labels = torch.arange(2, device=device).repeat_interleave(f)
        problems = self._problems(task, self.inner[fold], labels, torch.ones(2 * f, device=device))
        weights = mlp.fit(self.design, problems, self.inner_space, fold, self.next[fold], seed)
        owner = torch.stack([self.part, self.part + f])
        named = mlp.predictions(self.design, problems, self.inner_space, fold, weights, owner)
        right = (named == problems.codes).cpu().numpy()
        return right[0], right[1]

    def bits(self, task: _Task, strengths: Sequence[float]) -> float:
        """Bits per clip to transmit the labels block by block, each coded by probes trained on the blocks before it.

        A block's code is a mixture of the probes of all strengths and of the code that knows nothing, so no strength is
        chosen by looking ahead. The first block costs log2(classes) per clip.
        """
        device, s = self.part.device, len(strengths)
        c = torch.tensor(strengths, dtype=torch.float64, device=device)
        ends = torch.bincount(self.blocks).cumsum(0).tolist()
        uniform = float(np.log2(task.classes))
        total = ends[0] * uniform
        for stage in range(len(ends) - 1):
            trains = self.prefixes[stage].expand(s, -1)
            problems = Problems(
                self.blocks,
                torch.from_numpy(task.codes[:1]).to(device),
                task.classes,
                trains,
                torch.zeros(s, dtype=torch.int64, device=device),
                c,
                balanced=False,
                penalised=True,
            )
            which = torch.full((s,), stage, device=device)
            fitted = logistic.fit(
                self.design, problems, self.prefix_space, which, rows=self.order[: ends[stage]], tolerance=CHOOSING
            )
            lengths = torch.zeros(s, dtype=torch.float64, device=device)
            for index, z in logistic.logits(self.design, fitted, self.order[ends[stage] : ends[stage + 1]]):
                y = problems.codes[0][index]
                loss = -z.log_softmax(2).gather(2, y[:, None, None].expand(-1, s, 1))[:, :, 0]
                lengths += loss.sum(0, dtype=torch.float64) / np.log(2)
            everyone = torch.cat([lengths, lengths.new_tensor([uniform * (ends[stage + 1] - ends[stage])])])
            total += float(np.log2(s + 1) - torch.logsumexp(-everyone * np.log(2), 0) / np.log(2))
        return total / self.design.clips

    def _problems(self, task: _Task, trains: Tensor, labels: Tensor, strength: Tensor) -> Problems:
        codes = torch.from_numpy(task.codes).to(self.part.device)
        return Problems(self.part, codes, task.classes, trains, labels, strength)


def _summary(right: np.ndarray, control: np.ndarray, task: _Task, part: np.ndarray, groups: np.ndarray) -> dict:
    found = balanced_accuracy(right, task.codes[0], groups)
    folds = fold_interval(right, task.codes[0], part)
    other = balanced_accuracy(control, task.codes[1], groups)
    return {
        "balanced_accuracy": found.mean,
        "low": found.low,
        "high": found.high,
        "fold_low": folds.low,
        "fold_high": folds.high,
        "chance": 1 / task.classes,
        "control": other.mean,
        "selectivity": found.mean - other.mean,
        "n": len(right),
        "classes": task.classes,
        "folds": folds.n,
    }


def deal(groups: np.ndarray, folds: int, seed: int = 0) -> np.ndarray:
    """Fold of every clip, int64 [N]: whole groups in random order, each to the fold with the fewest clips.

    >>> part = deal(np.array([0, 0, 1, 1, 2, 2]), 3)
    >>> part[::2].tolist() == part[1::2].tolist(), sorted(set(part.tolist()))
    (True, [0, 1, 2])
    """
    if folds < 3:
        raise AtlabError(f"expected at least 3 folds (one tests and another one chooses), got {folds}")
    names, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < folds:
        raise AtlabError(f"{len(names)} groups of clips cannot be dealt to {folds} folds")
    filled, fold_of = np.zeros(folds, np.int64), np.empty(len(names), np.int64)
    for group in np.random.default_rng([seed, 10]).permutation(len(names)):
        fold_of[group] = np.argmin(filled)
        filled[fold_of[group]] += sizes[group]
    return fold_of[inverse]


def code_blocks(groups: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Blocks in which labels are transmitted, each as large as all before it: block of every clip, and clips in order."""
    rng = np.random.default_rng([seed, 12])
    names, inverse = np.unique(groups, return_inverse=True)
    order = np.argsort(rng.permutation(len(names))[inverse], kind="stable")
    n = len(groups)
    ends = [n]
    while ends[-1] // 2 >= SMALLEST and len(ends) < 8:
        ends.append(ends[-1] // 2)
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n)
    # A group belongs to the block in which its first clip falls.
    first = np.full(len(names), n, np.int64)
    np.minimum.at(first, inverse, rank)
    block = np.searchsorted(np.array(ends[::-1]), first[inverse], side="right")
    return np.unique(block, return_inverse=True)[1].astype(np.int64), order


def _check_lengths(features: Mapping, labels: Mapping, groups: Sequence | None) -> None:
    if not features or not labels:
        raise AtlabError(f"nothing to probe: {len(features)} layers and {len(labels)} factors")
    lengths = {f"layer {layer!r}": len(x) for layer, x in features.items()}
    lengths |= {f"factor {factor!r}": len(values) for factor, values in labels.items()}
    lengths |= {} if groups is None else {"groups": len(groups)}
    if len(set(lengths.values())) > 1:
        raise AtlabError(f"features, labels and groups must be of the same clips, found {lengths}")
    for layer, x in features.items():
        if x.ndim != 2:
            raise AtlabError(
                f"features of layer {layer!r} must be [N, D], found shape {tuple(x.shape)}; see `features.pooled`"
            )
