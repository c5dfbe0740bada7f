"""Made-up studies, of which the truth is known, and how often ways of reporting their best layer are wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from atlab.stats.intervals import paired_difference
from atlab.stats.selection import best_of

Scores = Mapping[str, np.ndarray]  # {arm: accuracy [repetitions]}
LAYERS = ("conv1", "conv5", "conv9", "conv13")
BASELINES = ("baseline", "baseline 2", "baseline 3", "baseline 4")
DIFFICULTY, LUCK, NOISE = 0.08, 0.03, 0.02  # standard deviations: of splits, of runs, of measurements


def accuracies(
    rng: np.random.Generator, arms: Sequence[str], effects: Mapping[str, float], repetitions: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Validation and test accuracy of every arm [repetitions], for true effects in points.

    A split's difficulty is shared by all arms, a run's luck by its validation and test clips.

    >>> validation, test = accuracies(np.random.default_rng(0), ["baseline", "at"], {"at": 3.0}, repetitions=8)
    >>> test["at"].shape
    (8,)
    """
    difficulty = 0.7 + DIFFICULTY * rng.standard_normal(repetitions)
    validation, test = {}, {}
    for arm in arms:
        run = difficulty + effects.get(arm, 0) / 100 + LUCK * rng.standard_normal(repetitions)
        validation[arm], test[arm] = (run + NOISE * rng.standard_normal(repetitions) for _ in range(2))
    return validation, test


def best_on_test(validation: Scores, test: Scores) -> tuple[np.ndarray, np.ndarray]:
    """The layer with the highest mean test accuracy, against one baseline."""
    best = max(LAYERS, key=lambda layer: test[layer].mean())
    return test[best], test["baseline"]


def best_per_repetition(validation: Scores, test: Scores) -> tuple[np.ndarray, np.ndarray]:
    """In each repetition the layer with the best validation accuracy, against one baseline."""
    return _picked(LAYERS, validation, test), test["baseline"]


def best_against_best(validation: Scores, test: Scores) -> tuple[np.ndarray, np.ndarray]:
    """The same, against the best of four baselines, chosen in the same way."""
    return _picked(LAYERS, validation, test), _picked(BASELINES, validation, test)


def chosen_before(validation: Scores, test: Scores) -> tuple[np.ndarray, np.ndarray]:
    """One layer, chosen by the validation of the first half of the repetitions and tested on the others (`best_of`)."""
    best = best_of(*(np.array([scores[layer] for layer in LAYERS]) for scores in (validation, test)))
    return best.test, test["baseline"][best.tested]


def _picked(arms: Sequence[str], validation: Scores, test: Scores) -> np.ndarray:
    choice = np.argmax([validation[arm] for arm in arms], axis=0)
    return np.array([test[arm] for arm in arms])[choice, np.arange(len(choice))]


WAYS: dict[str, Callable[[Scores, Scores], tuple[np.ndarray, np.ndarray]]] = {
    "best layer by test, one baseline": best_on_test,
    "best layer of each repetition, one baseline": best_per_repetition,
    "best layer of each repetition, best of four baselines": best_against_best,
    "one layer, chosen on the first half, tested on the second": chosen_before,
}


def how_often(
    effects: Mapping[str, float], studies: int, repetitions: int, seed: int = 0
) -> dict[str, dict[str, float]]:
    """For each of `WAYS`: the mean gain, and the share of studies whose 95 % interval lies above zero.

    >>> found = how_often({}, studies=100, repetitions=16)
    >>> found["best layer by test, one baseline"]["above zero (% of studies)"] > 5
    True
    """
    rng = np.random.default_rng(seed)
    found: dict[str, list] = {way: [] for way in WAYS}
    for _ in range(studies):
        validation, test = accuracies(rng, (*BASELINES, *LAYERS), effects, repetitions)
        for way, report in WAYS.items():
            found[way].append(paired_difference(*report(validation, test)))
    return {
        way: {
            "mean gain (points)": 100 * float(np.mean([d.mean for d in of_way])),
            "above zero (% of studies)": 100 * float(np.mean([d.low > 0 for d in of_way])),
        }
        for way, of_way in found.items()
    }
