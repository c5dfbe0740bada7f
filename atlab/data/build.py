"""The one way data sets are written: items -> clips in parallel, resumable, the same bytes however it ran."""

from __future__ import annotations

import errno
import glob
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from atlab.data.factorset import FORMAT, FactorSet
from atlab.errors import AtlabError
from atlab.files import locked, new_folder, write_atomic

if TYPE_CHECKING:  # worker processes do without pandas, which takes a second to import
    import pandas as pd

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
        workers: processes; all cores if None. 0 converts in this process, and so does 1 without an `initializer`.
        initializer, initargs: called once in every worker process, to load what the converter needs.
        chunk: items that are converted, and after a kill redone, together.
        overwrite: replace an existing `out` that was built from something else.

    Raises:
        AtlabError: more than 1 % of the items broken, no clip at all, clips of different shapes, repeated ids, an
            existing `out` of another build, a full disk or a worker that died (what is done is kept for the next
            try). Any other exception of the converter passes, with the item named in a note.

    >>> import tempfile
    >>> def convert(number):
    ...     row = {"id": f"clip{number}", "source": f"{number}.wav", "duration": 0.5, "parity": ("even", "odd")[number % 2]}
    ...     return [Clip(np.full(8000, number, np.int16), row)]
    >>> fs = build(tempfile.mkdtemp() + "/numbers", range(4), convert, card={"sample_rate": 16000}, factors=["parity"], workers=0)
    >>> fs.read([3, 0]).shape, fs.labels("parity").tolist(), fs.card["factors"]
    ((2, 8000), ['even', 'odd', 'even', 'odd'], {'parity': 2})
    """
    out, key = Path(out), _build_key(card, items)
    work = out.with_name(f".{out.name}.building")
    with locked(out):
        if out.exists() and _key_of(out) == key:
            shutil.rmtree(work, ignore_errors=True)
            return FactorSet.open(out)
        if out.exists() and not overwrite:
            raise AtlabError(f"{out} exists and was built from something else; name another folder, or pass overwrite=True")
        chunks = _prepare_chunks(work, key, items, chunk)
        todo = [(name, part) for name, part in chunks if not name.exists()]
        done = len(items) - sum(len(part) for _, part in todo)
        with _failures_named(out, work, len(items)), tqdm(total=len(items), initial=done, desc=title, unit="item") as bar:
            for count in _convert_all(todo, convert, workers, initializer, initargs):
                bar.update(count)
            _assemble(out, [name for name, _ in chunks], len(items), {**card, "build_key": key}, list(factors))
        shutil.rmtree(work, ignore_errors=True)
    return FactorSet.open(out)


def _key_of(out: Path) -> str | None:
    """The build that wrote `out`; None if something else did."""
    try:
        return json.loads((out / "card.json").read_text()).get("build_key")
    except (OSError, ValueError):
        return None


def _prepare_chunks(work: Path, key: str, items: Sequence, chunk: int) -> list[tuple[Path, Sequence]]:
    """(file, items) of every chunk; what killed builds left beside, other than chunks of this build, is removed."""
    if not (work / key).exists():
        shutil.rmtree(work, ignore_errors=True)
    (work / key).mkdir(parents=True, exist_ok=True)
    name = glob.escape(work.name.removesuffix(".building"))
    for pattern in (f"{name}.new", f".{name}.new.*.tmp", f"{name}.old"):
        for left in work.parent.glob(pattern):
            shutil.rmtree(left)
    starts = range(0, len(items), chunk)
    return [(work / key / f"{chunk}-{start // chunk:07d}.npz", items[start : start + chunk]) for start in starts]


def _build_key(card: dict, items: Sequence) -> str:
    digest = hashlib.sha256(json.dumps(card, sort_keys=True, default=str).encode())
    for item in items:
        digest.update(repr(item).encode())
    return digest.hexdigest()[:16]


def _convert_all(todo: list, convert: Callable, workers: int | None, initializer: Callable | None, initargs: tuple) -> Iterator[int]:
    """Run the chunks, a few in flight at a time; yields how many items each finished one had."""
    if workers == 0 or (workers == 1 and initializer is None):
        if initializer is not None:
            initializer(*initargs)
        for name, part in todo:
            yield _convert_chunk(name, part, convert)
        return
    workers = max(1, min(workers or os.cpu_count() or 1, len(todo)))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(initializer, initargs)) as pool:
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


def _start_worker(initializer: Callable | None, initargs: tuple) -> None:
    """In a new worker: end it when its parent is gone, for a killed parent cannot; then the caller's preparations."""
    parent = multiprocessing.parent_process().sentinel

    def watch() -> None:
        connection.wait([parent])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if initializer is not None:
        initializer(*initargs)


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
    shapes = {(a.shape, a.dtype) for a in arrays}
    if len(shapes) > 1:
        raise AtlabError(_shapes_differ(shapes))
    info = json.dumps({"rows": rows, "dropped": dropped, "broken": broken}, default=_plain)
    buffer = io.BytesIO()
    np.savez(buffer, info=np.frombuffer(info.encode(), np.uint8), arrays=np.stack(arrays) if arrays else np.empty(0))
    write_atomic(name, buffer.getvalue())
    return len(items)


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a row holds {value!r} ({type(value).__name__}); strings and numbers are allowed")


