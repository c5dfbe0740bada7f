"""SVHN: street view house numbers, 630,420 colour images of 32 x 32 in ten digits (the cropped format).

Protocol of Fayek et al. 2018 (section 3): train (73,257) and extra (531,131) together, of which
the split "official" keeps 598,388 for training and 6,000, drawn at random, for validation; the official 26,032 test images. Columns: class (the
digit), half (a random A/B division of the classes; `halves(fs, seed)` gives others) and official (train,
extra, test).

Access: free download, non-commercial use: train_32x32.mat, extra_32x32.mat, test_32x32.mat in one folder, as
torchvision.datasets.SVHN reads them. The images of one file at a time are in memory, 1.6 GB of the extra ones.
Without extra_32x32.mat pass extra=False. The label 10 of the files is the digit 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from data_recipes.images import raw_folder, scratch_folder
from data_recipes.records import mat_records, need
from data_recipes.torchvision_sets import DIGITS, assign_halves, build_records, halves, image_card

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

NAME = "svhn"
LICENCE = "non-commercial use only"
CITATION = "Y. Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, 2011"
ACCESS = "free download: train_32x32.mat, test_32x32.mat, extra_32x32.mat"
SIZE = "630,420 images of 32 x 32, 1.5 GB"
FACTORS = {"class": "ten digits", "half": "random division of the classes into A and B"}
PUBLISHED = {"train": 73_257, "extra": 531_131, "test": 26_032}
VALIDATION = 6_000 / 604_388  # of train and extra (Fayek et al. 2018, section 3)

__all__ = ["halves", "prepare"]


def prepare(raw: str | Path, out: str | Path, *, extra: bool = True, workers: int | None = None) -> FactorSet:
    """Read the .mat files into a FactorSet of uint8 [N, 3, 32, 32]; extra=False leaves the extra images out.

    Raises AtlabError for a file that is missing, truncated or of another format.
    """
    sides = assign_halves(DIGITS)
    splits = [split for split in PUBLISHED if extra or split != "extra"]
    validation = {"official_validation": VALIDATION} if extra else {}
    with raw_folder(raw, out) as root:
        files = [need(root, [f"{split}_32x32.mat"], ("svhn", "SVHN")) for split in splits]
        with scratch_folder(f"{out}.mat") as scratch:
            parts = [mat_records(path, scratch, split) for path, split in zip(files, splits, strict=False)]
            return build_records(
                out,
                scratch,
                parts,
                card=image_card(NAME, LICENCE, CITATION, extra=extra) | validation,
                further=lambda name: {"half": sides[name]},
                factors=list(FACTORS),
                published={split: PUBLISHED[split] for split in splits},
                workers=workers,
            )
