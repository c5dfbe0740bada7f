"""Two halves of a data set's classes, drawn at random."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def first_half(classes: Iterable, seed: int = 0) -> set:
    """The classes of half A, drawn by the seed whatever the order of the classes; with an odd number B gets one more.

    >>> sorted(first_half(["dog", "cat", "ship", "truck"], seed=0))
    ['cat', 'ship']
    """
    names = sorted(set(classes))
    order = np.random.default_rng(seed).permutation(len(names))
    return {names[n] for n in order[: len(names) // 2]}