def _assemble(out: Path, names: list[Path], items: int, card: dict, factors: list[str]) -> None:
    """Join the chunks into the final folder, hashing on the way; one chunk of inputs is in memory at a time."""
    table, dropped, broken, shapes = _read_rows(names)
    dropped.update(card.get("dropped", {}))  # what a recipe left out before the build
    for line in broken:
        tqdm.write(f"skipped: {line}")
    if len(broken) > 0.01 * items:
        _forget_broken(names)
        raise AtlabError(f"{len(broken)} of {items} items are broken, more than 1 %; the first: {'; '.join(broken[:3])}")
    if len(shapes) != 1:
        raise AtlabError(_shapes_differ(shapes) if shapes else f"{items} items gave no clip at all; left out: {dict(dropped)}")
    (shape, dtype) = shapes.pop()
    _check_table(table, factors, dtype)
    if broken:
        dropped["broken"] += len(broken)
    new = out.with_name(f".{out.name}.new")
    with new_folder(new) as folder:
        digest = hashlib.sha256(f"{len(table)} {shape} {dtype}".encode())
        _write_inputs(folder / "inputs.npy", names, (len(table), *shape), dtype, digest)
        digest.update(table.to_csv(index=False).encode())
        table.to_parquet(folder / "factors.parquet", index=False)
        final = {
            "format": FORMAT, "kind": KINDS[dtype], "sample_rate": None, **card, "clips": len(table), "shape": [len(table), *shape],
            "factors": {f: int(table[f].nunique()) for f in factors}, "dropped": dict(sorted(dropped.items())),
            "content_hash": digest.hexdigest(),
        }  # fmt: skip
        (folder / "card.json").write_text(json.dumps(final, indent=1, default=str) + "\n")
    _take_place(new, out)


def _read_rows(names: list[Path]) -> tuple[pd.DataFrame, Counter, list[str], set]:
    """Table of all rows, drops by reason, lines on broken items, shapes of the chunks' clips."""
    import pandas as pd

    columns, count, dropped, broken, shapes = {}, 0, Counter(), [], set()
    for name in names:
        with np.load(name, allow_pickle=False) as part:
            info = json.loads(part["info"].tobytes())
            if info["rows"]:
                shapes.add((part["arrays"].shape[1:], part["arrays"].dtype))
        for row in info["rows"]:
            for column in row:
                if column not in columns:
                    columns[column] = [None] * count
            for column, values in columns.items():
                value = row.get(column)
                values.append(sys.intern(value) if isinstance(value, str) else value)
            count += 1
        broken += info["broken"]
        dropped.update(info["dropped"])
    return pd.DataFrame(columns), dropped, broken, shapes


def _forget_broken(names: list[Path]) -> None:
    """Remove the chunks with broken items, so that repaired files are read when the build is tried again."""
    for name in names:
        with np.load(name, allow_pickle=False) as part:
            broken = json.loads(part["info"].tobytes())["broken"]
        if broken:
            name.unlink()


def _write_inputs(path: Path, names: list[Path], shape: tuple[int, ...], dtype: np.dtype, digest: hashlib._Hash) -> None:
    with open(path, "wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for name in names:
            with np.load(name, allow_pickle=False) as part:
                data = part["arrays"].tobytes() if part["arrays"].ndim > 1 else b""
            digest.update(data)
            file.write(data)


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


def _shapes_differ(shapes: set) -> str:
    shown = ", ".join(f"{tuple(shape)} {dtype}" for shape, dtype in sorted(shapes, key=str)[:4])
    return f"all clips must have one shape and type, the converter made {shown}"


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
def _failures_named(out: Path, work: Path, items: int) -> Iterator[None]:
    """Turn a full disk and a dead worker into errors that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        free = shutil.disk_usage(out.parent).free
        raise AtlabError(
            f"the disk of {out.parent} is full: {_need(work, items)}{free / 1e6:,.0f} MB are free; what is done is kept, "
            "make room and run again"
        ) from None
    except BrokenProcessPool:
        raise AtlabError(
            f"a worker process died while building {out} (out of memory, or a script without `if __name__ == '__main__':`); "
            "what is done is kept, run again with fewer workers"
        ) from None


def _need(work: Path, items: int) -> str:
    """How much the whole build takes, judged by the chunks that are done: as chunks and again as the final file."""
    done = [path for path in work.glob("*/*.npz") if path.suffix == ".npz" and not path.name.startswith(".")]
    converted = sum(int(path.name.split("-")[0]) for path in done)
    size = sum(path.stat().st_size for path in done)
    return f"{items} items need about {2 * size / converted * items / 1e6:,.0f} MB in all, " if converted else ""
