"""Intervals over clips and folds against scikit-learn's score and against what they claim: their coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn.metrics import balanced_accuracy_score

from atlab.errors import AtlabError
from atlab.invariance.probes import presence
from atlab.stats import accuracy

REPETITIONS = 1000


def test_balanced_accuracy_is_scikit_learns():
    rng = np.random.default_rng(0)
    codes, named = rng.choice(4, 200, p=[0.1, 0.2, 0.3, 0.4]), rng.integers(4, size=200)
    found = accuracy.balanced_accuracy(named == codes, codes)
    assert found.mean == pytest.approx(balanced_accuracy_score(codes, named)) and found.low < found.mean < found.high
    assert accuracy.accuracy(named == codes).mean == pytest.approx((named == codes).mean())
    assert accuracy.balanced_accuracy(np.ones(50, bool), np.arange(50) % 5)[1:3] == pytest.approx(
        (50 / (50 + 1.959964**2), 1.0)
    )
    with pytest.raises(AtlabError, match="of the same clips"):
        accuracy.balanced_accuracy(np.ones(3, bool), np.ones(4))


@pytest.mark.parametrize(
    ("classes", "clips", "low", "high", "together"),
    [(2, 50, 0.5, 0.5, 1), (24, 20, 0.02, 0.1, 1), (24, 20, 0.5, 0.99, 1), (10, 10, 0.2, 0.8, 1), (3, 40, 0.6, 0.6, 4)],
)
def test_the_interval_over_clips_holds_its_level(classes, clips, low, high, together):
    """True recalls from low to high by class; clips in groups share half of their luck."""
    rng = np.random.default_rng(1)
    truth, codes = np.linspace(low, high, classes), np.repeat(np.arange(classes), clips)
    groups = np.arange(len(codes)) // together
    hits = 0
    for _ in range(REPETITIONS):
        luck = np.where(rng.random(len(codes)) < 0.5, rng.random(groups.max() + 1)[groups], rng.random(len(codes)))
        found = accuracy.balanced_accuracy(luck < truth[codes], codes, groups)
        hits += found.low <= truth.mean() <= found.high
    assert 0.93 <= hits / REPETITIONS <= 0.97


def test_intervals_of_cross_validated_probes_hold_their_level():
    """Nearest class means in cross-validation, whose true accuracy is known, from `deal`'s folds."""
    rng = np.random.default_rng(2)
    n, d, folds, shift = 150, 5, 5, 0.6
    over_clips, over_folds, values = 0, [], []
    for repetition in range(REPETITIONS):
        codes = np.arange(n) % 2
        x = rng.standard_normal((n, d))
        x[:, 0] += shift * (2 * codes - 1)
        part = presence.deal(np.arange(n), folds, repetition)
        right, truth = np.empty(n, bool), []
        for fold in range(folds):
            one, zero = (x[(part != fold) & (codes == k)].mean(0) for k in (1, 0))
            w, b = one - zero, (one + zero) @ (one - zero) / 2
            right[part == fold] = (x[part == fold] @ w > b) == codes[part == fold]
            margin = [(s * (shift * s * w[0] - b)) / np.linalg.norm(w) for s in (1, -1)]
            truth.append(scipy_stats.norm.cdf(margin).mean())
        found = accuracy.balanced_accuracy(right, codes)
        over_clips += found.low <= np.mean(truth) <= found.high
        over_folds.append(accuracy.fold_interval(right, codes, part)[1:3])
        values.append(np.mean(truth))
    assert 0.93 <= over_clips / REPETITIONS <= 0.97
    # Over folds it says where the method lands with other clips and training sets; it is meant to err on the safe side.
    expected = np.mean(values)
    held = np.mean([low <= expected <= high for low, high in over_folds])
    assert held >= 0.95
