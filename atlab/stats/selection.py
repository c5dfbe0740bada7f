"""Groups and choices: the worst group with its size, and the best of several with its budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import special

from atlab.errors import AtlabError

if TYPE_CHECKING:
    import pandas as pd


def by_group(correct: Sequence[bool], groups: Sequence, level: float = 0.95) -> pd.DataFrame:
    """Accuracy of every group with its Wilson interval (1927) and its number of clips, the worst first.

    >>> by_group([True, True, False, True], ["a", "a", "b", "b"])[["group", "accuracy", "n"]].values.tolist()
    [['b', 0.5, 2], ['a', 1.0, 2]]
    """
    import pandas as pd
    from scipy import stats

    right, names = np.asarray(correct, bool), pd.Series(np.asarray(groups))
    if len(right) != len(names) or not len(right):
        raise AtlabError(f"expected one group per clip, got {len(right)} clips and {len(names)} groups")
    rows = []
    for name in sorted(names.unique()):
        of_group = right[(names == name).to_numpy()]
        interval = stats.binomtest(int(of_group.sum()), len(of_group)).proportion_ci(level, "wilson")
        rows.append(
            {"group": name, "accuracy": of_group.mean(), "low": interval.low, "high": interval.high, "n": len(of_group)}
        )
    return pd.DataFrame(rows).sort_values("accuracy", kind="stable").reset_index(drop=True)


class Best(NamedTuple):
    """A choice made before the test: the candidate's number, the seeds that had no part in it, their test scores, the budget."""

    choice: int
    tested: np.ndarray
    test: np.ndarray
    budget: int


def best_of(validation: np.ndarray, test: np.ndarray) -> Best:
    """The candidate that validation picks on the first half of the seeds, and its test scores on the others: [candidates, seeds] twice.

    The candidate has the highest mean validation score over the first half (rounded down), and is the first of equal ones. What
    is tested had no part in the choice, so that a difference to a baseline with one try per seed is not raised by the choosing, as
    that of the best of several tries on the same seeds is; nor is its interval too narrow, as it is where every seed is tested
    with the choice of all the others. A single candidate is tested on all seeds. AtlabError for several candidates of one seed.

    >>> validation, test = np.array([[0.5, 0.9, 0.6, 0.5], [0.7, 0.8, 0.8, 0.6]]), np.array([[0.4, 0.8, 0.5, 0.3], [0.6, 0.5, 0.7, 0.2]])
    >>> best_of(validation, test)
    Best(choice=1, tested=array([2, 3]), test=array([0.7, 0.2]), budget=2)
    """
    validation, test = np.asarray(validation, float), np.asarray(test, float)
    if validation.ndim != 2 or validation.shape != test.shape or not validation.size:
        raise AtlabError(
            f"expected scores [candidates, seeds] twice, got the shapes {validation.shape} and {test.shape}"
        )
    candidates, seeds = validation.shape
    if candidates > 1 and seeds < 2:
        raise AtlabError(
            f"expected at least 2 seeds, one to choose among {candidates} candidates and one to test, got {seeds}"
        )
    first = seeds // 2 if candidates > 1 else 0
    choice = int(validation[:, :first].mean(1).argmax()) if first else 0
    return Best(choice, np.arange(first, seeds), test[choice, first:], candidates)


def expected_best_of(k: int, sd: float) -> float:
    """How far the best of k candidates lies above their mean if they differ by noise alone (normal, this sd).

    The advantage of reporting the best of 13 layers against one run of a baseline, both scored on the same clips.

    >>> round(expected_best_of(13, 1.0), 2)
    1.67
    """
    if k < 1 or sd < 0:
        raise AtlabError(f"expected at least one candidate and a standard deviation of at least 0, got {k} and {sd}")
    z = np.linspace(-10, 10, 20_001)
    density = k * np.exp(-z * z / 2) / np.sqrt(2 * np.pi) * special.ndtr(z) ** (k - 1)
    return float(sd * np.trapezoid(z * density, z))
