"""The one way data sets are written: items -> clips in parallel, resumable, the same bytes however it ran."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from atlab.data.assemble import assemble, shapes_differ, write_chunk
from atlab.data.factorset import FactorSet
from atlab.errors import AtlabError
from atlab.system.files import locked
from atlab.system.processes import pool as workers_pool


@dataclass
class Clip:
    """An int16 waveform [T] or uint8 image [C, H, W], and its row: id, source, duration in s, factors."""

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
    next to `out`, known by a hash of card, items and factors; memory stays flat.

    Args:
        items: work items whose `repr` says what they are (paths, tuples, dataclasses); any may give many
            clips.
        convert: item -> list of `Clip`, or (list, {reason: clips dropped}); may raise `BrokenInput`.
            Must be importable: it runs in worker processes.
        card: name, licence, citation, recipe, recipe_version, parameters, seed, sample_rate, ...; `dropped`
            if items were left out before.
        factors: columns that can be a task.
        workers: processes; all cores if None. 0 converts in this process, and so does 1 without an
            `initializer`.
        initializer, initargs: called once in every worker process, to load what the converter needs.
        chunk: items that are converted, and after a kill redone, together.
        overwrite: replace an existing `out` that was built from something else.

    Raises:
        AtlabError: more than 1 % of the items broken, no clip at all, clips of different shapes, repeated
            ids, an existing `out` of another build, a full disk or a worker that died (what is done is kept
            for the next try). Other exceptions of the converter propagate, with the item named in a note.

    >>> import tempfile
    >>> def convert(number):
    ...     row = {"id": f"clip{number}", "source": f"{number}.wav", "duration": 0.5}
    ...     return [Clip(np.full(8000, number, np.int16), row | {"parity": ("even", "odd")[number % 2]})]
    >>> out = tempfile.mkdtemp() + "/numbers"
    >>> fs = build(out, range(4), convert, card={"sample_rate": 16000}, factors=["parity"], workers=0)
    >>> fs.read([3, 0]).shape, fs.labels("parity").tolist(), fs.card["factors"]
    ((2, 8000), ['even', 'odd', 'even', 'odd'], {'parity': 2})
    """
    out, key = Path(out), _build_key(card, items, factors)
    work = out.with_name(f".{out.name}.building")
    with locked(out):
        if out.exists() and _key_of(out) == key:
            shutil.rmtree(work, ignore_errors=True)
            return FactorSet.open(out)
        if out.exists() and not overwrite:
            raise AtlabError(
                f"{out} exists and was built from something else; name another folder, or pass overwrite=True"
            )
        chunks = _prepare_chunks(work, key, items, chunk)
        todo = [(name, part) for name, part in chunks if not name.exists()]
        done = len(items) - sum(len(part) for _, part in todo)
        with (
            _failures_named(out, work, len(items)),
            tqdm(total=len(items), initial=done, desc=title, unit="item") as bar,
        ):
            for count in _convert_all(todo, convert, workers, initializer, initargs):
                bar.update(count)
            assemble(out, [name for name, _ in chunks], len(items), {**card, "build_key": key}, list(factors))
        shutil.rmtree(work, ignore_errors=True)
    return FactorSet.open(out)


def _key_of(out: Path) -> str | None:
    """The build that wrote `out`; None if something else did."""
    try:
        return json.loads((out / "card.json").read_text()).get("build_key")
    except (OSError, ValueError):
        return None


def _prepare_chunks(work: Path, key: str, items: Sequence, chunk: int) -> list[tuple[Path, Sequence]]:
    """(file, items) of every chunk; whatever else killed builds left behind is removed."""
    if not (work / key).exists():
        shutil.rmtree(work, ignore_errors=True)
    (work / key).mkdir(parents=True, exist_ok=True)
    name = glob.escape(work.name.removesuffix(".building"))
    for pattern in (f"{name}.new", f".{name}.new.*.tmp", f"{name}.old"):
        for left in work.parent.glob(pattern):
            shutil.rmtree(left)
    starts = range(0, len(items), chunk)
    return [(work / key / f"{chunk}-{start // chunk:07d}.clips", items[start : start + chunk]) for start in starts]


def _build_key(card: dict, items: Sequence, factors: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps([card, list(factors)], sort_keys=True, default=str).encode())
    for item in items:
        digest.update(f"{item!r}\n".encode())
    return digest.hexdigest()[:16]


def _convert_all(
    todo: list, convert: Callable, workers: int | None, initializer: Callable | None, initargs: tuple
) -> Iterator[int]:
    """Run the chunks, a few in flight at a time; yields how many items each finished one had."""
    if workers == 0 or (workers == 1 and initializer is None):
        if initializer is not None:
            initializer(*initargs)
        for name, part in todo:
            yield _convert_chunk(name, part, convert)
        return
    workers = max(1, min(workers or os.cpu_count() or 1, len(todo)))
    with workers_pool(workers, initializer, initargs) as pool:
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
    shapes = {(a.shape, a.dtype) for a in arrays}
    if len(shapes) > 1:
        raise AtlabError(shapes_differ(shapes))
    write_chunk(name, arrays, {"rows": rows, "dropped": dropped, "broken": broken})
    return len(items)


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
            f"the disk of {out.parent} is full: {_need(work, items)}{free / 1e6:,.0f} MB are free; what is "
            "done is kept, "
            "make room and run again"
        ) from None
    except BrokenProcessPool:
        raise AtlabError(
            f"a worker process died while building {out} (out of memory, or a script without "
            "`if __name__ == '__main__':`); what is done is kept, run again with fewer workers"
        ) from None


def _need(work: Path, items: int) -> str:
    """The space a build takes, as chunks and again as the final file, judged by the chunks that are done."""
    done = [path for path in work.glob("*/*.clips") if not path.name.startswith(".")]
    converted = sum(int(path.name.split("-")[0]) for path in done)
    size = sum(path.stat().st_size for path in done)
    return f"{items} items need about {2e-6 * size / converted * items:,.0f} MB in all, " if converted else ""
