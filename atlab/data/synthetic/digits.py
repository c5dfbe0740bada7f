"""Embedded pictures: handwritten digits in coloured ink on crops of two photographs, all of scikit-learn's."""

from __future__ import annotations

import functools
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atlab.data.build import Clip, build
from atlab.errors import AtlabError

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

SIDE = 32  # pixels; the smallest picture that VGG16 takes
INKS = {"red": (225, 0, 30), "green": (0, 225, 60), "blue": (40, 40, 255), "magenta": (225, 0, 225)}
# Photograph of scikit-learn's, and the part of it (top, bottom, left, right) that a background is cropped from.
BACKGROUNDS = {
    "sky": (0, slice(0, 200), slice(340, 640)),
    "temple": (0, slice(60, 350), slice(85, 330)),
    "leaves": (1, slice(0, 360), slice(450, 640)),
    "petals": (1, slice(110, 330), slice(200, 420)),
}
MOST = 172  # digits of a class: a multiple of four, and "eight" has 174


def synthetic_digits(out: str | Path, *, images: int = MOST, seed: int = 0, workers: int | None = None) -> FactorSet:
    """Handwritten digits on photographs: digit x ink x background, uint8 [10 * images * 4, 3, 32, 32].

    Every handwritten digit is a source of four pictures that show it in each ink and on each background once, at
    other places and sizes. All combinations of digit, ink and background have equally many pictures, `images` / 4.
    Crops of one background overlap across sources: a classifier of backgrounds sees parts of its test crops.

    Args:
        images: handwritten digits of each class, a multiple of 4 up to 172.
        workers: processes; all cores if None.

    Raises AtlabError if scikit-learn is missing or an argument is out of range. Sources of the digits: E. Alpaydin
    and C. Kaynak, UCI, 1998.

    >>> import tempfile
    >>> fs = synthetic_digits(tempfile.mkdtemp() + "/digits", images=4, workers=0)
    >>> fs.inputs.shape, fs.card["factors"]
    ((160, 3, 32, 32), {'digit': 10, 'ink': 4, 'background': 4})
    """
    if not isinstance(images, int) or images % 4 or not 4 <= images <= MOST:
        raise AtlabError(f"images is {images!r}; allowed: multiples of 4 from 4 to {MOST}")
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise AtlabError(f"seed is {seed!r}; allowed: whole numbers from 0 to {2**32 - 1}")
    card = {
        "name": "synthetic_digits",
        "licence": "digits: CC BY 4.0; photographs: CC BY 2.0 (both shipped by scikit-learn, BSD-3-Clause)",
        "citation": "Alpaydin & Kaynak 1998, Optical recognition of handwritten digits, UCI",
        "recipe": "synthetic_digits",
        "recipe_version": 1,
        "sample_rate": None,
        "seed": seed,
        "parameters": {"images": images},
    }
    return build(
        out,
        _choose(images, seed),
        partial(_draw, seed=seed),
        card=card,
        factors=["digit", "ink", "background"],
        workers=workers,
        title="drawing digits",
    )


def _choose(images: int, seed: int) -> list[tuple[int, int, int]]:
    """(row of the handwritten digit, its class, how far its inks are shifted against the backgrounds)."""
    classes = _material()[1]
    items = []
    for digit in range(10):
        rows = np.random.default_rng([seed, digit]).permutation(np.flatnonzero(classes == digit))
        items += [(int(row), digit, n % len(INKS)) for n, row in enumerate(rows[:images])]
    return items


def _draw(item: tuple[int, int, int], seed: int) -> list[Clip]:
    row, digit, shift = item
    rng = np.random.default_rng([seed, 10, row])
    clips = []
    for n, (background, (photograph, height, width)) in enumerate(BACKGROUNDS.items()):
        ink = list(INKS)[(n + shift) % len(INKS)]
        crop = _crop(_material()[2][photograph][height, width], rng)
        opacity = _place(_material()[0][row], rng)[..., None]
        picture = np.rint(crop * (1 - opacity) + np.array(INKS[ink]) * opacity).astype(np.uint8)
        labels = {"digit": str(digit), "ink": ink, "background": background}
        identity = {"id": f"{row:04d}-{ink}-{background}", "source": f"{row:04d}", "duration": 0.0}
        clips.append(Clip(np.ascontiguousarray(picture.transpose(2, 0, 1)), identity | labels))
    return clips


def _crop(part: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    top, left = (int(rng.integers(size - SIDE + 1)) for size in part.shape[:2])
    return part[top : top + SIDE, left : left + SIDE].astype(np.float64)


def _place(digit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Opacity [32, 32] of the ink: the 8 x 8 digit (0 to 16) scaled bilinearly to 22 to 30 pixels, somewhere."""
    size = int(rng.integers(22, 31))
    at = np.clip((np.arange(size) + 0.5) * len(digit) / size - 0.5, 0, len(digit) - 1)
    low = np.minimum(at.astype(int), len(digit) - 2)
    part = at - low
    rows = digit[low] * (1 - part)[:, None] + digit[low + 1] * part[:, None]
    scaled = rows[:, low] * (1 - part) + rows[:, low + 1] * part
    opacity = np.zeros((SIDE, SIDE))
    top, left = rng.integers(SIDE - size + 1, size=2)
    opacity[top : top + size, left : left + size] = np.minimum(scaled / 12, 1)
    return opacity


@functools.cache
def _material() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Handwritten digits float64 [1797, 8, 8] of 0 to 16, their classes, and the two photographs uint8 [427, 640, 3]."""
    try:
        from sklearn.datasets import load_digits, load_sample_images
    except ModuleNotFoundError:
        raise AtlabError("the embedded digits need scikit-learn: pip install scikit-learn") from None
    digits = load_digits()
    return digits.images, digits.target, load_sample_images().images
