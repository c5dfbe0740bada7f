"""Choices by the other seeds, averages over conditions and the claims over them, against loops over a table made by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from atlab import analysis
from atlab.analysis import across, claims
from atlab.analysis.choice import layer_of, picked
from atlab.errors import AtlabError
from atlab.stats import expected_best_of

SEEDS, LAYERS = range(5), ("conv1", "conv5", "conv13")
BOTH = "emotion@b, noise@c"


def runs(arms, gain, base=0.6, sd=0.01, seed=0, **columns) -> pd.DataFrame:
    """Baseline and arms (strategy, orthogonal, layer); `gain` is what an arm is better by, in test and validation."""
    rng, rows = np.random.default_rng(seed), []
    for strategy, task, layer in [("baseline", "", "conv5"), *arms]:
        for n in SEEDS:
            better = 0 if strategy == "baseline" else gain(strategy, task, layer)
            noise = rng.normal(0, sd, 3)
            scores = dict(zip(("train", "validation", "test"), base + better + noise, strict=True))
            rows.append({"strategy": strategy, "orthogonal": task, "layers": layer, "seed": n, **columns}
                        | {f"{part}_accuracy": score for part, score in scores.items()})  # fmt: skip
    table = pd.DataFrame(rows).sample(frac=1, random_state=0)
    return table.assign(aggregation="gram", similarity="squared_cosine", beta=1.0)


def arms_of(*tasks: str, strategy: str = "at", layers=LAYERS) -> list[tuple[str, str, str]]:
    return list(itertools.product([strategy], tasks, layers))


def score(table: pd.DataFrame, strategy: str, task: str, layer: str, part: str = "test") -> np.ndarray:
    found = table[(table["strategy"] == strategy) & (table["orthogonal"] == task) & (table["layers"] == layer)]
    return found.sort_values("seed")[f"{part}_accuracy"].to_numpy()


@pytest.fixture
def emotions() -> pd.DataFrame:
    """Random and class split; the same corpus is 5 points better than another, and three times as good where speakers are held out."""

    def gain(split):
        return lambda strategy, task, layer: (0.02 + 0.05 * (task == "speaker")) * (1 + 2 * (split == "official"))

    tasks = arms_of("speaker", "word@b")
    bases = {"random": 0.7, "official": 0.5}
    return pd.concat([runs(tasks, gain(s), bases[s], seed=n, split=s) for n, s in enumerate(bases)])


@pytest.fixture
def words() -> pd.DataFrame:
    """Two single tasks, and dual AT at one layer that is 3 points better."""
    arms = arms_of("emotion@b", "noise@c") + arms_of(BOTH, strategy="dual_at", layers=["conv5"])
    return runs(arms, lambda strategy, task, layer: 0.03 * (strategy == "dual_at"), 0.9, seed=7, split="random")


def test_the_seeds_that_test_have_no_say_in_the_choice(words):
    chosen = picked(analysis.arms(words), "at", "noise@c")
    validation = np.array([score(words, "at", "noise@c", layer, "validation") for layer in LAYERS])
    want = LAYERS[int(validation[:, :2].mean(1).argmax())]
    assert chosen.index.tolist() == [2, 3, 4] and set(chosen["layers"]) == {want} and set(chosen["tries"]) == {3}
    assert chosen["test_accuracy"].tolist() == score(words, "at", "noise@c", want)[2:].tolist()
    assert layer_of(chosen) == f"{want}, chosen among 3 by validation on other seeds"
    assert picked(analysis.arms(words), "at", "noise@c", ["conv5"])["tries"].tolist() == [1] * 5
    assert layer_of(picked(analysis.arms(words), "dual_at")) == "conv5"
    with pytest.raises(AtlabError, match="every layer and seed of 'at'"):
        picked(analysis.arms(words[~((words["layers"] == "conv5") & (words["seed"] == 2))]), "at", "noise@c")


def test_choosing_among_equals_gains_nothing():
    """Where layers differ by luck alone, and validation sees that luck, the best by its own validation would gain 1.67 sd."""
    layers, gains, own = [f"conv{n}" for n in range(1, 14)], [], []
    for n in range(60):
        rng = np.random.default_rng(n)
        quality = rng.normal(0.6, 0.05, (13, 3))
        rows = [("at", "speaker", layer, seed, quality[k, seed]) for k, layer in enumerate(layers) for seed in range(3)]
        table = pd.DataFrame(rows, columns=["strategy", "orthogonal", "layers", "seed", "test_accuracy"])
        table = table.assign(validation_accuracy=table["test_accuracy"], arm=table["layers"])
        gains.append(picked(table, "at")["test_accuracy"].mean() - 0.6)
        own.append(quality.max(0).mean() - 0.6)
    assert abs(np.mean(gains)) < 4 * 0.05 / np.sqrt(120)
    assert np.mean(own) == pytest.approx(expected_best_of(13, 0.05), rel=0.08)


def test_the_averages_of_figure_3_are_means_over_cells_of_paired_gains(emotions, words):
    found = analysis.averages({"words": words, "emotions": emotions}).set_index("arm")
    assert found["cells"].to_dict() == {"all three tasks": 3, "words": 1, "emotions": 2, "AT, another corpus": 2, "AT, the same corpus": 2, "single AT": 2, "dual AT": 1}  # fmt: skip
    gains = []
    for split in ("random", "official"):
        part = emotions[emotions["split"] == split]
        chosen = picked(analysis.arms(part), "at", "speaker")["test_accuracy"].to_numpy()
        gains.append(chosen - score(part, "baseline", "", "conv5")[2:])
    each = np.mean(gains, axis=0)
    low, high = scipy_stats.t.interval(0.95, 2, each.mean(), scipy_stats.sem(each))
    want = [each.mean(), low, high]
    assert found.loc["AT, the same corpus", ["difference", "d_low", "d_high"]].tolist() == pytest.approx(want)
    dual = score(words, "dual_at", BOTH, "conv5") - score(words, "baseline", "", "conv5")
    assert found.loc["dual AT", "difference"] == pytest.approx(dual.mean())
    with pytest.raises(AtlabError, match="seeds that all of them have"):
        analysis.averages({"words": words, "emotions": emotions.assign(seed=emotions["seed"] + 10)})


def test_the_claims_over_tasks_are_decided(emotions, words):
    same, dual, held_out, lower = across.of_averages({"words": words, "emotions": emotions})
    assert all("**holds here**" in line for line in (same, dual, held_out, lower))
    single = [
        score(words, "at", task, "conv5") for task in ("emotion@b", "noise@c")
    ]  # the layer that dual AT was tried at
    assert f"({100 * (score(words, 'dual_at', BOTH, 'conv5') - np.mean(single, axis=0)).mean():+.1f} [" in dual
    turned = emotions.replace({"orthogonal": {"speaker": "word@b", "word@b": "speaker"}})
    same = across.of_averages({"emotions": turned})
    assert "**does not hold here**" in same[0] and "nothing to compare" in same[1]


def test_a_low_baseline_by_chance_is_not_read_as_a_larger_gain():
    """Three conditions of equal difficulty and no gain: a seed's own baseline would give a slope of -1 in the mean."""
    slopes, naive = [], []
    for n in range(15):
        parts = {
            f"s{k}": runs(arms_of("a", layers=["conv5"]), lambda *_: 0.0, 0.6, 0.03, seed=[n, k]) for k in range(3)
        }
        slopes.append(float(across.of_averages(parts)[3].split("(")[-1].split(" ")[0]))
        base = np.array([score(p, "baseline", "", "conv5") for p in parts.values()])
        gain = np.array([score(p, "at", "a", "conv5") for p in parts.values()]) - base
        naive.append(np.mean([-10 * np.polyfit(base[:, s], gain[:, s], 1)[0] for s in SEEDS]))
    assert np.mean(naive) == pytest.approx(10, abs=4)
    assert abs(np.mean(slopes)) < 4 * np.std(slopes) / np.sqrt(len(slopes)) and np.std(slopes) > 0


def test_several_layers_and_teachers_are_set_against_their_parts():
    arms = [("at", "a", "conv5"), ("at", "a", "conv13"), ("at", "a", "conv5, conv13"), ("at", "b", "conv5"), ("at", "a, b", "conv5"), ("dual_at", "b, a", "conv5")]  # fmt: skip
    table = runs(arms, lambda strategy, task, layer: 0.1 * (task == "a, b") - 0.1 * ("," in layer))
    several = claims.of_several(table[table["orthogonal"].isin(["", "a"])])
    assert several[0].startswith("- AT a conv5, conv13 is below the baseline: **holds here**")
    assert _verdicts(several[1:]) == {"AT a conv5": "does not hold here", "AT a conv13": "does not hold here"}
    teachers = claims.of_teachers(table[table["layers"] == "conv5"])
    others = ("the baseline", "AT a conv5", "AT b conv5", "dual AT b, a conv5")
    assert _verdicts(teachers) == dict.fromkeys(others, "holds here")


def _verdicts(lines: list[str]) -> dict[str, str]:
    return {line.split(" is above ")[1].split(":")[0]: line.split("**")[1] for line in lines}
