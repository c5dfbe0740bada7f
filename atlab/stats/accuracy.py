"""Intervals for balanced accuracy, over clips (in groups) and over folds."""

from __future__ import annotations

import numpy as np
from scipy import special

from atlab.errors import AtlabError
from atlab.stats import Interval


def balanced_accuracy(
    right: np.ndarray, codes: np.ndarray, groups: np.ndarray | None = None, level: float = 0.95
) -> Interval:
    """Mean over classes of the share of their clips that are right, with an interval over clips.

    Wilson's interval for the number of clips that a plain accuracy of this variance would have; the variance is summed
    over classes, and by group where clips come in groups (clips of one source vary together). n is the number of groups.

    >>> balanced_accuracy(np.arange(100) % 4 > 0, np.arange(100) // 50).n
    100
    """
    right, codes = np.asarray(right, float), np.asarray(codes)
    if right.shape != codes.shape or not len(right):
        raise AtlabError(f"right and codes must be of the same clips, found {right.shape} and {codes.shape}")
    groups = np.arange(len(right)) if groups is None else np.unique(groups, return_inverse=True)[1]
    classes, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    recall = np.bincount(inverse, right) / counts
    mean = float(recall.mean())
    # Each clip's part in the deviation of the mean recall; what varies together is added before it is squared.
    part = (right - recall[inverse]) / (counts[inverse] * len(classes))
    lost = np.sqrt(counts / np.maximum(counts - 1, 1))[inverse]
    sums = np.bincount(groups, part * lost)
    variance = float(np.square(sums).sum())
    z = float(special.ndtri(0.5 + level / 2))
    units = int(groups.max()) + 1
    clips = mean * (1 - mean) / variance if variance > 0 else units
    centre, half = _wilson(mean, clips, z)
    return Interval(mean, min(mean, centre - half), max(mean, centre + half), units)


def accuracy(right: np.ndarray, groups: np.ndarray | None = None, level: float = 0.95) -> Interval:
    """Share of clips that are right, with an interval over clips (groups); see `balanced_accuracy`.

    >>> accuracy(np.arange(100) % 4 > 0).mean
    0.75
    """
    return balanced_accuracy(right, np.zeros(len(right), int), groups, level)


def fold_interval(right: np.ndarray, codes: np.ndarray, part: np.ndarray, level: float = 0.95) -> Interval:
    """Balanced accuracy of each fold: mean, and t interval with the variance of Nadeau & Bengio (2003).

    Folds share training clips; their correction, (1 / F + 1 / (F - 1)) times the variance between folds, allows for that.
    """
    values = np.array([balanced_accuracy(right[part == f], codes[part == f]).mean for f in np.unique(part)])
    f = len(values)
    half = float(special.stdtrit(f - 1, 0.5 + level / 2) * values.std(ddof=1) * np.sqrt(1 / f + 1 / (f - 1)))
    mean = float(values.mean())
    return Interval(mean, mean - half, mean + half, f)


def _wilson(p: float, n: float, z: float) -> tuple[float, float]:
    shrink = 1 + z * z / n
    return (p + z * z / (2 * n)) / shrink, z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / shrink
