"""Groups: does the network treat every speaker alike? The equalised-odds difference, with an interval.

Differences between groups are maxima (over groups, over classes), and the maximum of many noisy rates is large even if all
groups are alike. So the measure comes with what it would be by chance, from shuffled groups, and with an interval that
allows for not knowing which groups are the extreme ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from atlab.errors import AtlabError

DRAWS = 2000
SHUFFLES = 500
CELLS = 1 << 22  # resampled rates held at a time


class Difference(NamedTuple):
    """The largest difference of a rate between two groups.

    value with its interval low..high; n: clips; smallest: the fewest clips that a compared rate rests on; chance: mean of the
    value if groups are shuffled; p: of a value as large by shuffling; where: which rate, of which groups.
    """

    value: float
    low: float
    high: float
    n: int
    smallest: int
    chance: float
    p: float
    where: str


class _Rates(NamedTuple):
    """Hits of clips [F, G] of F rates, and their names: the rate is hits / clips."""

    hits: np.ndarray
    clips: np.ndarray
    names: list[str]


def equalised_odds(
    codes: Sequence[int],
    predictions: Sequence[int],
    groups: Sequence,
    *,
    level: float = 0.95,
    seed: int = 0,
    shuffles: int = SHUFFLES,
) -> Difference:
    """Equalised-odds difference (Hardt, Price & Srebro 2016): 0 if the prediction depends on the group only by the class.

    The largest difference between two groups in the true-positive or the false-positive rate, over all classes, each
    against the rest. Groups without clips of a class (or of the rest) have no such rate and are left out of it. Direction:
    more is more use of the group. Range 0 to 1.

    The interval holds its level or more: the lower bound allows for all groups and classes that may be the extreme ones
    (selected as in Andrews & Soares 2010, rates resampled 2,000 times), the upper one takes the largest bound of them
    (Agresti & Caffo 2000). Chance and p come from shuffles of the groups within classes. Assumes that clips are independent
    given class and group.

    Args:
        codes, predictions: true and predicted class numbers [N].
        groups: of every clip [N], e.g. its speaker.
        shuffles: how many; with 0, chance and p are nan.

    Raises AtlabError for lengths that differ, values that are no class numbers, fewer than two groups.

    >>> found = equalised_odds([0, 0, 1, 1] * 50, [0, 0, 1, 0] * 50, ["ann", "bob"] * 100)
    >>> found.value, found.smallest, found.where
    (1.0, 50, 'true positives of class 1: ann - bob')
    """
    codes, predictions, names, numbers = _checked(codes, predictions, groups)
    rates = _odds(_counts(codes, predictions, numbers))
    share = _shares(rates)
    spread = np.nanmax(share, 1) - np.nanmin(share, 1)
    if not ((rates.clips > 0).sum(1) > 1).any():
        raise AtlabError("no two groups have clips of the same class: nothing can be compared")
    f = int(spread.argmax())
    known = sorted(set(names.tolist()), key=str)
    where = f"{rates.names[f]}: {known[int(np.nanargmax(share[f]))]} - {known[int(np.nanargmin(share[f]))]}"
    low, high = _interval(rates, share, level, seed)
    shuffled = _shuffled(codes, predictions, numbers, shuffles, seed)
    smallest = int(rates.clips[rates.clips > 0].min())
    return Difference(float(spread[f]), low, high, len(codes), smallest, *_chance(float(spread[f]), shuffled), where)


def _interval(rates: _Rates, share: np.ndarray, level: float, seed: int) -> tuple[float, float]:
    """Bounds of the largest difference [F, G] -> scalar: see `equalised_odds`."""
    q = (rates.hits + 1) / (rates.clips + 2)
    variance = np.where(rates.clips > 0, q * (1 - q) / (rates.clips + 2), 0)
    top, bottom = np.nanargmax(share, 1), np.nanargmin(share, 1)
    each = np.arange(len(share))
    best, worst = share[each, top], share[each, bottom]
    f = int((best - worst).argmax())
    gap, of_gap = best[f] - worst[f], variance[f, top[f]] + variance[f, bottom[f]]
    # A group may be an extreme one if, paired with the opposite extreme, it is not clearly short of the gap.
    slack = np.sqrt(np.log(max(2.0, rates.clips.max())))
    with np.errstate(invalid="ignore"):
        tops = share - worst[:, None] + slack * np.sqrt(variance + (variance[each, bottom] + of_gap)[:, None]) >= gap
        bottoms = best[:, None] - share + slack * np.sqrt(variance + (variance[each, top] + of_gap)[:, None]) >= gap
    kept = np.flatnonzero(tops.any(1) & bottoms.any(1))
    # rates.clips is 0 where a group has no such clip; `tops` and `bottoms` are False there.
    low = gap - np.quantile(_deviations(q[kept], rates.clips[kept], tops[kept], bottoms[kept], seed), 0.5 + level / 2)
    z = scipy_stats.norm.ppf(0.5 + level / 2)
    high = max(
        (share[i, t][:, None] - share[i, b] + z * np.sqrt(variance[i, t][:, None] + variance[i, b])).max()
        for i, t, b in ((i, tops[i], bottoms[i]) for i in kept)
    )
    return max(0.0, float(low)), min(1.0, float(high))


def _deviations(q: np.ndarray, clips: np.ndarray, tops: np.ndarray, bottoms: np.ndarray, seed: int) -> np.ndarray:
    """By how much resampling raises the largest difference among groups that are alike [DRAWS]."""
    rng, found = np.random.default_rng(seed), []
    block = max(1, CELLS // q.size)
    for start in range(0, DRAWS, block):
        rows = min(block, DRAWS - start)
        drawn = rng.binomial(clips, q, (rows, *q.shape)) / np.maximum(clips, 1) - q
        highest, lowest = np.where(tops, drawn, -np.inf).max(2), np.where(bottoms, drawn, np.inf).min(2)
        found.append((highest - lowest).max(1))
    return np.concatenate(found)


def _shuffled(codes, predictions, numbers, shuffles: int, seed: int) -> np.ndarray:
    """The difference with groups shuffled within classes [shuffles]: every class keeps its number of clips per group."""
    rng, count = np.random.default_rng([seed, 1]), len(codes)
    order, found = np.argsort(codes, kind="stable"), np.empty(shuffles)
    given = np.empty(count, int)
    for i in range(shuffles):
        given[order] = numbers[np.lexsort((rng.random(count), codes))]
        share = _shares(_odds(_counts(codes, predictions, given)))
        found[i] = (np.nanmax(share, 1) - np.nanmin(share, 1)).max()
    return found


def _chance(value: float, shuffled: np.ndarray) -> tuple[float, float]:
    if not len(shuffled):
        return float("nan"), float("nan")
    return float(shuffled.mean()), float((1 + (shuffled >= value - 1e-12).sum()) / (1 + len(shuffled)))


def _counts(codes: np.ndarray, predictions: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Clips by group, true and predicted class [G, K, K]; a shuffle leaves the numbers of groups and classes as they are."""
    k, g = int(max(codes.max(), predictions.max())) + 1, int(numbers.max()) + 1
    return np.bincount((numbers * k + codes) * k + predictions, minlength=g * k * k).reshape(g, k, k)


