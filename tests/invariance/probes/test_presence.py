"""Probes against scikit-learn, with planted amounts of a factor, and the code length against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from atlab.errors import AtlabError
from atlab.invariance.probes import logistic, presence


def clips(kind: str, n: int = 240, d: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, D] and a factor of two values that they hold in no way, linearly, or in the sign of a product only."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = rng.standard_normal((n, d))
    if kind == "linear":
        x[:, 0] += 2.5 * y
    if kind == "non-linear":
        x[:, 1] = np.abs(x[:, 1] + np.sign(x[:, 1])) * np.sign(x[:, 0]) * (2 * y - 1)
        x[:, 0] += np.sign(x[:, 0])
    return x.astype(np.float32), y


@pytest.fixture(scope="module")
def planted():
    tables = {}
    for kind in ("none", "linear", "non-linear"):
        x, y = clips(kind)
        tables[kind] = presence.presence(
            {"layer": x}, {"speaker": y}, probes=("linear", "mlp"), progress=False
        ).set_index("probe")
    return tables


def test_what_is_not_there_is_not_read(planted):
    for probe in presence.PROBES:
        row = planted["none"].loc[probe]
        assert row["low"] < 0.5 < row["high"] and abs(row["selectivity"]) < 0.12
    assert planted["none"].loc["linear", "bits"] > 0.97


def test_what_is_linear_is_read_by_both(planted):
    for probe in presence.PROBES:
        row = planted["linear"].loc[probe]
        assert row["low"] > 0.8 and row["selectivity"] > 0.3 and 0.35 < row["control"] < 0.65
    assert planted["linear"].loc["linear", "bits"] < 0.75 < planted["linear"].loc["linear", "uniform_bits"] == 1


def test_what_is_only_non_linear_is_read_by_the_perceptron_only(planted):
    assert planted["non-linear"].loc["linear", "low"] < 0.5 < planted["non-linear"].loc["linear", "high"]
    assert planted["non-linear"].loc["mlp", "low"] > 0.7


def test_more_is_more():
    y, rng = np.arange(300) % 3, np.random.default_rng(5)
    noise, found = rng.standard_normal((300, 6)), []
    for amount in (0.0, 1.0, 2.0, 4.0):
        x = noise + amount * np.eye(3, 6)[y]
        found.append(presence.presence({"layer": x}, {"speaker": y}, progress=False).iloc[0])
    assert [r["balanced_accuracy"] for r in found] == sorted(r["balanced_accuracy"] for r in found)
    assert [r["bits"] for r in found] == sorted((r["bits"] for r in found), reverse=True)
    assert found[0]["bits"] == pytest.approx(np.log2(3), abs=0.12) and found[-1]["bits"] < 0.5


def test_the_whole_probe_is_scikit_learns():
    """Nested cross-validation one fit after the other, on the same folds and with the same choice."""
    rng = np.random.default_rng(6)
    y = rng.choice(3, 200, p=[0.5, 0.3, 0.2])
    x = rng.standard_normal((200, 5)) * [1, 10, 0.1, 1, 1] + np.eye(3, 5)[y]
    groups = np.arange(200) // 2
    found = presence.presence({"layer": x}, {"speaker": y}, groups, folds=4, bits=False, progress=False).iloc[0]
    part = presence.deal(groups, 4)
    named = np.empty(200, int)
    for fold in range(4):
        best, after = None, (fold + 1) % 4
        for c in presence.STRENGTHS:
            scaler, probe = sklearns(x, y, (part != fold) & (part != after), c)
            logs = probe.predict_log_proba(scaler.transform(x[part == after]))
            held = y[part == after]
            loss = np.mean([-logs[held == k, k].mean() for k in range(3)])
            best = min(best or (np.inf, 0), (loss, c))
        scaler, probe = sklearns(x, y, part != fold, best[1])
        named[part == fold] = probe.predict(scaler.transform(x[part == fold]))
    # Fits end a proven distance from the optimum, which may move a clip on the border.
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, named), abs=0.01)


def sklearns(x, y, rows, c):
    scaler = StandardScaler().fit(x[rows])
    return scaler, LogisticRegression(C=c, class_weight="balanced", tol=1e-10, max_iter=10_000).fit(
        scaler.transform(x[rows]), y[rows]
    )


def test_groups_stay_together_and_what_only_they_tell_is_not_read():
    """A source's clips are near each other and of one speaker: without groups its neighbours give a clip away."""
    rng = np.random.default_rng(7)
    source = np.repeat(np.arange(60), 4)
    y = rng.permutation(np.arange(60) % 2)[source]
    x = 3 * rng.standard_normal((60, 40))[source] + 0.1 * rng.standard_normal((240, 40))
    alone, together = (
        presence.presence({"layer": x}, {"speaker": y}, g, bits=False, progress=False).iloc[0] for g in (None, source)
    )
    assert alone["balanced_accuracy"] > 0.85 and together["low"] < 0.5 < together["high"]
    part = presence.deal(source, 5)
    assert all(len(set(part[source == s])) == 1 for s in range(60)) and np.ptp(np.bincount(part)) <= 4
    blocks, order = presence.code_blocks(source)
    assert all(len(set(blocks[source == s])) == 1 for s in range(60)) and sorted(order) == list(range(240))


