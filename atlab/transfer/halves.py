"""Two tasks of one data set: its classes divided into halves A and B, at random or as unlike as a factor makes them.

Yosinski et al. 2014 divide ImageNet's classes at random (section 4.1, similar tasks) and into man-made and natural ones
(section 4.2, 551 against 449): the recipe of ImageNet has their division as its factor `man_made`, CIFAR-10's the same in
miniature, 4 against 6 classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from atlab.data.classes import first_half
from atlab.data.parts import PARTS, Split
from atlab.errors import AtlabError, unknown

SIDES = ("A", "B")
RANDOM = "random"


class Halves(NamedTuple):
    """The classes of both halves, sorted."""

    A: tuple
    B: tuple

    def of(self, side: str) -> tuple:
        """The classes of half "A" or "B"; AtlabError for another name.

        >>> Halves(("cat",), ("dog",)).of("B")
        ('dog',)
        """
        if side not in SIDES:
            raise unknown("half", side, SIDES)
        return getattr(self, side)


def random_halves(classes: Iterable, seed: int = 0) -> Halves:
    """A random division into halves (Yosinski et al. 2014, section 4.1); with an odd number B gets one more.

    Depends on the set of classes and the seed only. AtlabError for fewer than four classes: each half is a task of its
    own, and needs two.

    >>> random_halves(["cat", "dog", "ship", "truck"], seed=0)
    Halves(A=('cat', 'ship'), B=('dog', 'truck'))
    """
    names = sorted(set(classes))
    return _checked(first_half(names, seed), names)


def listed_halves(classes: Iterable, first: Iterable) -> Halves:
    """The division whose half A has the classes `first`; AtlabError for a class that is not there, or fewer than two per half.

    >>> listed_halves(["cat", "dog", "ship", "truck"], first=["ship", "truck"])
    Halves(A=('ship', 'truck'), B=('cat', 'dog'))
    """
    names, first = sorted(set(classes)), set(first)
    for name in sorted(first - set(names), key=str):
        raise unknown("class", name, names)
    return _checked(first, names)


def halves_of(fs, factor: str, by: str = RANDOM, seed: int = 0) -> Halves:
    """The halves of a data set's classes: at random by the seed, or by another factor of two values.

    A factor divides the classes if all clips of a class share its value; half A has the class of the value that comes
    first in the alphabet ("man-made" before "natural").

    Raises AtlabError for an unknown factor, one without exactly two values, and one that cuts through a class.

    >>> import atlab, tempfile
    >>> fs = atlab.data.toy(tempfile.mkdtemp() + "/toy", words=4)
    >>> halves_of(fs, "word", seed=1)
    Halves(A=('word0', 'word1'), B=('word2', 'word3'))
    """
    if by == RANDOM:
        return random_halves(fs.classes(factor), seed)
    if by not in fs.factor_names:
        raise unknown("division into halves", by, [RANDOM, *fs.factor_names])
    values = fs.classes(by)
    if len(values) != 2:
        raise AtlabError(
            f"expected a factor with two values to divide the classes by; {by!r} has {len(values)}: {values[:8]}"
        )
    sides: dict = {}
    for label, value in zip(fs.labels(factor), fs.labels(by), strict=True):
        if sides.setdefault(label, value) != value:
            raise AtlabError(f"{by!r} does not divide the classes of {factor!r}: {label!r} has clips of both values")
    return listed_halves(sides, [label for label, value in sides.items() if value == values[0]])


def restrict(split: Split, fs, factor: str, classes: Iterable) -> Split:
    """The split's clips of some classes only: the data set of one half.

    >>> import atlab, tempfile
    >>> fs = atlab.data.toy(tempfile.mkdtemp() + "/toy", words=4)
    >>> half = restrict(atlab.data.splits.random(fs), fs, "word", ("word0", "word3"))
    >>> sorted(set(fs.labels("word", half.train)))
    ['word0', 'word3']
    """
    classes = list(classes)
    kept = fs.codes(factor, classes) >= 0
    parts = {part: (rows := getattr(split, part))[kept[rows]] for part in (*PARTS, "spare")}
    return replace(split, **parts, how=split.how | {"classes of": factor, "classes": [str(c) for c in classes]})


def _checked(first: set, names: list) -> Halves:
    halves = Halves(tuple(n for n in names if n in first), tuple(n for n in names if n not in first))
    if min(map(len, halves)) < 2:
        raise AtlabError(
            f"each half is a task and needs at least two classes, found {len(halves.A)} and {len(halves.B)} of {len(names)}"
        )
    return halves
