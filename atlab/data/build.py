"""The one way data sets are written: items -> clips in parallel, resumable, the same bytes however it ran."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from atlab.data.factorset import FORMAT, FactorSet
from atlab.errors import AtlabError
from atlab.files import locked, new_folder, write_atomic

REQUIRED = ("id", "source", "duration")
KINDS = {np.dtype(np.int16): "audio", np.dtype(np.uint8): "image"}


@dataclass
class Clip:
    """One clip: an int16 waveform [T] or uint8 image [C, H, W], and its row (id, source, duration in s, factors)."""

    array: np.ndarray
    row: dict


class BrokenInput(Exception):
    """A raw file that cannot be used; raised by a converter, counted, and skipped with one line."""


def build(
    out: str | Path,
    items: Sequence,
    convert: Callable,
    *,
    card: dict,
    factors: Sequence[str],
    workers: int | None = None,
    initializer: Callable | None = None,
    initargs: tuple = (),
    chunk: int = 64,
    title: str = "preparing",
    overwrite: bool = False,
) -> FactorSet:
    """Convert `items` in parallel into the FactorSet `out`; resumes a killed build, opens a finished one.

    The result does not depend on workers, chunks or interruptions. Finished chunks wait in a hidden folder
    beside `out`, known by a hash of card and items; memory stays flat.

    Args:
        items: work items whose `repr` says what they are (paths, tuples, dataclasses); one may give many clips.
        convert: item -> list of `Clip`, or (list, {reason: clips dropped}); may raise `BrokenInput`. Importable,
            for it runs in worker processes.
        card: name, licence, citation, recipe, recipe_version, parameters, seed, sample_rate, ...
        factors: columns that can be a task.
        workers: processes; all cores if None, none (in this process) if 0.
        overwrite: replace an existing `out` that was built from something else.

    Raises:
        AtlabError: more than 1 % of the items broken, no clip at all, clips of different shapes, repeated ids, an
            existing `out` of another build, a full disk (what is done is kept for the next try).
    """
    out, key = Path(out), _build_key(card, items)
    with locked(out):
        return _build_locked(out, key, items, convert, card, list(factors), workers, initializer, initargs, chunk, title, overwrite)


def _build_locked(out, key, items, convert, card, factors, workers, initializer, initargs, chunk, title, overwrite) -> FactorSet:
    if out.exists():
        if (out / "card.json").exists() and json.loads((out / "card.json").read_text()).get("build_key") == key:
            return FactorSet.open(out)
        if not overwrite:
            raise AtlabError(f"{out} exists and was built from something else; name another folder, or pass overwrite=True")
    work = out.with_name(f".{out.name}.building")
    if not (work / key).exists():
        shutil.rmtree(work, ignore_errors=True)
    (work / key).mkdir(parents=True, exist_ok=True)
    parts = [items[start : start + chunk] for start in range(0, len(items), chunk)]
    names = [work / key / f"{chunk}-{number:07d}.npz" for number in range(len(parts))]
    todo = [(name, part) for name, part in zip(names, parts, strict=True) if not name.exists()]
    with _disk_full_named(out), tqdm(total=len(items), initial=len(items) - sum(len(p) for _, p in todo), desc=title, unit="item") as bar:
        for done in _convert_all(todo, convert, workers, initializer, initargs):
            bar.update(done)
        _assemble(out, names, len(items), {**card, "build_key": key}, factors, overwrite)
    shutil.rmtree(work, ignore_errors=True)
    return FactorSet.open(out)


def _build_key(card: dict, items: Sequence) -> str:
    digest = hashlib.sha256(json.dumps(card, sort_keys=True, default=str).encode())
    for item in items:
        digest.update(repr(item).encode())
    return digest.hexdigest()[:16]


def _convert_all(todo: list, convert: Callable, workers: int | None, initializer: Callable | None, initargs: tuple) -> Iterator[int]:
    """Run the chunks, a few in flight at a time; yields how many items each finished one had."""
    if workers == 0:
        if initializer is not None:
            initializer(*initargs)
        for name, part in todo:
            yield _convert_chunk(name, part, convert)
        return
    workers = max(1, min(workers or os.cpu_count() or 1, len(todo)))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=initializer, initargs=initargs) as pool:
        queue, running = iter(todo), set()
        try:
            while True:
                for name, part in queue:
                    running.add(pool.submit(_convert_chunk, name, part, convert))
                    if len(running) >= 2 * workers:
                        break
                if not running:
                    return
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _convert_chunk(name: Path, items: Sequence, convert: Callable) -> int:
    arrays, rows, dropped, broken = [], [], Counter(), []
    for item in items:
        try:
            result = convert(item)
        except BrokenInput as error:
            broken.append(str(error))
            continue
        except Exception as error:
            error.add_note(f"while converting {item!r}")
            raise
        clips, lost = result if isinstance(result, tuple) else (result, {})
        dropped.update(lost)
        arrays += [clip.array for clip in clips]
        rows += [clip.row for clip in clips]
    shapes = {(a.shape, str(a.dtype)) for a in arrays}
    if len(shapes) > 1:
        raise AtlabError(f"all clips must have one shape and type, the converter made {sorted(shapes, key=str)[:4]}")
    info = json.dumps({"rows": rows, "dropped": dropped, "broken": broken}, default=_plain)
    buffer = io.BytesIO()
    np.savez(buffer, info=np.frombuffer(info.encode(), np.uint8), arrays=np.stack(arrays) if arrays else np.empty(0))
    write_atomic(name, buffer.getvalue())
    return len(items)


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a row holds {value!r} ({type(value).__name__}); strings and numbers are allowed")


def _assemble(out: Path, names: list[Path], items: int, card: dict, factors: list[str], overwrite: bool) -> None:
    """Join the chunks into the final folder, hashing on the way."""
    rows, dropped, broken, shapes = [], Counter(card.get("dropped", {})), [], set()
    for name in names:
        with np.load(name, allow_pickle=False) as part:
            info = json.loads(part["info"].tobytes())
            if info["rows"]:
                shapes.add((part["arrays"].shape[1:], part["arrays"].dtype))
        rows += info["rows"]
        broken += info["broken"]
        dropped.update(info["dropped"])
    for line in broken:
        tqdm.write(f"skipped: {line}")
    if len(broken) > 0.01 * items:
        raise AtlabError(f"{len(broken)} of {items} items are broken, more than 1 %; the first: {'; '.join(broken[:3])}")
    if len(shapes) != 1:
        raise AtlabError(f"all clips must have one shape and type, found {sorted(shapes, key=str)}" if shapes else f"{items} items gave no clip at all")
    (shape, dtype), table = shapes.pop(), pd.DataFrame(rows)
    _check_table(table, factors, dtype)
    if broken:
        dropped["broken"] += len(broken)
    with _replacing(out, overwrite), new_folder(out) as new:
        digest = hashlib.sha256(f"{len(table)} {shape} {dtype}".encode())
        with open(new / "inputs.npy", "wb") as file:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (len(table), *shape)}
            np.lib.format.write_array_header_1_0(file, header)
            for name in names:
                with np.load(name, allow_pickle=False) as part:
                    if part["arrays"].ndim > 1:
                        data = part["arrays"].tobytes()
                        digest.update(data)
                        file.write(data)
        digest.update(table.to_csv(index=False).encode())
        table.to_parquet(new / "factors.parquet", index=False)
        final = {
            "format": FORMAT, "kind": KINDS[dtype], "sample_rate": None, **card, "clips": len(table), "shape": [len(table), *shape],
            "factors": {f: int(table[f].nunique()) for f in factors}, "dropped": dict(sorted(dropped.items())),
            "content_hash": digest.hexdigest(),
        }  # fmt: skip
        (new / "card.json").write_text(json.dumps(final, indent=1, default=str) + "\n")


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


@contextmanager
def _replacing(out: Path, overwrite: bool) -> Iterator[None]:
    """Move an old data set aside, and back if the new one fails."""
    if not (overwrite and out.exists()):
        yield
        return
    aside = out.with_name(f".{out.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(out, aside)
    try:
        yield
    except BaseException:
        os.rename(aside, out)
        raise
    shutil.rmtree(aside)


@contextmanager
def _disk_full_named(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        free = shutil.disk_usage(out.parent).free / 1e9
        raise AtlabError(f"the disk of {out.parent} is full ({free:.2f} GB free); what is done is kept, free some space and run again") from None
