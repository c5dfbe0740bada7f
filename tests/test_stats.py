"""Intervals against scipy, and their coverage against simulation."""

from __future__ import annotations

import math

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


@pytest.mark.parametrize("n", [3, 5, 20])
def test_paired_p_is_the_paired_t_test_and_agrees_with_the_interval(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.3, 1, n), rng.normal(0, 1, n)
    assert stats.paired_p(a, b) == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue)
    interval = stats.paired_difference(a, b)
    assert (stats.paired_p(a, b) < 0.05) == (interval.low > 0 or interval.high < 0)
    assert stats.paired_p([0.5, 0.5], [0.5, 0.5]) == 1.0 and stats.paired_p([0.6, 0.7], [0.5, 0.6]) == 0.0


@pytest.mark.parametrize("n", [4, 5, 9, 14])
def test_sign_flips_are_scipys_permutation_test(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.4, 1, n), rng.normal(0, 1, n)
    reference = scipy_stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=20_000 if n > 12 else np.inf, rng=0
    )
    assert stats.sign_flip_p(a, b) == pytest.approx(reference.pvalue, abs=0.012 if n > 12 else 1e-9)


def test_mcnemar_is_the_binomial_test_of_the_clips_they_disagree_on():
    rng = np.random.default_rng(0)
    a, b = rng.random(200) < 0.8, rng.random(200) < 0.7
    only_a, only_b = (int(sum(x and not y for x, y in zip(one, other, strict=True))) for one, other in ((a, b), (b, a)))
    n = only_a + only_b
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1)) / 2**n
    assert stats.mcnemar(a, b) == pytest.approx(min(1.0, 2 * tail))
    assert stats.mcnemar([True, False], [True, False]) == 1.0


def test_holm_is_the_step_down_procedure():
    rng = np.random.default_rng(1)
    for _ in range(50):
        p = rng.random(rng.integers(1, 9)) ** 2
        for alpha in (0.01, 0.05, 0.2):
            rejected = set()
            for step, index in enumerate(np.argsort(p)):
                if p[index] > alpha / (len(p) - step):
                    break
                rejected.add(int(index))
            assert {i for i, q in enumerate(stats.holm(p)) if q <= alpha} == rejected


def test_the_best_by_validation_has_no_advantage_on_the_test_and_a_known_one_on_validation():
    rng = np.random.default_rng(2)
    validation, test = rng.normal(size=(13, 4000)), rng.normal(size=(13, 4000))
    best = stats.best_of(validation, test)
    assert abs(best.test.mean()) < 0.05 and best.budget == 13
    chosen = validation[best.choice, np.arange(4000)]
    assert chosen.mean() == pytest.approx(stats.expected_best_of(13, 1.0), abs=0.04)
    assert stats.expected_best_of(2, 3.0) == pytest.approx(3 / math.sqrt(math.pi), rel=1e-6)
    assert stats.expected_best_of(1, 3.0) == pytest.approx(0, abs=1e-9)


def test_choices_are_compared_by_seed_and_only_under_one_budget():
    rng = np.random.default_rng(3)
    at, base = (stats.best_of(rng.random((3, 5)), rng.random((3, 5))) for _ in range(2))
    assert stats.best_difference(at, base) == stats.paired_difference(at.test, base.test)
    with pytest.raises(AtlabError, match="the best of 3 candidates is not comparable with the best of 1"):
        stats.best_difference(at, stats.best_of(rng.random((1, 5)), rng.random((1, 5))))


def test_groups_are_counted_and_the_worst_comes_first_with_its_wilson_interval():
    rng = np.random.default_rng(4)
    groups = rng.choice(["ann", "bob", "cid"], 300, p=[0.6, 0.3, 0.1])
    right = rng.random(300) < np.where(groups == "bob", 0.5, 0.9)
    table = stats.by_group(right, groups).set_index("group")
    for name in ("ann", "bob", "cid"):
        n, k = int((groups == name).sum()), int(right[groups == name].sum())
        z, p = scipy_stats.norm.ppf(0.975), k / n
        centre, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        want = [p, (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n), n]
        assert table.loc[name].tolist() == pytest.approx(want)
    name, interval = stats.worst_group(right, groups)
    assert name == "bob" and interval.n == (groups == "bob").sum()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.holm([0.5, 1.2]), "p values lie in 0..1"),
        (lambda: stats.mcnemar([True], [True, False]), "the same clips on both sides"),
        (lambda: stats.paired_p([0.1], [0.2]), "at least two pairs"),
        (lambda: stats.by_group([True], ["a", "b"]), "a group for every clip"),
        (lambda: stats.best_of([0.1], [0.2]), "scores of candidates x seeds"),
        (lambda: stats.expected_best_of(0, 1.0), "at least one candidate"),
    ],
)
def test_what_cannot_be_compared_is_named(call, message):
    with pytest.raises(AtlabError, match=message):
        call()
