"""A small image data set for tests of transfer: each class its own pattern, official parts, two ways to halve the classes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from atlab.data import Clip, FactorSet, build

CLASSES = ("bird", "boat", "car", "cat")
MADE = ("boat", "car")


def images(out: Path, per_class: int = 24, side: int = 16) -> FactorSet:
    """uint8 [N, 3, side, side]; factors class, made ("man-made", "natural"), parity; column official, a quarter of it test."""
    items = [(name, k) for k in range(per_class) for name in CLASSES]
    card = {
        "name": "tiny images",
        "kind": "image",
        "sample_rate": None,
        "licence": "none",
        "citation": "",
        "recipe": "tests",
        "recipe_version": 1,
        "parameters": {"per_class": per_class, "side": side},
        "seed": 0,
    }
    return build(out, items, partial(_image, side=side), card=card, factors=["class", "made", "parity"], workers=1)


def _image(item: tuple[str, int], side: int) -> list[Clip]:
    name, k = item
    number = CLASSES.index(name)
    rng = np.random.default_rng([number, k])
    waves = np.sin(np.arange(side) * (1 + number) * np.pi / side + rng.random())
    picture = 100 + 60 * np.outer(waves, waves if number % 2 else np.ones(side)) + rng.normal(0, 15, (3, side, side))
    row = {
        "id": f"{name}{k}",
        "source": f"{name}{k}",
        "duration": 0.0,
        "class": name,
        "made": "man-made" if name in MADE else "natural",
        "parity": str(k % 2),
        "official": "test" if k % 4 == 3 else "train",
    }
    return [Clip(picture.clip(0, 255).astype(np.uint8), row)]
