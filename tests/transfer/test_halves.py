"""Halves of a data set's classes: each class in one, the same for a seed, and the clips that go with them."""

from __future__ import annotations

import numpy as np
import pytest

from atlab.data import splits
from atlab.errors import AtlabError
from atlab.transfer.halves import Halves, halves_of, listed_halves, random_halves, restrict
from data_recipes.torchvision_sets import assign_halves


@pytest.mark.parametrize("count", [4, 5, 10, 101])
def test_every_class_is_in_one_half_and_seeds_differ(count):
    classes = [f"class{n}" for n in range(count)]
    found = {random_halves(classes[::-1], seed) for seed in range(8)}
    for halves in found:
        assert sorted(halves.A + halves.B) == sorted(classes) and len(halves.A) == count // 2
    assert len(found) > 1 and random_halves(classes, 3) == random_halves(classes[::-1], 3)


def test_they_are_those_that_the_recipes_store():
    classes = [f"class{n}" for n in range(10)]
    sides = assign_halves(classes, seed=5)
    assert set(random_halves(classes, 5).A) == {name for name, side in sides.items() if side == "A"}


def test_a_factor_divides_as_unlike_as_it_is(pictures):
    halves = halves_of(pictures, "class", "made")
    assert halves == Halves(A=("boat", "car"), B=("bird", "cat"))
    assert halves_of(pictures, "class", "random", 2) == random_halves(pictures.classes("class"), 2)


def test_cifar_10_is_4_against_6():
    from data_recipes.cifar10 import CLASSES, MAN_MADE

    halves = listed_halves(CLASSES, MAN_MADE)
    assert halves.A == ("airplane", "automobile", "ship", "truck")
    assert halves.B == ("bird", "cat", "deer", "dog", "frog", "horse")


def test_a_half_is_a_data_set_of_its_classes_only(pictures):
    split = splits.random(pictures, seed=1)
    whole = set()
    for side in ("A", "B"):
        classes = halves_of(pictures, "class").of(side)
        half = restrict(split, pictures, "class", classes)
        for part in ("train", "validation", "test"):
            rows = getattr(half, part)
            expected = [r for r in getattr(split, part) if pictures.factors["class"][r] in classes]
            assert rows.tolist() == expected
            whole |= set(rows.tolist())
        assert half.how["classes"] == list(classes)
    assert whole == set(range(len(pictures)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda fs: random_halves(["a", "b", "c"]), "at least two classes, found 1 and 2 of 3"),
        (lambda fs: listed_halves("abcd", "ab").of("C"), "half.*'C'"),
        (lambda fs: listed_halves(["cat", "dog", "ship", "car"], ["shp", "car"]), "class.*'shp'.*ship"),
        (lambda fs: halves_of(fs, "class", "mad"), "division into halves.*'mad'.*made"),
        (lambda fs: halves_of(fs, "class", "class"), "with two values .*; 'class' has 4"),
        (lambda fs: halves_of(fs, "class", "parity"), "'parity' does not divide the classes of 'class'"),
        (lambda fs: halves_of(fs, "colour"), "factor.*'colour'"),
    ],
)
def test_what_cannot_be_halved_is_refused(pictures, make, message):
    with pytest.raises(AtlabError, match=message):
        make(pictures)


def test_the_data_of_these_tests_is_what_it_says(pictures):
    assert len(pictures) == 96 and np.unique(pictures.factors["official"]).tolist() == ["test", "train"]
