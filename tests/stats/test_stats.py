"""Intervals against scipy, and their coverage against simulation."""

from __future__ import annotations

import itertools
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
    assert stats.paired_p([0.5, 0.5], [0.5, 0.5]) == 1.0


@pytest.mark.parametrize("n", [2, 3, 6])
def test_equal_differences_have_the_exact_tests_p_and_no_interval(n):
    a, b = 0.6 + 0.1 * np.arange(n), 0.5 + 0.1 * np.arange(n)
    signed = [abs(sum(s * 0.1 for s in signs)) for signs in itertools.product((1, -1), repeat=n)]
    assert stats.paired_p(a, b) == sum(total > 0.1 * n - 1e-9 for total in signed) / 2**n
    found = stats.paired_difference(a, b)
    assert found.mean == pytest.approx(0.1) and math.isnan(found.low) and math.isnan(found.high) and found.n == n
    assert found.percent() == "+10.0 [no interval]"
    assert "no difference is shown" in stats.verdict("AT", "WI", found)


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
    assert table.index[0] == "bob"


def test_cluster_bootstrap_is_a_naive_bootstrap_of_whole_groups_with_wider_percentiles():
    rng = np.random.default_rng(6)
    groups = np.repeat(np.array(list("abcdefgh")), [5, 9, 2, 14, 7, 7, 3, 8])
    values = rng.normal(size=len(groups)) + np.array([ord(g) % 3 for g in groups])
    drawn = []
    for _ in range(4000):
        picked = rng.choice(np.unique(groups), 8)
        drawn.append(np.concatenate([values[groups == g] for g in picked]).mean())
    tail = scipy_stats.norm.cdf(-math.sqrt(8 / 7) * scipy_stats.t.ppf(0.975, 7))
    got = stats.cluster_bootstrap(values, groups)
    assert got.mean == pytest.approx(values.mean()) and got.n == 8
    assert (got.low, got.high) == pytest.approx(tuple(np.quantile(drawn, [tail, 1 - tail])), abs=0.07)
    assert stats.cluster_bootstrap(values, groups) == stats.cluster_bootstrap(values, groups)


def test_without_groups_it_is_the_bootstrap_over_clips():
    rng = np.random.default_rng(7)
    a, b = rng.random(400) < 0.8, rng.random(400) < 0.7
    got, want = stats.cluster_bootstrap(a.astype(float) - b), stats.clip_bootstrap(a, b)
    assert got == pytest.approx(want, abs=0.006)


def test_cluster_bootstrap_holds_its_level_where_a_bootstrap_over_clips_does_not():
    rng, clustered, over_clips = np.random.default_rng(8), [], []
    for seed in range(1000):
        sizes = rng.integers(3, 12, 40)
        speaker = np.repeat(np.arange(40), sizes)
        values = rng.normal(size=40)[speaker] + rng.normal(size=len(speaker))
        clustered.append(stats.cluster_bootstrap(values, speaker, seed=seed))
        over_clips.append(stats.mean_interval(values))
    assert 0.93 < np.mean([i.low < 0 < i.high for i in clustered]) < 0.97
    assert np.mean([i.low < 0 < i.high for i in over_clips]) < 0.75


def test_choices_under_one_budget_hold_their_level_and_one_try_against_many_does_not():
    rng, fair, unfair = np.random.default_rng(11), [], []
    for _ in range(1000):
        # Candidates differ by noise alone, which the clips of validation and test share in part.
        runs = [rng.normal(0, 1, (13, 5)) for _ in range(2)]
        scores = [(r + rng.normal(0, 0.5, r.shape), r + rng.normal(0, 0.5, r.shape)) for r in runs]
        at, base = (stats.best_of(*s) for s in scores)
        i, one = stats.best_difference(at, base), stats.paired_difference(at.test, scores[1][1][0])
        fair.append(i.low < 0 < i.high)
        unfair.append(one.low < 0 < one.high)
    assert 0.93 < np.mean(fair) < 0.97
    assert np.mean(unfair) < 0.6


def test_one_choice_for_all_seeds_is_made_by_the_mean():
    rng = np.random.default_rng(12)
    validation, test = rng.random((4, 6)), rng.random((4, 6))
    means = [sum(row) / 6 for row in validation]
    best = stats.best_of(validation, test, across=True)
    assert best.choice.tolist() == [means.index(max(means))] * 6 and best.test.tolist() == test[best.choice[0]].tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.holm([0.5, 1.2]), "p values lie in 0..1"),
        (lambda: stats.paired_p([0.1], [0.2]), "at least two pairs"),
        (lambda: stats.by_group([True], ["a", "b"]), "a group for every clip"),
        (lambda: stats.best_of([0.1], [0.2]), "scores of candidates x seeds"),
        (lambda: stats.expected_best_of(0, 1.0), "at least one candidate"),
        (lambda: stats.cluster_bootstrap([1, 0], ["a"]), "a group for every clip"),
        (lambda: stats.cluster_bootstrap([1, 0, 1], ["a", "b", None]), "a group for every clip"),
        (lambda: stats.cluster_bootstrap([[1, 0]], ["a"]), "a value and a group for every clip"),
        (lambda: stats.cluster_bootstrap([1, 0], ["a", "a"]), "at least 2 groups that vary, found 1"),
    ],
)
def test_what_cannot_be_compared_is_named(call, message):
    with pytest.raises(AtlabError, match=message):
        call()