def _odds(counts: np.ndarray) -> _Rates:
    right, predicted, true = np.diagonal(counts, axis1=1, axis2=2).T, counts.sum(1).T, counts.sum(2).T
    names = [f"{kind} positives of class {k}" for kind in ("true", "false") for k in range(len(right))]
    return _Rates(np.concatenate([right, predicted - right]), np.concatenate([true, true.sum(0) - true]), names)


def _shares(rates: _Rates) -> np.ndarray:
    """Rates [F, G] that two groups have at least, nan where a group has no clips."""
    share = np.where(rates.clips > 0, rates.hits / np.maximum(rates.clips, 1), np.nan)
    return np.where(np.isfinite(share).any(1)[:, None], share, 0.0)


def _checked(codes, predictions, groups) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Class numbers, and the groups' names and numbers (in the order of the sorted names)."""
    codes, predictions, names = np.asarray(codes), np.asarray(predictions), np.asarray(groups)
    if not codes.shape == predictions.shape == names.shape == (len(codes),) or not len(codes):
        raise AtlabError(
            f"expected one class, prediction and group per clip, got {codes.shape}, {predictions.shape} and {names.shape}"
        )
    if codes.dtype.kind not in "iub" or predictions.dtype.kind not in "iub" or min(codes.min(), predictions.min()) < 0:
        raise AtlabError("classes and predictions must be class numbers, 0 or more")
    if pd.isna(names).any():
        raise AtlabError(f"{int(pd.isna(names).sum())} clips have no group; leave them out first")
    known = sorted(set(names.tolist()), key=str)
    if len(known) < 2:
        raise AtlabError(f"expected at least two groups to compare, got {known}")
    return codes.astype(int), predictions.astype(int), names, pd.Index(known).get_indexer(names)
