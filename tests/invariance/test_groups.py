"""Equalised odds against naive loops and simulation with known differences."""

from __future__ import annotations

import numpy as np
import pytest

from atlab.errors import AtlabError
from atlab.invariance import groups

SPEAKERS = np.array(["ann", "bob", "cid", "dee"])


def crossed(rng: np.random.Generator, wrong: np.ndarray, clips: int = 40, classes: int = 3):
    """Codes, predictions, speakers: `clips` of each class and speaker; a share wrong[speaker] of predictions is wrong."""
    number = np.repeat(np.arange(len(wrong)), clips * classes)
    codes = np.tile(np.repeat(np.arange(classes), clips), len(wrong))
    missed = rng.random(len(codes)) < wrong[number]
    predictions = (codes + missed * rng.integers(1, classes, len(codes))) % classes
    return codes, predictions, number


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_difference_is_the_largest_between_two_groups(classes):
    rng = np.random.default_rng(classes)
    codes, predictions = rng.integers(classes, size=(2, 600))
    names = rng.choice(SPEAKERS, 600)
    gaps = []
    for k in range(classes):
        for true in (True, False):
            rates = [np.mean(predictions[(names == s) & ((codes == k) == true)] == k) for s in SPEAKERS]
            gaps.append(max(rates) - min(rates))
    assert groups.equalised_odds(codes, predictions, names, shuffles=0).value == pytest.approx(max(gaps))


def test_where_the_largest_difference_is_and_what_it_rests_on():
    rng = np.random.default_rng(0)
    codes, predictions = rng.integers(3, size=(2, 300))
    names = rng.choice(SPEAKERS, 300, p=[0.4, 0.3, 0.2, 0.1])
    rates, sizes = {}, []
    for k in range(3):
        for name in SPEAKERS:
            for kind, of in (("true", codes == k), ("false", codes != k)):
                cell = [p == k for p, true, n in zip(predictions, of, names, strict=True) if true and n == name]
                rates[f"{kind} positives of class {k}", str(name)] = sum(cell) / len(cell)
                sizes.append(len(cell))
    differences = {
        f"{rate}: {one} - {other}": rates[rate, one] - rates[rate, other]
        for rate, one in rates
        for other in map(str, SPEAKERS)
    }
    found = groups.equalised_odds(codes, predictions, names)
    assert found.where == max(differences, key=differences.get) and found.value == pytest.approx(
        differences[found.where]
    )
    assert found.smallest == min(sizes) and found.n == 300
    assert found.low <= found.value <= found.high


def test_groups_without_a_class_are_left_out_of_its_rates():
    codes, predictions = np.array([0] * 20 + [1] * 10), np.array([0] * 10 + [1] * 10 + [1] * 10)
    names = np.array(["a"] * 10 + ["b"] * 10 + ["b"] * 10)  # only b has clips of class 1
    found = groups.equalised_odds(codes, predictions, names, shuffles=20)
    assert found.value == 1.0 and "class 0" in found.where and np.isfinite(found.high)
    with pytest.raises(AtlabError, match="no two groups have clips of the same class"):
        groups.equalised_odds([0, 1], [0, 1], ["a", "b"], shuffles=0)


def test_planted_differences_are_ordered_and_none_is_chance():
    rng, rows = np.random.default_rng(2), []
    for planted in (0.0, 0.15, 0.4):
        codes, predictions, number = crossed(rng, np.array([0.1, 0.1, 0.1, 0.1 + planted]), clips=150)
        rows.append(groups.equalised_odds(codes, predictions, SPEAKERS[number], shuffles=200))
    assert rows[0].value < rows[1].value < rows[2].value and rows[2].where.endswith("- dee")
    assert rows[0].low == 0 and rows[0].p > 0.05 and rows[1].low > 0 and rows[1].p < 0.01
    assert all(row.chance < 0.2 for row in rows)


def test_shuffling_within_classes_keeps_classes_of_other_difficulty_apart():
    # Speakers differ in which words they say, and words in how hard they are: no difference between speakers as such.
    rng = np.random.default_rng(4)
    codes = np.repeat([0, 1, 2], 400)
    names = np.where(rng.random(1200) < np.array([0.9, 0.1, 0.5])[codes], "ann", "bob")
    # Clips of class 0 are taken for class 2, those of class 1 never: ann has more false positives of class 2.
    predictions = np.where((codes == 0) & (rng.random(1200) < 0.5), 2, codes)
    found = groups.equalised_odds(codes, predictions, names)
    assert found.where == "false positives of class 2: ann - bob" and found.value > 0.3
    assert found.p > 0.05 and found.chance == pytest.approx(found.value, abs=0.08)


@pytest.mark.parametrize(
    ("wrong", "bounds"),
    [
        ((0.05, 0.35), (0.93, 0.99)),  # two groups: nothing to select
        ((0.05, 0.25, 0.28, 0.6), (0.93, 0.99)),  # clear extremes
        ((0.2, 0.2, 0.2, 0.2), (0.95, 0.99)),  # all alike: only the lower bound can fail
        ((0.1, 0.1, 0.1, 0.4), (0.94, 0.99)),  # three that may be the best
    ],
)
def test_intervals_of_the_gap_hold_their_level(wrong, bounds):
    rng, hits, truth = np.random.default_rng(5), [], max(wrong) - min(wrong)
    for seed in range(700):
        codes, predictions, number = crossed(rng, np.array(wrong), clips=80, classes=2)
        i = groups.equalised_odds(codes, predictions, number, shuffles=0, seed=seed)
        hits.append(i.low <= truth <= i.high)
    assert bounds[0] < np.mean(hits) < bounds[1], np.mean(hits)


def test_intervals_of_equalised_odds_hold_their_level():
    rng, hits, alike = np.random.default_rng(6), [], []
    for seed in range(500):
        number, codes = np.repeat([0, 1], 200), np.tile(np.repeat([0, 1], 100), 2)
        # True positives of class 1: 0.8 and 0.5; false positives of it: 0.1 and 0.15.
        said = rng.random(400) < np.where(codes == 1, np.where(number == 0, 0.8, 0.5), np.where(number == 0, 0.1, 0.15))
        i = groups.equalised_odds(codes, said.astype(int), number, shuffles=0, seed=seed)
        hits.append(i.low <= 0.3 <= i.high)
        said = rng.random(400) < np.where(codes == 1, 0.8, 0.1)
        alike.append(groups.equalised_odds(codes, said.astype(int), number, shuffles=0, seed=seed).low == 0)
    assert 0.93 < np.mean(hits) < 0.97, np.mean(hits)
    assert np.mean(alike) > 0.95, np.mean(alike)


def test_p_values_hold_their_level():
    rng, p = np.random.default_rng(7), []
    for seed in range(500):
        codes, predictions, number = crossed(rng, np.full(4, 0.2), clips=15, classes=2)
        p.append(groups.equalised_odds(codes, predictions, number, shuffles=39, seed=seed).p)
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.08


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [0], ["a", "b"]), "one class, prediction and group per clip"),
        (([0.5, 1], [0, 1], ["a", "b"]), "must be class numbers"),
        (([-1, 1], [0, 1], ["a", "b"]), "must be class numbers"),
        (([0, 1], [0, 1], ["a", None]), "1 clips have no group"),
        (([0, 1], [0, 1], ["a", "a"]), "at least two groups to compare, got"),
    ],
)
def test_what_cannot_be_compared_is_named(arguments, message):
    with pytest.raises(AtlabError, match=message):
        groups.equalised_odds(*arguments)
