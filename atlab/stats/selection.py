"""Groups and choices: the worst group with its size, and the best of several with its budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from atlab.errors import AtlabError
from atlab.stats.intervals import Interval, paired_difference


def by_group(correct: Sequence[bool], groups: Sequence, level: float = 0.95) -> pd.DataFrame:
    """Accuracy of every group with its Wilson interval (1927) and its number of clips, the worst first.

    >>> by_group([True, True, False, True], ["a", "a", "b", "b"])[["group", "accuracy", "n"]].values.tolist()
    [['b', 0.5, 2], ['a', 1.0, 2]]
    """
    right, names = np.asarray(correct, bool), pd.Series(np.asarray(groups))
    if len(right) != len(names) or not len(right):
        raise AtlabError(f"a group for every clip, found {len(right)} clips and {len(names)} groups")
    rows = []
    for name in sorted(names.unique()):
        of_group = right[(names == name).to_numpy()]
        interval = scipy_stats.binomtest(int(of_group.sum()), len(of_group)).proportion_ci(level, "wilson")
        rows.append(
            {"group": name, "accuracy": of_group.mean(), "low": interval.low, "high": interval.high, "n": len(of_group)}
        )
    return pd.DataFrame(rows).sort_values("accuracy", kind="stable").reset_index(drop=True)


class Best(NamedTuple):
    """What choosing by validation gives: test scores by seed, the number of the choice by seed, and the budget."""

    test: np.ndarray
    choice: np.ndarray
    budget: int


def best_of(validation: np.ndarray, test: np.ndarray, across: bool = False) -> Best:
    """The test score of the candidate that validation picks, for every seed: [candidates, seeds] twice -> `Best`.

    The test score of a choice made on validation is unbiased; the validation score of it is not. Of equal candidates the
    first is taken. With `across=True` one candidate is picked for all seeds, by its mean: the right way where candidates are
    settings (a layer), but the scores of its seeds then share one choice, and their interval is given that choice. A
    baseline is given the same budget by as many runs of other seeds as candidates; then `best_difference`.

    >>> validation, test = np.array([[0.5, 0.9], [0.7, 0.6]]), np.array([[0.4, 0.8], [0.6, 0.5]])
    >>> best_of(validation, test).test.tolist(), best_of(validation, test, across=True).test.tolist()
    ([0.6, 0.8], [0.4, 0.8])
    """
    validation, test = np.asarray(validation, float), np.asarray(test, float)
    if validation.ndim != 2 or validation.shape != test.shape or not validation.size:
        raise AtlabError(f"scores of candidates x seeds, found {validation.shape} and {test.shape}")
    choice = np.full(validation.shape[1], validation.mean(1).argmax()) if across else validation.argmax(0)
    return Best(test[choice, np.arange(test.shape[1])], choice, len(validation))


def best_difference(candidates: Best, baseline: Best) -> Interval:
    """Paired difference of two choices by seed; AtlabError unless both were given the same number of tries."""
    if candidates.budget != baseline.budget:
        raise AtlabError(
            f"the best of {candidates.budget} candidates is not comparable with the best of {baseline.budget}: "
            "give the baseline as many tries"
        )
    return paired_difference(candidates.test, baseline.test)


def expected_best_of(k: int, sd: float) -> float:
    """How far the best of k candidates lies above their mean if they differ by noise alone (normal, this sd).

    The advantage of reporting the best of 13 layers against one run of a baseline, both scored on the same clips.

    >>> round(expected_best_of(13, 1.0), 2)
    1.67
    """
    if k < 1 or sd < 0:
        raise AtlabError(f"at least one candidate and a standard deviation of at least 0, found {k} and {sd}")
    normal = scipy_stats.norm
    z = np.linspace(-10, 10, 20_001)
    density = k * normal.pdf(z) * normal.cdf(z) ** (k - 1)
    return float(sd * np.trapezoid(z * density, z))
