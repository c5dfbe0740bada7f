"""Intervals where clips are not independent (they come in groups), or where seeds and clips vary together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import special

from atlab.errors import AtlabError
from atlab.stats.intervals import Interval

DRAWS = 4000
CELLS = 1 << 22  # resampled units held at a time


def cluster_bootstrap(
    values: Sequence[float], groups: Sequence | None = None, level: float = 0.95, seed: int = 0
) -> Interval:
    """Mean over clips, with a bootstrap interval over whole groups of clips (speakers, sources, matched sets).

    Says how the mean would vary with other groups. Clips of one group may depend on each other in any way; groups must be
    independent. `n` is the number of groups. For the difference of two models give the difference clip by clip. 4,000
    resamples, percentiles widened for few groups (`percentiles`); trust it from about 10 groups on.

    Args:
        values: one number per clip [N] (right or wrong, a difference, a loss).
        groups: the group of each clip [N]; every clip by itself if None.

    Raises AtlabError for lengths that differ and fewer than two groups.

    >>> right, speaker = [1, 1, 0, 1, 0, 0, 1, 1], ["a", "a", "b", "b", "c", "c", "d", "d"]
    >>> cluster_bootstrap(right, speaker)[::3]
    (0.625, 4)
    """
    values = np.asarray(values, float)
    units = codes_of(groups, len(values)) if groups is not None else np.arange(len(values))
    if values.ndim != 1 or len(values) != len(units):
        raise AtlabError(f"expected one value and one group per clip, got {values.shape} and {len(units)} groups")
    sums = np.stack([np.bincount(units, values), np.bincount(units)], 1)
    drawn = np.concatenate([weights @ sums for weights in resamples(len(sums), seed)])
    low, high = percentiles(drawn[:, 0] / drawn[:, 1], len(sums), level)
    return Interval(float(values.mean()), float(low), float(high), len(sums))


def resamples(units: int, seed: int = 0, draws: int = DRAWS) -> Iterator[np.ndarray]:
    """How often each unit is drawn in each bootstrap sample: float64 [b, units] in blocks, `draws` rows in all.

    >>> next(resamples(5)).sum(1)[:3]
    array([5., 5., 5.])
    """
    if units < 2:
        raise AtlabError(f"expected at least 2 groups that vary for a bootstrap, got {units}")
    rng, block = np.random.default_rng(seed), max(1, CELLS // units)
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        cells = rng.integers(units, size=(rows, units)) + units * np.arange(rows)[:, None]
        yield np.bincount(cells.ravel(), minlength=rows * units).reshape(rows, units).astype(float)


def percentiles(drawn: np.ndarray, units: int, level: float = 0.95) -> np.ndarray:
    """Bootstrap percentiles [2, ...] of draws [D, ...], widened as a t interval over so many units is.

    The expanded percentile interval of Hesterberg (2015, "What teachers should know about the bootstrap"): plain percentiles
    of few units are too narrow by sqrt((n - 1) / n) and by normal instead of t quantiles.

    >>> percentiles(np.linspace(-1, 1, 1001), 1_000_000).round(3)
    array([-0.95,  0.95])
    """
    t = special.stdtrit(units - 1, 0.5 + level / 2)
    tail = special.ndtr(-np.sqrt(units / (units - 1)) * t)
    return np.quantile(drawn, [tail, 1 - tail], axis=0)


def codes_of(groups: Sequence, clips: int) -> np.ndarray:
    """Numbers 0.. of the groups, int64 [N]; AtlabError unless there is one for every clip and none is missing.

    >>> codes_of(["b", "a", "b"], 3).tolist()
    [0, 1, 0]
    """
    import pandas as pd

    codes = pd.factorize(np.asarray(groups))[0]
    if len(codes) != clips or (codes < 0).any():
        raise AtlabError(f"expected one group per clip, got {clips} clips and {int((codes >= 0).sum())} groups")
    return codes
