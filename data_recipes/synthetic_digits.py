"""Embedded pictures: handwritten digits in four inks on four backgrounds, 32 x 32 colour pictures, no download.

Protocol: 172 handwritten digits of each class, each drawn four times: in every ink and on every background once.
All combinations of digit, ink and background have 43 pictures. The four pictures of a digit share their source. Use
splits.random, or splits.confounded(fs, "digit", "background") for digits that mostly come with a background of
their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from atlab.data.synthetic.digits import MOST, synthetic_digits
from data_recipes.corpus import refuse_raw

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

NAME = "synthetic_digits"
LICENCE = "drawn from the digits (CC BY 4.0) and photographs (CC BY 2.0) that scikit-learn ships"
CITATION = "Alpaydin & Kaynak 1998, Optical recognition of handwritten digits, UCI; photographs of scikit-learn"
ACCESS = "embedded: needs scikit-learn, no raw data and no network"
SIZE = "6,880 pictures, 21 MB"
FACTORS = {
    "digit": "the handwritten digit, 0 to 9",
    "ink": "red, green, blue, magenta",
    "background": "sky, temple (one photograph), leaves, petals (the other)",
}
CROSSED = ("digit", "ink", "background")


def prepare(
    raw: str | Path | None, out: str | Path, *, images: int = MOST, seed: int = 0, workers: int | None = None
) -> FactorSet:
    """Draw into `out`; options are those of `atlab.data.synthetic_digits`. AtlabError if `raw` is given."""
    refuse_raw(NAME, raw)
    return synthetic_digits(out, images=images, seed=seed, workers=workers)