def test_the_code_length_is_a_loop_over_blocks():
    x, y = clips("linear", 120, 4)
    found = presence.presence({"layer": x}, {"speaker": y}, progress=False).iloc[0]
    blocks, order = presence.code_blocks(np.arange(120))
    total = float((blocks == 0).sum())
    for block in range(1, blocks.max() + 1):
        known, new = blocks < block, blocks == block
        scaler = StandardScaler().fit(x[known])
        lengths = [new.sum() * 1.0]
        for c in presence.STRENGTHS:
            # The intercept is penalised as well: it is the coefficient of a constant column.
            probe = LogisticRegression(C=c, fit_intercept=False, tol=1e-10, max_iter=10_000)
            one = np.ones((120, 1))
            probe.fit(np.c_[scaler.transform(x[known]), one[known]], y[known])
            logs = probe.predict_log_proba(np.c_[scaler.transform(x[new]), one[new]])
            lengths.append(-logs[np.arange(new.sum()), y[new]].sum() / np.log(2))
        total += -np.log2(np.mean(np.exp2(-np.array(lengths))))
    assert found["bits"] == pytest.approx(total / 120, abs=0.01)
    assert order.shape == (120,)


def test_invertible_linear_maps_change_little_and_permuted_clips_nothing():
    x, y = clips("linear")
    options = {"strengths": (100.0,), "bits": False, "progress": False}
    want = presence.presence({"layer": x}, {"speaker": y}, **options)["balanced_accuracy"][0]
    mixed = x @ np.random.default_rng(8).standard_normal((8, 8)) * 50 - 3
    assert presence.presence({"layer": mixed}, {"speaker": y}, **options)["balanced_accuracy"][0] == pytest.approx(
        want, abs=0.02
    )
    scaled = x * np.geomspace(1e-3, 1e3, 8)
    assert presence.presence({"layer": scaled}, {"speaker": y}, **options)["balanced_accuracy"][0] == pytest.approx(
        want, abs=0.005
    )


def test_many_clips_are_streamed_and_read_as_well(monkeypatch):
    x, y = clips("linear", 400)
    want = presence.presence({"layer": x}, {"speaker": y}, progress=False).iloc[0]
    monkeypatch.setattr(logistic, "RESIDENT", 0)
    monkeypatch.setattr(presence, "CHOICE", 200)  # strengths compared on a sample
    found = presence.presence({"layer": x}, {"speaker": y}, progress=False).iloc[0]
    assert found["balanced_accuracy"] == pytest.approx(want["balanced_accuracy"], abs=0.01)
    assert found["bits"] == pytest.approx(want["bits"], abs=0.01)


def test_several_layers_and_factors_are_those_of_one_by_one():
    (x, y), (z, _) = clips("linear"), clips("none")
    other = np.arange(240) // 80
    both = presence.presence({"a": x, "b": z}, {"speaker": y, "word": other}, bits=False, progress=False).set_index(
        ["layer", "factor"]
    )
    one = presence.presence({"b": z}, {"word": other}, bits=False, progress=False).iloc[0]
    assert len(both) == 4 and both.loc[("b", "word"), "balanced_accuracy"] == one["balanced_accuracy"]
    assert both.loc[("a", "word"), "chance"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("features", "labels", "more", "message"),
    [
        ({}, {"s": [0, 1]}, {}, "nothing to probe: 0 layers and 1 factors"),
        ({"a": np.zeros((4, 2))}, {"s": [0, 1]}, {}, "must be of the same clips"),
        ({"a": np.zeros((4, 2, 2))}, {"s": [0, 1, 0, 1]}, {}, r"must be \[N, D\]"),
        ({"a": np.zeros((9, 2))}, {"s": [0] * 9}, {}, "a single class"),
        ({"a": np.zeros((9, 2))}, {"s": [None, *"abababab"]}, {}, "no value for 1 of 9 clips"),
        ({"a": np.zeros((9, 2))}, {"s": [1] + [0] * 8}, {}, "lies in one of 5 folds"),
        ({"a": np.zeros((9, 2))}, {"s": np.arange(9) % 2}, {"folds": 2}, "at least 3 folds"),
        ({"a": np.zeros((9, 2))}, {"s": np.arange(9) % 2}, {"groups": [0] * 9}, "1 groups of clips cannot be dealt"),
        (
            {"a": np.zeros((9, 2))},
            {"s": np.arange(9) % 2},
            {"probes": ("linaer",)},
            "unknown probe 'linaer'; nearest: 'linear'",
        ),
    ],
)
def test_what_cannot_be_probed_is_named(features, labels, more, message):
    with pytest.raises(AtlabError, match=message):
        presence.presence(features, labels, more.pop("groups", None), **more, progress=False)


def test_probing_leaves_the_random_state_alone():
    x, y = clips("none", 60)
    torch.manual_seed(1)
    want = torch.rand(1)
    torch.manual_seed(1)
    presence.presence({"layer": x}, {"speaker": y}, probes=("mlp",), progress=False)
    assert torch.equal(torch.rand(1), want)
