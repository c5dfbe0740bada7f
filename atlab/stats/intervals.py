"""Intervals that say what varies: over seeds, over paired seeds, over test clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from atlab.errors import AtlabError


class Interval(NamedTuple):
    """A mean with its confidence interval; `n` is the number of units (seeds or clips) that vary.

    low and high are nan where the values do not vary: they say nothing of how others would.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half the distance from low to high.

        >>> Interval(0.5, 0.25, 0.75, 5).half_width
        0.25
        """
        return (self.high - self.low) / 2

    def percent(self) -> str:
        """In percent, or percentage points of a difference.

        >>> Interval(0.123, -0.01, 0.25, 5).percent()
        '+12.3 [-1.0, +25.0]'
        >>> Interval(0.123, np.nan, np.nan, 5).percent()
        '+12.3 [no interval]'
        """
        if np.isnan(self.low):
            return f"{100 * self.mean:+.1f} [no interval]"
        return f"{100 * self.mean:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


def mean_interval(
    values: Sequence[float], level: float = 0.95, ends: tuple[float, float] = (-np.inf, np.inf)
) -> Interval:
    """Mean and Student t interval of independent repetitions (seeds), cut at `ends`: what is possible (0 and 1 for an accuracy).

    Values that are all equal (accuracies on few clips may be) have no interval: low and high are nan. Their standard
    deviation of 0 is an artefact of rounding, and an interval of zero width would claim certainty.

    Raises AtlabError for fewer than two values: one run has no interval.

    >>> mean_interval([0.5, 0.6, 0.7]).n
    3
    >>> mean_interval([0.9, 0.97, 1.0], ends=(0, 1)).high
    1
    >>> mean_interval([0.5, 0.5, 0.5])
    Interval(mean=0.5, low=nan, high=nan, n=3)
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        raise AtlabError(f"an interval over seeds needs at least 2 of them, got {len(values)}")
    if all_equal(values):
        return Interval(float(values.mean()), np.nan, np.nan, len(values))
    error = values.std(ddof=1) / np.sqrt(len(values))
    mean, half = float(values.mean()), float(special.stdtrit(len(values) - 1, 0.5 + level / 2) * error)
    return Interval(mean, max(mean - half, ends[0]), min(mean + half, ends[1]), len(values))


def all_equal(values: np.ndarray) -> bool:
    """Whether the values are equal up to rounding.

    >>> all_equal(np.array([0.7, 0.8]) - np.array([0.6, 0.7])), all_equal(np.array([0.1, 0.101]))
    (True, False)
    """
    return bool(np.allclose(values, values[0], rtol=1e-9, atol=1e-12))


def paired_difference(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Interval:
    """Mean of a - b over pairs (same seed, same split), with a t interval of the differences.

    >>> paired_difference([0.7, 0.8, 0.9], [0.6, 0.7, 0.8]).mean.__round__(6)
    0.1
    """
    if len(a) != len(b):
        raise AtlabError(f"pairs need one value of each side, got {len(a)} and {len(b)}")
    return mean_interval(np.asarray(a, float) - np.asarray(b, float), level)


def clip_bootstrap(
    correct_a: Sequence[bool], correct_b: Sequence[bool], level: float = 0.95, seed: int = 0
) -> Interval:
    """Difference in accuracy of two models on the same clips, with a percentile bootstrap interval over clips.

    Says how the difference would vary with other test clips, not with other seeds; 10,000 resamples. Only the
    clips on which the models disagree vary, so their counts are drawn directly (multinomial).

    >>> clip_bootstrap([True] * 60 + [False] * 40, [True] * 40 + [False] * 60).mean
    0.2
    """
    a, b = np.asarray(correct_a, bool), np.asarray(correct_b, bool)
    if a.shape != b.shape or not len(a):
        raise AtlabError(f"expected the same clips on both sides, got shapes {a.shape} and {b.shape}")
    n = len(a)
    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    draws = np.random.default_rng(seed).multinomial(n, [only_a / n, only_b / n, 1 - (only_a + only_b) / n], 10_000)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / n, [0.5 - level / 2, 0.5 + level / 2])
    return Interval((only_a - only_b) / n, float(low), float(high), n)


def could_have_seen(difference: Interval, tests: int = 1, power: float = 0.8, level: float = 0.95) -> float:
    """The true difference that so many pairs with this spread show with a probability of `power`: a size, never below 0.

    Of the two-sided paired t-test whose interval is given (`paired_difference`), by the noncentral t distribution. With several
    `tests` of one family the level is that of Holm's first step. nan where the interval is.

    >>> round(could_have_seen(Interval(0.01, -0.02, 0.04, 16)), 4)
    0.0422
    """
    if np.isnan(difference.half_width):
        return float("nan")
    df = difference.n - 1
    error = difference.half_width / special.stdtrit(df, 0.5 + level / 2)
    limit = special.stdtrit(df, 1 - (1 - level) / (2 * tests))
    return float(error * special.nctdtrinc(df, 1 - power, limit))


def verdict(name: str, other: str, difference: Interval, unit: str = "seeds") -> str:
    """One sentence on a paired difference in accuracy, computed from its interval.

    >>> verdict("AT", "the baseline", Interval(0.02, -0.03, 0.07, 3))
    'AT is 2.0 points above the baseline, but the 95 % interval [-3.0, +7.0] over 3 seeds includes zero: no difference is shown (four of five such studies would find a true one of 6.6 points).'
    """
    points = f"{name} is {abs(100 * difference.mean):.1f} points {'above' if difference.mean >= 0 else 'below'} {other}"
    if np.isnan(difference.low):
        return f"{points} in each of {difference.n} {unit}: without spread there is no interval, and no difference is shown."
    interval = (
        f"the 95 % interval [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}] over {difference.n} {unit}"
    )
    if difference.low > 0 or difference.high < 0:
        return f"{points}, and {interval} excludes zero."
    seen = f"four of five such studies would find a true one of {100 * could_have_seen(difference):.1f} points"
    return f"{points}, but {interval} includes zero: no difference is shown ({seen})."
