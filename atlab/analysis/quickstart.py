"""The steps of the quickstart notebook: examples, captions, findings in words, maps of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from atlab import stats
from atlab.labels import plain
from atlab.stats import Interval


class Findings(NamedTuple):
    """Paired differences in test accuracy, and the sentences they lead to (Markdown)."""

    differences: dict[str, Interval]
    text: str


def examples(fs, target: str, orthogonal: str, count: int = 3) -> list[int]:
    """Rows of one target class under different orthogonal values, to be heard side by side."""
    same = fs.factors[fs.factors[target] == fs.classes(target)[0]]
    return [int(row) for row in same.drop_duplicates(orthogonal).index[:count]]


def split_sentence(split, settings) -> str:
    """How many examples each part has, and what stands between training and test."""
    s, target, by = settings, plain(settings.target), plain(settings.split_spec().by)
    gap = {
        "random": "Training and test differ in the examples only.",
        "official": "The parts are the data set's own.",
        "disjoint": f"No {by} of the test examples is among the training examples.",
        "confounded": f"In training, {100 * s.pairing:.0f} % of the examples of a {target} come from the {by}s that it is "
        f"paired with; in the test, {target} and {by} are independent.",
    }[s.split]
    return (
        f"{len(split.train)} examples to train, {len(split.validation)} to validate, {len(split.test)} to test. {gap}"
    )


def grid(settings, strategies: Sequence[str], seeds: int) -> list:
    """The same settings for each strategy and seed."""
    return [replace(settings, strategy=strategy, seed=seed) for seed in range(seeds) for strategy in strategies]


def run_of(table: pd.DataFrame, strategy: str, seed: int):
    """The run of one strategy and seed in a table of runs."""
    from atlab import runs

    chosen = table[(table["strategy"] == strategy) & (table["seed"] == seed)].iloc[0]
    return runs.Run(chosen["run"])


def teacher_sentence(run, factor: str) -> str:
    """How well the network of the orthogonal factor does on examples that it was not trained on."""
    result = run.result()
    return f"The {plain(factor)} network names the right {plain(factor)} on {100 * result['test_accuracy']:.1f} % of {result['test_clips']} unseen examples."


def findings(table: pd.DataFrame) -> Findings:
    """AT against baseline and WI, paired by seed, in words computed from the runs' table."""
    accuracy = table.pivot(index="seed", columns="strategy", values="test_accuracy")
    train = table.groupby("strategy")["train_accuracy"].mean()
    lines = [
        f"Baseline: {100 * train['baseline']:.1f} % of training examples and {100 * accuracy['baseline'].mean():.1f} % of test examples "
        f"right, a gap of {100 * (train['baseline'] - accuracy['baseline'].mean()):.1f} points. "
        f"Training examples right: AT {100 * train['at']:.1f} %, WI {100 * train['wi']:.1f} %."
    ]
    differences = {}
    for other, name in (("baseline", "the baseline"), ("wi", "WI")):
        differences[other] = stats.paired_difference(accuracy["at"], accuracy[other])
        lines.append(stats.verdict("AT", name, differences[other]))
    lines.append(
        f"Accuracy of the single runs moves by {100 * accuracy.std().mean():.1f} points (standard deviation over seeds, mean of the strategies)."
    )
    return Findings(differences, "\n\n".join(lines))


def predictions(run) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Arguments of `plots.confusion_matrix`: true class numbers, predicted ones, class names."""
    from atlab import models

    table = pd.read_parquet(run.path / "predictions.parquet")
    return (table["code"].to_numpy(), table["prediction"].to_numpy(), models.load(run.model_path).card["classes"])
