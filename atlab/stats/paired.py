"""Tests of paired differences, by seed and by clip, and the correction for making several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atlab.errors import AtlabError
from atlab.stats.intervals import all_equal


def paired_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p of the paired t-test, the one whose interval is `paired_difference`; 1 if nothing differs.

    Differences that are all equal have no t statistic. Their p is then that of the exact test, in which every difference
    may change its sign: 2 of the 2^n patterns are as extreme, so p = 2 / 2^n and never 0.

    >>> round(paired_p([0.7, 0.8, 0.9], [0.6, 0.7, 0.7]), 3)
    0.057
    >>> paired_p([0.7, 0.8, 0.9], [0.6, 0.7, 0.8])
    0.25
    """
    d = _differences(a, b)
    if not d.any():
        return 1.0
    if all_equal(d):
        return 2.0 ** (1 - len(d))
    from scipy import stats  # takes a second to import: not before it is needed

    return float(stats.ttest_1samp(d, 0).pvalue)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p values (1979), in the given order: below alpha where the family of tests rejects at alpha.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, float)
    if p.ndim != 1 or ((p < 0) | (p > 1) | np.isnan(p)).any():
        raise AtlabError(f"p values must lie in 0..1, got {p.tolist()}")
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    result = np.empty(len(p))
    result[order] = np.minimum(1.0, adjusted)
    return result


def _differences(a: Sequence[float], b: Sequence[float]) -> np.ndarray:
    if len(a) != len(b) or len(a) < 2:
        raise AtlabError(f"pairs need one value of each side and at least two pairs, got {len(a)} and {len(b)}")
    return np.asarray(a, float) - np.asarray(b, float)
