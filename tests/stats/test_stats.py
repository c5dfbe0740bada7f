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
    with pytest.raises(AtlabError, match="got 2 and 1"):
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


def test_the_best_of_equal_candidates_has_a_known_advantage_on_the_scores_that_chose_it():
    best = np.random.default_rng(2).normal(size=(13, 4000)).max(0)
    assert best.mean() == pytest.approx(stats.expected_best_of(13, 1.0), abs=0.04)
    assert stats.expected_best_of(2, 3.0) == pytest.approx(3 / math.sqrt(math.pi), rel=1e-6)
    assert stats.expected_best_of(1, 3.0) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("n", "tests"), [(3, 1), (8, 1), (8, 4), (40, 2)])
def test_what_could_have_been_seen_is_seen_in_four_studies_of_five(n, tests):
    """Of studies that have this spread, and the true difference that is said for it."""
    difference = stats.could_have_seen(stats.mean_interval(np.arange(n) % 3 - 0.9), tests) / np.std(
        np.arange(n) % 3, ddof=1
    )
    drawn = np.random.default_rng(n).normal(difference, 1, (20_000, n))
    p = scipy_stats.ttest_1samp(drawn, 0, axis=1).pvalue
    assert np.mean(p < 0.05 / tests) == pytest.approx(0.8, abs=0.012)
    assert math.isnan(stats.could_have_seen(stats.mean_interval([0.5, 0.5])))


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


def test_a_choice_made_before_the_test_holds_its_level_and_the_best_of_several_tries_does_not():
    rng, fair, unfair = np.random.default_rng(11), [], []
    for _ in range(1000):
        # Candidates differ by noise alone, which the clips of validation and test share in part.
        runs = rng.normal(0, 1, (13, 10))
        validation, test = (runs + rng.normal(0, 0.5, runs.shape) for _ in range(2))
        base = rng.normal(0, math.sqrt(1.25), 10)
        best = stats.best_of(validation, test)
        fair.append(stats.paired_difference(best.test, base[best.tested]))
        unfair.append(stats.paired_difference(test[validation.argmax(0), range(10)], base))
    assert 0.93 < np.mean([i.low < 0 < i.high for i in fair]) < 0.97
    assert np.mean([i.low < 0 < i.high for i in unfair]) < 0.6


@pytest.mark.parametrize("seeds", [2, 5, 6])
def test_a_choice_is_made_by_the_mean_of_the_first_half_and_tested_on_the_rest(seeds):
    rng = np.random.default_rng(12)
    validation, test = rng.random((4, seeds)), rng.random((4, seeds))
    half = seeds // 2
    means = [sum(row[:half]) / half for row in validation]
    best = stats.best_of(validation, test)
    assert (
        best.choice == means.index(max(means)) and best.budget == 4 and best.tested.tolist() == list(range(half, seeds))
    )
    assert best.test.tolist() == test[best.choice, half:].tolist()
    one = stats.best_of(validation[:1], test[:1])
    assert (one.choice, one.tested.tolist(), one.test.tolist()) == (0, list(range(seeds)), test[0].tolist())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.holm([0.5, 1.2]), "p values must lie in 0..1"),
        (lambda: stats.paired_p([0.1], [0.2]), "at least two pairs"),
        (lambda: stats.by_group([True], ["a", "b"]), "expected one group per clip"),
        (lambda: stats.best_of([0.1], [0.2]), "expected scores"),
        (lambda: stats.best_of([[0.1], [0.2]], [[0.1], [0.2]]), "at least 2 seeds, .* 2 candidates .*, got 1"),
        (lambda: stats.expected_best_of(0, 1.0), "at least one candidate"),
        (lambda: stats.cluster_bootstrap([1, 0], ["a"]), "expected one group per clip"),
        (lambda: stats.cluster_bootstrap([1, 0, 1], ["a", "b", None]), "expected one group per clip"),
        (lambda: stats.cluster_bootstrap([[1, 0]], ["a"]), "one value and one group per clip"),
        (lambda: stats.cluster_bootstrap([1, 0], ["a", "a"]), "at least 2 groups that vary for a bootstrap, got 1"),
    ],
)
def test_what_cannot_be_compared_is_named(call, message):
    with pytest.raises(AtlabError, match=message):
        call()
