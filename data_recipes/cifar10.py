"""CIFAR-10: 60,000 colour images of 32 x 32 in ten classes.

Protocol: the official 50,000 training and 10,000 test images; the split "official" holds a tenth of the
training images out for validation, as Fayek et al. 2018 do. Columns: class, half (a random A/B division of the classes, as in Yosinski
et al. 2014; `halves(fs, seed)` gives others), man_made (their dissimilar division in miniature: airplane,
automobile, ship, truck against bird, cat, deer, dog, frog, horse) and official (train, test).

Access: free download, no registration. Take the *binary version* cifar-10-binary.tar.gz (data_batch_1..5.bin
and test_batch.bin, records of 3,073 bytes) or a folder <split>/<class>/<picture>; `raw` is its folder or the
archive. The "python version" is a set of pickles, which can run code when loaded, and is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from data_recipes.torchvision_sets import assign_halves, halves, image_card, prepare_cifar

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

NAME = "cifar10"
LICENCE = "no licence stated; free for research, cite the report"
CITATION = "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
ACCESS = "free download: cifar-10-binary.tar.gz (the binary version) from the CIFAR page, or an image folder"
SIZE = "60,000 images of 32 x 32, 170 MB"
FACTORS = {
    "class": "ten kinds of object",
    "half": "random division of the classes into A and B",
    "man_made": "man-made or natural",
}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MAN_MADE = frozenset({"airplane", "automobile", "ship", "truck"})
PUBLISHED = {"train": 50_000, "test": 10_000}

__all__ = ["halves", "prepare"]


def prepare(raw: str | Path, out: str | Path, *, workers: int | None = None) -> FactorSet:
    """Read the binary version or an image folder into a FactorSet of uint8 [N, 3, 32, 32].

    Raises AtlabError if neither is there, for the pickled version, and for a truncated or missing file.
    """
    sides = assign_halves(CLASSES)
    return prepare_cifar(
        raw,
        out,
        files=[(f"data_batch_{n}.bin", "train") for n in range(1, 6)] + [("test_batch.bin", "test")],
        pickled="data_batch_1",
        folders=("cifar-10-batches-bin", "cifar10"),
        archive="cifar-10-binary.tar.gz",
        classes=CLASSES,
        label_bytes=1,
        card=image_card(NAME, LICENCE, CITATION),
        factors=list(FACTORS),
        further=lambda name: {"half": sides[name], "man_made": "man-made" if name in MAN_MADE else "natural"},
        published=PUBLISHED,
        workers=workers,
    )
