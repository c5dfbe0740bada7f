"""Counterfactual consistency against naive loops, and with predictions whose dependence on the speaker is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from atlab.errors import AtlabError
from atlab.invariance import use


def crossed(words: int, speakers: int, repetitions: int) -> pd.DataFrame:
    rows = itertools.product(range(words), range(speakers), range(repetitions))
    return pd.DataFrame(rows, columns=["word", "speaker", "repetition"])


def predictions(factors: pd.DataFrame, rng: np.random.Generator, used: float, noise: float = 1.0) -> np.ndarray:
    """Probabilities [N, 2] of class 0 (true) and 1: the logit has a part by word and speaker, of which `used` is used."""
    words, speakers = factors["word"].max() + 1, factors["speaker"].max() + 1
    part = rng.normal(size=(words, speakers))[factors["word"], factors["speaker"]]
    logit = 1 + used * part + noise * rng.normal(size=len(factors))
    p = 1 / (1 + np.exp(-logit))
    return np.stack([p, 1 - p], 1)


def test_pairs_agree_in_what_is_kept_and_are_balanced():
    factors = crossed(5, 4, 3)
    table = use.pairs(factors, "speaker", ["word"])
    other, same = (table[table["kind"] == kind] for kind in use.KINDS)
    word, speaker = factors["word"].to_numpy(), factors["speaker"].to_numpy()
    assert (word[table["a"]] == word[table["b"]]).all() and (table["a"] != table["b"]).all()
    assert (speaker[other["a"]] != speaker[other["b"]]).all() and (speaker[same["a"]] == speaker[same["b"]]).all()
    assert len(other) == 5 * 6 * 3 and len(same) == 5 * 4 * 3
    for kind in (other, same):
        ends = [frozenset(pair) for pair in kind[["a", "b"]].values.tolist()]
        assert len(set(ends)) == len(ends)
        assert len(set(np.bincount(kind[["a", "b"]].to_numpy().ravel(), minlength=len(factors)))) == 1
    values = np.sort(np.stack([speaker[other["a"]], speaker[other["b"]]], 1), 1)
    assert set(pd.Series(map(tuple, values)).value_counts()) == {15}
    assert table.equals(use.pairs(factors, "speaker", ["word"]))


@pytest.mark.parametrize(("speakers", "partners"), [(9, 2), (8, 4), (8, 3), (5, 9), (2, 1)])
def test_in_a_circle_every_value_has_as_many_partners(speakers, partners):
    factors = crossed(3, speakers, 1)
    table = use.pairs(factors, "speaker", ["word"], partners=partners)
    degree = np.bincount(table[["a", "b"]].to_numpy().ravel(), minlength=len(factors))
    assert set(degree) == {min(2 * partners, speakers - 1)}
    assert not table[["a", "b"]].apply(frozenset, axis=1).duplicated().any()
    assert table.equals(use.pairs(factors, "speaker", ["word"], partners=partners))


def test_real_data_are_matched_by_the_least_sum_of_distances():
    rng = np.random.default_rng(0)
    factors = pd.DataFrame({"word": rng.integers(2, size=40), "speaker": rng.integers(3, size=40)})
    features = rng.normal(size=(40, 2)) * [1, 100]
    table = use.pairs(factors, "speaker", ["word"], features)
    scaled = features / features.std(0)

    def distance(i, j):
        return float(np.sqrt(((scaled[i] - scaled[j]) ** 2).mean()))

    assert table["distance"].tolist() == pytest.approx([distance(i, j) for i, j in table[["a", "b"]].values])
    word, speaker = factors["word"].to_numpy(), factors["speaker"].to_numpy()
    small = min(
        ((w, v, u) for w in range(2) for v in range(3) for u in range(3) if v != u),
        key=lambda c: (sum((word == c[0]) & (speaker == c[1])), sum((word == c[0]) & (speaker == c[2]))),
    )
    one, other = (np.flatnonzero((word == small[0]) & (speaker == v)) for v in small[1:])
    assert 0 < math.perm(len(other), len(one)) <= 50_000  # few enough to try all matchings
    best = min(
        sum(distance(i, j) ** 2 for i, j in zip(one, chosen, strict=True))
        for chosen in itertools.permutations(other, len(one))
    )
    ends = table[["a", "b"]].to_numpy()
    of_them = (np.isin(ends, one).any(1)) & (np.isin(ends, other).any(1))
    assert (table["distance"][of_them] ** 2).sum() == pytest.approx(best)
    near = use.pairs(factors, "speaker", ["word"], features, caliper=0.5)
    assert len(near) and near["distance"].max() <= 0.5 and len(near) == (table["distance"] <= 0.5).sum()


def test_changes_equal_a_naive_loop():
    rng = np.random.default_rng(1)
    factors = crossed(4, 3, 2)
    p = rng.dirichlet(np.ones(5), len(factors))
    codes = factors["word"].to_numpy()
    pairs = use.pairs(factors, "speaker", "word")
    got = use.changes(p, codes, pairs)
    for row in got.itertuples():
        one, other = p[row.a], p[row.b]
        assert row.changed == (max(range(5), key=lambda k: one[k]) != max(range(5), key=lambda k: other[k]))
        assert row.change == pytest.approx(abs(np.log(one[codes[row.a]]) - np.log(other[codes[row.a]])))
        there = sum(one[k] * np.log(one[k] / other[k]) for k in range(5))
        back = sum(other[k] * np.log(other[k] / one[k]) for k in range(5))
        assert row.divergence == pytest.approx((there + back) / 2)
    table = use.consistency(p, codes, pairs).set_index(["measure", "kind"])
    for measure in use.MEASURES:
        means = [float(np.mean([r[measure] for _, r in got[got["kind"] == kind].iterrows()])) for kind in use.KINDS]
        assert table.loc[measure, "counterfactual"]["value"] == pytest.approx(means[0])
        assert table.loc[measure, "excess"]["value"] == pytest.approx(means[0] - means[1])


def test_planted_use_is_ordered_and_what_is_present_but_unused_is_not_seen():
    factors = crossed(60, 4, 3)
    pairs = use.pairs(factors, "speaker", ["word"])
    excess = {}
    for used in (0.0, 0.5, 1.0, 2.0):
        p = predictions(factors, np.random.default_rng(2), used)
        table = use.consistency(p, np.zeros(len(factors), int), pairs)
        excess[used] = table[table["kind"] == "excess"].set_index("measure")
    for measure in use.MEASURES:
        values = [excess[used].loc[measure, "value"] for used in excess]
        assert values == sorted(values) and excess[0.0].loc[measure, "low"] < 0 < excess[0.0].loc[measure, "high"]
        assert excess[1.0].loc[measure, "low"] > 0
    # No use at all and no noise: nothing changes. The speaker decides alone: everything does.
    still = np.tile([[0.7, 0.3]], (len(factors), 1))
    assert (use.consistency(still, np.zeros(len(factors), int), pairs)["value"] == 0).all()
    decided = np.eye(4)[factors["speaker"]]
    table = use.consistency(decided, np.zeros(len(factors), int), pairs).set_index(["measure", "kind"])
    assert table.loc[("changed", "counterfactual"), "value"] == 1 and table.loc[("changed", "repetition"), "value"] == 0
    assert np.isfinite(table["value"]).all()


@pytest.mark.parametrize("used", [0.0, 1.0])
def test_intervals_hold_their_level(used):
    factors = crossed(60, 3, 2)
    pairs, codes = use.pairs(factors, "speaker", ["word"]), np.zeros(len(factors), int)
    wide = crossed(6000, 3, 2)
    wide_pairs = use.pairs(wide, "speaker", ["word"])
    many = use.changes(predictions(wide, np.random.default_rng(3), used), np.zeros(len(wide), int), wide_pairs)
    means = many.groupby("kind")[list(use.MEASURES)].mean()
    truth = {"counterfactual": means.loc["counterfactual"], "repetition": means.loc["repetition"]}
    truth["excess"] = truth["counterfactual"] - truth["repetition"] if used else 0 * means.loc["repetition"]
    hits, rng = [], np.random.default_rng(4)
    for seed in range(600):
        table = use.consistency(predictions(factors, rng, used), codes, pairs, seed=seed)
        want = np.array([truth[kind][measure] for measure, kind in table[["measure", "kind"]].values])
        hits.append((table["low"] <= want) & (want <= table["high"]))
    coverage = np.mean(hits, axis=0)
    assert (coverage > 0.93).all() and (coverage < 0.97).all(), coverage


def test_without_repetitions_there_is_no_floor_and_one_set_has_no_interval():
    factors = crossed(1, 3, 1)
    table = use.consistency(np.tile([[0.5, 0.5]], (3, 1)), [0, 0, 0], use.pairs(factors, "speaker", ["word"]))
    assert set(table["kind"]) == {"counterfactual"} and table["low"].isna().all()


CLIPS = pd.DataFrame({"word": ["y", "y", "n"], "speaker": ["a", "b", "a"]})
PAIR = pd.DataFrame({"a": [0], "b": [1], "set": [0], "kind": ["counterfactual"]})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: use.pairs(CLIPS, "speker", ["word"]), "unknown factor 'speker'; nearest: 'speaker'"),
        (lambda: use.pairs(CLIPS, "speaker", []), "at least one factor to keep"),
        (lambda: use.pairs(CLIPS, "speaker", ["word", "speaker"]), "at least one factor to keep and another to vary"),
        (lambda: use.pairs(CLIPS.assign(word=["y", None, "n"]), "speaker", "word"), "1 clips have no value of 'word'"),
        (lambda: use.pairs(CLIPS.iloc[1:].reset_index(), "speaker", "word"), "there is no pair to compare"),
        (lambda: use.pairs(CLIPS, "speaker", "word", caliper=1.0), "give features with it"),
        (lambda: use.pairs(CLIPS, "speaker", "word", np.zeros((2, 1))), r"finite features \[3, D\]"),
        (lambda: use.changes(np.ones((3, 2)), [0, 0, 0], PAIR), "that sum to 1"),
        (lambda: use.changes(np.eye(2)[[0]], [0], PAIR), "the pairs are of 2 clips or more"),
        (lambda: use.changes(np.eye(2), [0, 1], PAIR), "must be of one class"),
    ],
)
def test_what_cannot_be_compared_is_named(call, message):
    with pytest.raises(AtlabError, match=message):
        call()
