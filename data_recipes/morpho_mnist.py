"""Morpho-MNIST: MNIST's digits with six measured properties of their shape.

Protocol: the digit is the target, the shape the orthogonal task: area, length, thickness, slant, width and
height as measured (float columns, for regression) and as quantile classes (area_class ... with q1 the
lowest), whose edges come from the training images. 28 x 28 is resized to 32 x 32 (bilinear). Column official:
train or test.

Access: free download: train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, train-morpho.csv and the t10k-
files of one of its sets (original, plain, thin, thic ...); `raw` is that folder, or the one that holds
`original`. The csv files have the columns index, area, length, thickness, slant, width, height.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from atlab.data.build import Clip, build
from atlab.errors import AtlabError, unknown
from data_recipes.corpus import whole_number
from data_recipes.images import quantile_classes, raw_folder, scratch_folder
from data_recipes.records import Records, exactly, idx_records, need
from data_recipes.torchvision_sets import DIGITS, count, image_card

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

NAME = "morpho_mnist"
LICENCE = "MIT; the digits are MNIST's (CC BY-SA 3.0)"
CITATION = "D. C. Castro et al., Morpho-MNIST, Journal of Machine Learning Research 20(178), 2019"
ACCESS = "free download: idx files and train-morpho.csv, t10k-morpho.csv of one set"
SIZE = "70,000 images of 32 x 32, 20 MB"
MEASURES = ("area", "length", "thickness", "slant", "width", "height")
FACTORS = {"digit": "ten digits"} | {f"{name}_class": f"quantile class of the {name}" for name in MEASURES}
PUBLISHED = {"train": 60_000, "test": 10_000}
PARTS = {"train": "train", "test": "t10k"}
PER_ITEM = 256


def prepare(raw: str | Path, out: str | Path, *, classes: int = 3, workers: int | None = None) -> FactorSet:
    """FactorSet of uint8 [N, 1, 32, 32] with `classes` quantile classes of every measure.

    Raises AtlabError for a missing, truncated or foreign file, a missing column, an unknown index or a
    measure that is not a number. Images without a row of measures are left out and counted.
    """
    classes = whole_number("classes", classes, least=2)
    with raw_folder(raw, out) as root, scratch_folder(f"{out}.idx") as scratch:
        parts = [idx_records(root, scratch, ("original",), prefix, split, DIGITS) for split, prefix in PARTS.items()]
        table = pd.concat([_measures(root, part, PARTS[part.split]) for part in parts], ignore_index=True)
        edges = {}
        for name in MEASURES:
            training = table.loc[table["official"] == "train", name].to_numpy()
            table[f"{name}_class"], edges[name] = quantile_classes(table[name].to_numpy(), training, classes)
        card = image_card(NAME, LICENCE, CITATION, classes=classes, quantile_edges=edges)
        card |= count(NAME, ((part.split, len(part.classes)) for part in parts), PUBLISHED)
        missing = sum(len(part.classes) for part in parts) - len(table)
        card["dropped"] = {"no row of measures": missing} if missing else {}
        return build(
            out,
            [item for part in parts for item in _items(part, table)],
            _convert,
            card=card,
            factors=list(FACTORS),
            workers=workers,
            chunk=8,
            title="Morpho-MNIST",
        )


def _measures(root: Path, part: Records, prefix: str) -> pd.DataFrame:
    """Number, digit and measures of the images of one part that have them."""
    path = need(root, [f"{prefix}-morpho.csv"], ("original",))
    try:
        table = pd.read_csv(path)
    except (ValueError, MemoryError) as error:  # a ParserError is a ValueError, as is what is not UTF-8
        raise AtlabError(f"{path} is no CSV in UTF-8: {error}") from None
    for column in ("index", *MEASURES):
        if column not in table:
            raise unknown(f"column of {path}", column, table.columns)
        if not pd.api.types.is_numeric_dtype(table[column]) or not np.isfinite(table[column]).all():
            raise AtlabError(f"{path} has a value in the column {column!r} that is not a number")
    if table["index"].duplicated().any() or not table["index"].isin(range(len(part.classes))).all():
        raise AtlabError(f"{path} has an index twice or outside 0 to {len(part.classes) - 1}")
    table = table[["index", *MEASURES]].sort_values("index").astype(dict.fromkeys(MEASURES, float))
    return table.assign(digit=[part.classes[n] for n in table["index"]], official=part.split)


def _items(part: Records, table: pd.DataFrame) -> list[tuple[str, int, list[dict]]]:
    rows = table[table["official"] == part.split].to_dict("records")
    return [(str(part.path), part.offset, rows[n : n + PER_ITEM]) for n in range(0, len(rows), PER_ITEM)]


def _convert(item: tuple[str, int, list[dict]]) -> list[Clip]:
    from PIL import Image

    path, offset, rows = item
    clips = []
    with open(path, "rb") as file:
        for row in rows:
            file.seek(offset + 784 * row["index"])
            picture = Image.frombytes("L", (28, 28), exactly(file, 784)).resize((32, 32), Image.Resampling.BILINEAR)
            identity = f"{row['official']}_{row['index']:06d}"
            labels = {name: value for name, value in row.items() if name != "index"}
            clips.append(
                Clip(np.asarray(picture)[None], {"id": identity, "source": identity, "duration": 0.0, **labels})
            )
    return clips
