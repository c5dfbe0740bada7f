"""The three files of a data set as a stranger may have written them: read, typed, and compared with each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atlab.errors import AtlabError, unknown
from atlab.system.foreign import read_json

if TYPE_CHECKING:  # imported where a data set is opened: what only writes or lists data sets starts sooner
    import pandas as pd

FORMAT = "atlab-factorset-1"
CARD_BYTES = 1 << 24  # the most of a card that is read
COLUMNS = 1_000  # of the table of factors, at most
KINDS = {"audio": (np.dtype(np.int16), 2), "image": (np.dtype(np.uint8), 4)}  # type and dimensions of the inputs
LABELS = ("string", "integer", "floating", "boolean")  # as pandas infers the type of a column


def read_card(path: Path) -> dict[str, Any]:
    """A data set's card; its name is the folder's where it states none.

    AtlabError if it is of another format or version, or an entry that is read here is missing or of another type.
    """
    file = path / "card.json"
    card = {"name": path.name} | read_json(file, CARD_BYTES)
    if card.get("format") != FORMAT:
        raise AtlabError(f"{file} has format {card.get('format')!r}, this version reads {FORMAT!r}")
    needed = {"kind": str, "sample_rate": int | None, "clips": int, "factors": dict, "content_hash": str, "name": str}
    optional = {"sample_hash": str, "shape": list, "dropped": dict, "published_clips": dict, "parameters": dict}
    if lacking := [key for key in needed if key not in card]:
        raise AtlabError(f"{file} lacks {lacking}")
    for key, kind in (needed | optional).items():
        if key in card and (not isinstance(card[key], kind) or isinstance(card[key], bool)):
            raise _odd(file, key, card[key])
    if not card["factors"]:
        raise AtlabError(f"{file} names no factor: a data set has at least one")
    if card["kind"] not in KINDS:
        raise unknown(f"kind in {file}", card["kind"], KINDS)
    if card["sample_rate"] is not None and card["sample_rate"] < 1:
        raise _odd(file, "sample_rate", card["sample_rate"])
    published = card.get("published_clips") or {}
    for key, counts in (("dropped", card.get("dropped")), *((k, published.get(k)) for k in ("found", "published"))):
        whole = isinstance(counts, dict | None) and all(type(n) is int for n in (counts or {}).values())
        if not whole:
            raise _odd(file, key, counts)
    return card


def read_inputs(path: Path, card: dict) -> np.ndarray:
    """A data set's inputs as a read-only memory map; AtlabError unless they are complete and match the card."""
    file = path / "inputs.npy"
    try:
        inputs = np.lib.format.open_memmap(file, mode="r")
    except Exception as error:  # the header is parsed as Python, and what is odd in it raises a dozen types
        raise AtlabError(f"{file} cannot be read, it is truncated or of another kind: {error}") from None
    dtype, dimensions = KINDS[card["kind"]]
    if inputs.shape[:1] != (card["clips"],):
        raise AtlabError(f"{file} has the shape {inputs.shape}, its card says {card['clips']} clips; they must agree")
    if inputs.dtype != dtype or inputs.ndim != dimensions or not inputs.size or not inputs.flags.c_contiguous:
        raise AtlabError(
            f"{file} holds {inputs.dtype} {inputs.shape}; expected {dtype} of {dimensions} dimensions in C order for {card['kind']}"
        )
    if card.get("shape", list(inputs.shape)) != list(inputs.shape):
        raise AtlabError(f"{file} has the shape {inputs.shape}, its card says {card['shape']}")
    return inputs


def read_factors(path: Path, card: dict) -> pd.DataFrame:
    """A data set's table; AtlabError unless it has one row per clip of the card, unique ids, and a label in every row."""
    import pandas as pd
    import pyarrow.parquet as parquet

    file = path / "factors.parquet"
    try:
        stated = parquet.read_metadata(file)
        rows, columns = stated.num_rows, stated.num_columns
        table = pd.read_parquet(file) if rows == card["clips"] and columns <= COLUMNS else None
    except Exception as error:  # Arrow and pandas raise a dozen types for a file that is no table
        raise AtlabError(f"{file} cannot be read, it is truncated or of another kind: {error}") from None
    if table is None:
        raise AtlabError(
            f"{file} has {rows:,} rows and {columns:,} columns; expected {card['clips']:,} rows, one per clip of the card, "
            f"and at most {COLUMNS:,} columns"
        )
    if lacking := [name for name in ("id", "source", "duration", *card["factors"]) if name not in table]:
        raise AtlabError(f"{file} lacks the columns {lacking}; it has {list(table)}")
    if not table.columns.is_unique:
        raise AtlabError(f"{file} has repeated column names: {list(table)}")
    for name in ("id", "source", "duration", *card["factors"]):
        _check_column(file, name, table[name])
    if not table["id"].is_unique:
        raise AtlabError(f"{file} has repeated ids: {table['id'][table['id'].duplicated()].tolist()[:5]}")
    return table.reset_index(drop=True)


def _check_column(file: Path, name: str, column: pd.Series) -> None:
    import pandas as pd

    allowed = {"id": LABELS[:1], "source": LABELS[:1], "duration": LABELS[1:3]}.get(name, LABELS)
    if column.isna().any():
        raise AtlabError(
            f"{file}: expected a value in every row of the column {name!r}, got {int(column.isna().sum())} empty ones"
        )
    if (found := pd.api.types.infer_dtype(column, skipna=False)) not in allowed:
        raise AtlabError(f"{file}: expected {' or '.join(allowed)} values in the column {name!r}, got {found}")
    if found == "floating" and not np.isfinite(column.to_numpy()).all():
        raise AtlabError(f"{file}: the column {name!r} holds infinite values")


def _odd(file: Path, key: str, found: object) -> AtlabError:
    return AtlabError(
        f"{file}: {key} is {str(found)[:80]!r}, which no card of this format holds; prepare the data set anew"
    )
