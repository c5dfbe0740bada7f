"""Chunks of clips on disk, and the last step of a build: chunks -> the three files of a FactorSet."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from atlab.data.factorset import add_factors, content_digest, sample_hash
from atlab.data.stored import FORMAT
from atlab.errors import AtlabError
from atlab.system.files import new_folder, write_atomic

if TYPE_CHECKING:  # worker processes do without pandas, which takes a second to import
    import pandas as pd

BLOCK = 1 << 20  # bytes
REQUIRED = ("id", "source", "duration")
KINDS = {np.dtype(np.int16): "audio", np.dtype(np.uint8): "image"}


def assemble(out: Path, names: list[Path], items: int, card: dict, factors: list[str]) -> None:
    """Join the chunks into the final folder, hashing on the way; no inputs are held in memory."""
    table, dropped, broken, shapes = _read_rows(names)
    dropped.update(card.get("dropped", {}))  # what a recipe left out before the build
    for line in broken:
        tqdm.write(f"skipped: {line}")
    if len(broken) > 0.01 * items:
        _forget_broken(names)
        raise AtlabError(
            f"{len(broken)} of {items} items are broken, more than 1 %; the first: {'; '.join(broken[:3])}"
        )
    if len(shapes) != 1:
        raise AtlabError(
            shapes_differ(shapes) if shapes else f"{items} items gave no clip at all; left out: {dict(dropped)}"
        )
    (shape, dtype) = shapes.pop()
    _check_table(table, factors, dtype)
    if broken:
        dropped["broken"] += len(broken)
    new = out.with_name(f".{out.name}.new")
    with new_folder(new) as folder:
        digest = content_digest((len(table), *shape), dtype)
        _write_inputs(folder / "inputs.npy", names, (len(table), *shape), dtype, digest)
        add_factors(digest, table)
        table.to_parquet(folder / "factors.parquet", index=False)
        final = {
            "format": FORMAT,
            "kind": KINDS[dtype],
            "sample_rate": None,
            **card,
            "clips": len(table),
            "shape": [len(table), *shape],
            "factors": {factor: int(table[factor].nunique()) for factor in factors},
            "dropped": dict(sorted(dropped.items())),
            "content_hash": digest.hexdigest(),
            "sample_hash": sample_hash(folder),
        }
        (folder / "card.json").write_text(json.dumps(final, indent=1, default=str) + "\n")
    _take_place(new, out)


def write_chunk(path: Path, arrays: list[np.ndarray], info: dict) -> None:
    """Write clips of one shape and type, and what is known of them: a line of JSON, then the clips' bytes."""
    head = info | {"shape": arrays[0].shape, "dtype": arrays[0].dtype.str} if arrays else info
    line = json.dumps(head, default=_plain).encode()
    write_atomic(path, b"".join([line, b"\n", *(np.ascontiguousarray(array) for array in arrays)]))


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a row holds {value!r} ({type(value).__name__}); strings and numbers are allowed")


def _read_info(path: Path) -> dict:
    with open(path, "rb") as file:
        return json.loads(file.readline())


def _read_rows(names: list[Path]) -> tuple[pd.DataFrame, Counter, list[str], set]:
    """Table of all rows, drops by reason, lines on broken items, shapes of the chunks' clips."""
    import pandas as pd

    columns, count, dropped, broken, shapes = {}, 0, Counter(), [], set()
    for name in names:
        info = _read_info(name)
        if info["rows"]:
            shapes.add((tuple(info["shape"]), np.dtype(info["dtype"])))
        for row in info["rows"]:
            for column in row:
                if column not in columns:
                    columns[column] = [None] * count
            for column, values in columns.items():
                value = row.get(column)
                # Labels repeat: each is kept once. Ids do not.
                values.append(sys.intern(value) if isinstance(value, str) and column != "id" else value)
            count += 1
        broken += info["broken"]
        dropped.update(info["dropped"])
    return pd.DataFrame(columns), dropped, broken, shapes


def _forget_broken(names: list[Path]) -> None:
    """Remove the chunks with broken items, so that repaired files are read when the build is tried again."""
    for name in names:
        if _read_info(name)["broken"]:
            name.unlink()


def _write_inputs(path: Path, names: list[Path], shape: tuple[int, ...], dtype: np.dtype, digest) -> None:
    block = memoryview(bytearray(BLOCK))
    with open(path, "wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for name in names:
            with open(name, "rb") as part:
                part.readline()
                while size := part.readinto(block):
                    digest.update(block[:size])
                    file.write(block[:size])


def _take_place(new: Path, out: Path) -> None:
    """Rename `new` to `out`; an older `out` is removed after that, and put back if the renaming fails."""
    if not out.exists():
        os.rename(new, out)
        return
    old = out.with_name(f".{out.name}.old")
    os.rename(out, old)
    try:
        os.rename(new, out)
    except OSError:
        os.rename(old, out)
        raise
    shutil.rmtree(old)


def _check_table(table: pd.DataFrame, factors: list[str], dtype: np.dtype) -> None:
    missing = [column for column in (*REQUIRED, *factors) if column not in table]
    if missing:
        raise AtlabError(f"rows lack the columns {missing}; they have {list(table)}")
    if dtype not in KINDS:
        raise AtlabError(f"clips must be int16 waveforms or uint8 images, found {dtype}")
    repeated = table["id"][table["id"].duplicated()].tolist()
    if repeated:
        raise AtlabError(f"clip ids must be unique; repeated: {repeated[:5]}")
    holes = [column for column in factors if table[column].isna().any()]
    if holes:
        raise AtlabError(f"factors without a value in some rows: {holes}")


def shapes_differ(shapes: set) -> str:
    """What is wrong with clips of several (shape, dtype)."""
    shown = ", ".join(f"{tuple(shape)} {dtype}" for shape, dtype in sorted(shapes, key=str)[:4])
    return f"all clips must have one shape and type, the converter made {shown}"
