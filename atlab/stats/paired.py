"""Tests of paired differences, by seed and by clip, and the correction for making several."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy import stats as scipy_stats

from atlab.errors import AtlabError

EXACT = 12  # sign patterns of so many pairs are all counted; of more, 10,000 are drawn


def paired_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p of the paired t-test, the one whose interval is `paired_difference`; 1 if nothing differs.

    >>> round(paired_p([0.7, 0.8, 0.9], [0.6, 0.7, 0.7]), 3)
    0.057
    """
    d = _differences(a, b)
    if not d.any():
        return 1.0
    if np.allclose(d, d[0]):
        return 0.0
    return float(scipy_stats.ttest_1samp(d, 0).pvalue)


def sign_flip_p(a: Sequence[float], b: Sequence[float], seed: int = 0) -> float:
    """Two-sided permutation p of the mean difference of pairs: under no effect every difference may change its sign.

    Assumes nothing but that; with n pairs it cannot fall below 2 / 2^n (0.0625 for 5 seeds).

    >>> sign_flip_p([0.7, 0.8, 0.9, 0.9, 0.8], [0.6, 0.7, 0.7, 0.8, 0.7])
    0.0625
    """
    d = _differences(a, b)
    if len(d) <= EXACT:
        signs = np.array(list(itertools.product((1, -1), repeat=len(d))))
    else:
        drawn = np.random.default_rng(seed).choice((1, -1), (10_000, len(d)))
        signs = np.concatenate([np.ones((1, len(d))), drawn])
    return float((np.abs((signs * d).mean(1)) >= abs(d.mean()) - 1e-12).mean())


def mcnemar(correct_a: Sequence[bool], correct_b: Sequence[bool], mid: bool = False) -> float:
    """Exact two-sided p of McNemar's test (1947): do two models differ on the same clips?

    Only the clips count on which one is right and the other is not; each side is as likely if they do not differ. Clips
    must be independent of each other; it says nothing of other seeds. The exact p is conservative with few such clips;
    `mid=True` counts half of the probability of the table that was found, which keeps the level nearly always and has more
    power (Fagerland, Lydersen & Laake 2013).

    >>> right, other = [True] * 9 + [False], [False] * 9 + [True]
    >>> round(mcnemar(right, other), 4), round(mcnemar(right, other, mid=True), 4)
    (0.0215, 0.0117)
    """
    a, b = np.asarray(correct_a, bool), np.asarray(correct_b, bool)
    if a.shape != b.shape or not len(a):
        raise AtlabError(f"the same clips on both sides, found {a.shape} and {b.shape}")
    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    if only_a + only_b == 0:
        return 1.0
    p = float(scipy_stats.binomtest(only_a, only_a + only_b).pvalue)
    return p - float(scipy_stats.binom.pmf(only_a, only_a + only_b, 0.5)) if mid else p


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p values (1979), in the given order: below alpha where the family of tests rejects at alpha.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, float)
    if p.ndim != 1 or ((p < 0) | (p > 1) | np.isnan(p)).any():
        raise AtlabError(f"p values lie in 0..1, found {p.tolist()}")
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    result = np.empty(len(p))
    result[order] = np.minimum(1.0, adjusted)
    return result


def _differences(a: Sequence[float], b: Sequence[float]) -> np.ndarray:
    if len(a) != len(b) or len(a) < 2:
        raise AtlabError(f"pairs need one value of each side and at least two pairs, found {len(a)} and {len(b)}")
    return np.asarray(a, float) - np.asarray(b, float)
