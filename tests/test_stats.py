"""Intervals against scipy, and their coverage against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from atlab import stats
from atlab.errors import AtlabError


def test_mean_interval_equals_scipy():
    values = [0.61, 0.72, 0.55, 0.68]
    want = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    got = stats.mean_interval(values)
    assert (got.low, got.high) == pytest.approx((want.low, want.high))


def test_paired_difference_equals_scipys_related_t_test():
    a, b = [0.61, 0.72, 0.55, 0.68, 0.7], [0.5, 0.7, 0.56, 0.6, 0.61]
    want = scipy_stats.ttest_rel(a, b).confidence_interval(0.95)
    got = stats.paired_difference(a, b)
    assert (got.low, got.high) == pytest.approx((want.low, want.high))


def test_clip_bootstrap_equals_a_naive_bootstrap_over_clips():
    rng = np.random.default_rng(0)
    a, b = rng.random(300) < 0.7, rng.random(300) < 0.6
    draws = [np.mean(a[i].astype(float) - b[i]) for i in rng.integers(0, 300, (4000, 300))]
    got = stats.clip_bootstrap(a, b)
    assert got.mean == pytest.approx(a.mean() - b.mean())
    assert (got.low, got.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.01)


def test_intervals_hold_their_level():
    rng = np.random.default_rng(1)
    seeds = [stats.mean_interval(rng.normal(0.3, 0.1, 3)) for _ in range(2000)]
    assert 0.935 < np.mean([i.low < 0.3 < i.high for i in seeds]) < 0.965
    clips = [stats.clip_bootstrap(rng.random(400) < 0.7, rng.random(400) < 0.6, seed=k) for k in range(500)]
    assert 0.92 < np.mean([i.low <= 0.1 <= i.high for i in clips]) < 0.98


def test_verdicts_follow_the_interval():
    assert "excludes zero" in stats.verdict("AT", "WI", stats.Interval(0.1, 0.05, 0.15, 5))
    assert "below WI" in stats.verdict("AT", "WI", stats.Interval(-0.1, -0.15, -0.05, 5))
    assert "no difference is shown" in stats.verdict("AT", "WI", stats.Interval(0.1, -0.05, 0.25, 5))


def test_bad_input():
    with pytest.raises(AtlabError, match="at least 2"):
        stats.mean_interval([0.5])
    with pytest.raises(AtlabError, match="found 2 and 1"):
        stats.paired_difference([1, 2], [1])
    with pytest.raises(AtlabError, match="same clips"):
        stats.clip_bootstrap([True], [True, False])
