"""Fashion-MNIST: 70,000 grey images of 28 x 28, ten kinds of clothing.

Protocol: the official 60,000 training and 10,000 test images; `hold_out(fs, n)` draws a validation part.
Columns: class, half (a random A/B division of the classes; `halves(fs, seed)` gives others), official (train,
test).

Access: free download: the four idx files, plain or .gz, in `raw`, in FashionMNIST/raw or in raw (where
torchvision.datasets puts them); or a folder <split>/<class>/<picture>.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from atlab.data.splits import hold_out
from data_recipes.torchvision_sets import halves, image_card, prepare_idx

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

NAME = "fashion_mnist"
LICENCE = "MIT"
CITATION = "H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, arXiv:1708.07747, 2017"
ACCESS = "free download: train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz and the t10k- files"
SIZE = "70,000 images of 28 x 28, 30 MB"
FACTORS = {"class": "ten kinds of clothing", "half": "random division of the classes into A and B"}
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot")
PUBLISHED = {"train": 60_000, "test": 10_000}

__all__ = ["halves", "hold_out", "prepare"]


def prepare(raw: str | Path, out: str | Path, *, workers: int | None = None) -> FactorSet:
    """Read the idx files or an image folder into a FactorSet of uint8 [N, 1, 28, 28].

    Raises AtlabError for a file that is missing, truncated or of another format.
    """
    return prepare_idx(
        raw,
        out,
        folders=("FashionMNIST/raw", "raw"),
        classes=CLASSES,
        published=PUBLISHED,
        workers=workers,
        card=image_card(NAME, LICENCE, CITATION),
    )
