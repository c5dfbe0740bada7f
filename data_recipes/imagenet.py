"""ImageNet (ILSVRC 2012): 1,281,167 training and 50,000 validation photographs in 1,000 classes.

Protocol of Yosinski et al. 2014: random halves A and B of 500 classes each (column half; `halves(fs, seed)`
gives others), trained on the training images and measured on the official validation images, which
`hold_out(fs, n)` therefore makes the test part. Columns: class (the WordNet id that names the folder), half,
man_made (their dissimilar division, 551 man-made against 449 natural classes), official (train, validation).

Access: registration at image-net.org, research and education only. `raw` is a folder train/<wnid>/*.JPEG and
val/<wnid>/*.JPEG, as torchvision.datasets.ImageNet leaves it or any image folder <split>/<class>/*. Its
meta.bin is a pickle and is not read. Pictures are decoded one at a time, scaled to `size` on the shorter side
and cropped.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from atlab.data.splits import hold_out
from data_recipes.corpus import whole_number
from data_recipes.images import raw_folder
from data_recipes.torchvision_sets import build_folder, halves, image_card

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

NAME = "imagenet"
LICENCE = "research and education only; photographs under their own licences"
CITATION = "O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 115, 2015"
ACCESS = "registration at image-net.org; folders train/<wnid> and val/<wnid>"
SIZE = "1,331,167 photographs, 150 GB (16 GB as 64 x 64)"
FACTORS = {
    "class": "WordNet id of 1,000 kinds of object",
    "half": "random division of the classes into A and B",
    "man_made": "man-made or natural",
}
# First and last WordNet id of each run of man-made classes, in the order of the ids: 398 to 935 (abacus to mashed potato),
# 959 to 969 (carbonara to eggnog), 971 (bubble) and 999 (toilet tissue). From the lists that the authors published with their
# code, https://github.com/yosinski/convnet_transfer, ilsvrc12/data/half_man_idx.txt and half_nat_idx.txt.
MAN_MADE = (
    ("n02666196", "n07711569"),
    ("n07831146", "n07932039"),
    ("n09229709", "n09229709"),
    ("n15075141", "n15075141"),
)
PUBLISHED = {"train": 1_281_167, "validation": 50_000}

__all__ = ["halves", "hold_out", "man_made", "prepare"]


def prepare(raw: str | Path, out: str | Path, *, size: int = 64, workers: int | None = None) -> FactorSet:
    """Read the photographs into a FactorSet of uint8 [N, 3, size, size].

    Raises AtlabError where there are no pictures; one that cannot be decoded is skipped and counted.
    """
    size = whole_number("size", size, least=8)
    with raw_folder(raw, out) as root:
        return build_folder(
            out,
            root,
            size=size,
            channels=3,
            card=image_card(NAME, LICENCE, CITATION, size=size),
            factors=list(FACTORS),
            published=PUBLISHED,
            workers=workers,
            further=lambda name: {"man_made": man_made(name)},
        )


def man_made(wnid: str) -> str:
    """Side of one of the 1,000 classes; "unknown" for a folder that is not named by a WordNet id.

    >>> man_made("n02666196"), man_made("n02655020"), man_made("cats")
    ('man-made', 'natural', 'unknown')
    """
    if not re.fullmatch(r"n\d{8}", wnid):
        return "unknown"
    return "man-made" if any(first <= wnid <= last for first, last in MAN_MADE) else "natural"
