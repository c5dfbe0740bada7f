"""Fayek et al.'s claims, against naive loops over made runs and numbers that were put into them."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from atlab.transfer.gradual import claims
from atlab.transfer.gradual.reading import of_images

BLOCKS = ("0", "block 1", "blocks 2-3", "blocks 4-5", "blocks 6-7")


def verdicts(lines: list[str]) -> list[str]:
    return [line.split("**")[1] for line in lines]


def speech(rise_of_b: float, noise: float = 0.002, repetitions: int = 5) -> pd.DataFrame:
    """Model A's error rises by 4 points a layer, that of B so that at the same depth it differs by `rise_of_b`."""
    rng, rows = np.random.default_rng(0), []
    levels = {"a": range(6), "b": (0, 2, 4, 7, 10, 11, 12)}
    for task, model, base, seed in itertools.product(
        ("phone", "emotion"), "ab", ("trained", "random"), range(repetitions)
    ):
        row = {
            "task": task,
            "model": model,
            "base": base,
            "seed": seed,
            "fold": seed,
            "primary_error": 0.2 + 0.01 * seed,
        }
        for held in levels[model]:
            depth = held / max(levels[model])
            rise = 0.2 * depth + (rise_of_b if model == "b" else 0) + (0.5 if base == "random" else 0)
            row[f"errors.{f'layer {held}' if held else 0}"] = (
                row["primary_error"] + rise + noise * rng.standard_normal()
            )
        rows.append(row)
    return pd.DataFrame(rows).sample(frac=1, random_state=1)


def test_the_difference_between_the_models_is_that_of_a_loop():
    table = speech(rise_of_b=-0.1)
    lines = claims.of_speech(table)
    assert [line.split(":")[0] for line in lines] == [
        "- Emotions, model A", "- Emotions, model B", "- Emotions", "- Phones, model A", "- Phones, model B", "- Phones",
    ]  # fmt: skip
    differences = []
    for seed in range(5):
        means = {}
        for model, levels in (("a", ("0", "layer 2", "layer 5")), ("b", ("0", "layer 10", "layer 12"))):
            runs = table[(table["task"] == "phone") & (table["model"] == model) & (table["base"] == "trained")]
            chosen = runs[runs["seed"] == seed].iloc[0]
            means[model] = np.mean([chosen[f"errors.{level}"] - chosen["primary_error"] for level in levels])
        differences.append(100 * (means["a"] - means["b"]))
    half = scipy_stats.t.ppf(0.975, 4) * np.std(differences, ddof=1) / 5**0.5
    mean = np.mean(differences)
    assert f"({mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}], 5 seeds" in lines[-1]


@pytest.mark.parametrize(
    ("rise", "noise", "verdict"),
    [(-0.1, 0.002, "holds here"), (0.2, 0.002, "does not hold here"), (-0.1, 0.5, "not decided here")],
)
def test_alike_is_decided_by_the_whole_interval(rise, noise, verdict):
    """B's convolutions end deeper (10 of 12 layers, A's 2 of 5): at equal steepness its mean rise is 2.9 points larger."""
    found = verdicts(claims.of_speech(speech(rise + 0.1 - 0.2 * (10 / 12 - 2 / 5) / 3, noise)))
    assert found[2] == found[5] == verdict
    if noise < 0.1:
        assert {found[0], found[1], found[3], found[4]} == {"holds here"}


def test_models_are_compared_where_both_were_run_at_the_same_depths():
    one = speech(0.0).query("model == 'a'")
    assert len(claims.of_speech(one)) == 2
    shallow = speech(0.0).drop(columns="errors.layer 10")
    assert len(claims.of_speech(shallow)) == 4


def pictures(cost: dict, repetitions: int = 4) -> pd.DataFrame:
    """Rise of the error by (learned, source), at every number of held blocks; none held costs 9 points, which must not matter."""
    rng, rows = np.random.default_rng(1), []
    for ((data, source), points), seed in itertools.product(cost.items(), range(repetitions)):
        row = {
            "data": f"data/{data}",
            "target": "class",
            "source": f"class@data/{source}",
            "base": "trained",
            "seed": seed,
        }
        row["primary_error"] = 0.1 + 0.01 * seed
        for k, level in enumerate(BLOCKS):
            row[f"errors.{level}"] = (
                row["primary_error"] + (points * k / 250 if k else 0.09) + 0.001 * rng.standard_normal()
            )
        rows.append(row)
    return of_images(pd.DataFrame(rows))


COST = {
    ("cifar10", "cifar100"): 2, ("cifar10", "svhn"): 20, ("cifar100", "cifar10"): 4, ("cifar100", "svhn"): 30,
    ("svhn", "cifar10"): 3, ("svhn", "cifar100"): 3,
}  # fmt: skip


def test_sources_and_directions_are_those_that_were_put_in():
    lines = claims.of_images(pictures(COST))
    assert len(lines) == 6
    assert (
        "class of cifar10: blocks of class of cifar100 cost less than blocks of class of svhn: **holds here** (+18."
        in lines[0]
    )
    assert verdicts(lines)[:2] == ["holds here"] * 2 and verdicts(lines)[2] == "not decided here"
    assert (
        "Blocks of class of cifar10 cost class of svhn less than blocks of class of svhn cost class of cifar10"
        in lines[4]
    )
    assert verdicts(lines)[4:] == ["holds here"] * 2 and "+17." in lines[4] and "+27." in lines[5]
    turned = claims.of_images(pictures(COST | {("svhn", "cifar10"): 50}))
    assert verdicts(turned)[4] == "does not hold here" and verdicts(turned)[2] == "does not hold here"


def test_one_direction_alone_is_not_compared():
    assert claims.of_images(pictures({("svhn", "cifar10"): 3})) == []
