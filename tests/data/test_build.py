"""One build, the same bytes: whatever the workers, the chunks, the kills; and nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from atlab.data import BrokenInput, Clip, FactorSet, build
from atlab.errors import AtlabError
from atlab.system.hashing import sha256_file

CARD = {"name": "numbers", "sample_rate": 16000, "licence": "public domain", "recipe": "numbers", "seed": 0}
ITEMS = [("even" if n % 2 == 0 else "odd", n) for n in range(40)]


def convert(item: tuple[str, int], pause: float = 0.0) -> tuple[list[Clip], dict[str, int]]:
    """One or two clips an item; every tenth item drops one."""
    parity, number = item
    time.sleep(pause)
    rng = np.random.default_rng(number)
    row = {"source": f"n{number}.wav", "duration": 0.5, "parity": parity, "number": number}
    clips = [
        Clip(rng.integers(-9, 9, 50).astype(np.int16), {"id": f"{number}.{part}", **row})
        for part in range(1 + number % 2)
    ]
    return clips, {"too short": 1} if number % 10 == 0 else {}


def hashes(folder: Path) -> dict[str, str]:
    return {name: sha256_file(folder / name) for name in sorted(os.listdir(folder))}


def siblings(folder: Path) -> set[str]:
    """Files beside `folder`, other than it and the lock that its builds share."""
    return {path.name for path in folder.parent.iterdir()} - {folder.name, f".{folder.name}.lock"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> FactorSet:
    return build(tmp_path_factory.mktemp("plain") / "set", ITEMS, convert, card=CARD, factors=["parity"], workers=1)


def test_content_equals_what_was_converted(plain):
    wanted = [clip for item in ITEMS for clip in convert(item)[0]]
    assert len(plain) == len(wanted) == 60
    np.testing.assert_array_equal(plain.read(range(60)), np.stack([clip.array for clip in wanted]))
    pd.testing.assert_frame_equal(plain.factors, pd.DataFrame([clip.row for clip in wanted]), check_dtype=False)
    card = json.loads((plain.path / "card.json").read_text())
    assert card["dropped"] == {"too short": 4} and card["factors"] == {"parity": 2}
    assert (card["clips"], card["shape"], card["kind"], card["licence"]) == (60, [60, 50], "audio", "public domain")
    assert siblings(plain.path) == set()


@pytest.mark.parametrize(("workers", "chunk"), [(0, 7), (2, 3), (1, 1000)])
def test_workers_and_chunks_do_not_show(plain, tmp_path, workers, chunk):
    build(tmp_path / "set", ITEMS, convert, card=CARD, factors=["parity"], workers=workers, chunk=chunk)
    assert hashes(tmp_path / "set") == hashes(plain.path)


def test_rows_with_further_columns_do_not_depend_on_chunks(tmp_path):
    def uneven(number: int) -> list[Clip]:
        row = {"id": str(number), "source": str(number), "duration": 1.0, "parity": str(number % 2)}
        return [Clip(np.zeros(4, np.int16), row | ({"tag": f"t{number}"} if number > 5 else {}))]

    for chunk in (2, 64):
        build(tmp_path / f"set{chunk}", range(9), uneven, card=CARD, factors=["parity"], workers=0, chunk=chunk)
    assert hashes(tmp_path / "set2") == hashes(tmp_path / "set64")
    assert FactorSet.open(tmp_path / "set2").factors["tag"].isna().sum() == 6


def convert_slowly(item: tuple[str, int], note: str) -> tuple[list[Clip], dict[str, int]]:
    """As `convert`, with a line in the file `note` for every item."""
    with open(note, "a") as file:
        file.write(f"{item}\n")
    return convert(item, pause=0.03)


SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
from test_build import CARD, ITEMS, build, convert_slowly, partial
if __name__ == "__main__":
    convert = partial(convert_slowly, note={note!r})
    build({out!r}, ITEMS, convert, card=CARD, factors=["parity"], workers={workers}, chunk=2)
"""


def start_build(folder: Path, workers: int) -> subprocess.Popen:
    """A build of `folder / "set"` in a process of its own; its conversions are noted in `folder / "note"`."""
    script, root = folder / "build_it.py", Path(__file__).parents[2]
    paths = {"folder": str(Path(__file__).parent), "out": str(folder / "set"), "note": str(folder / "note")}
    script.write_text(SCRIPT.format(workers=workers, **paths))
    return subprocess.Popen(
        [sys.executable, str(script)],
        stderr=subprocess.DEVNULL,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        start_new_session=True,
    )


def wait_for(true, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_build_resumes_to_the_same_bytes(plain, tmp_path, workers):
    out = tmp_path / "set"
    process = start_build(tmp_path, workers)
    assert wait_for(lambda: len(list(tmp_path.glob(".set.building/*/*.clips"))) >= 4)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    assert wait_for(lambda: not _alive(process.pid)), "worker processes outlived the build"
    done = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob(".set.building/*/2-*.clips")}
    assert 4 <= len(done) < 20
    seen = []

    def count(item: tuple[str, int]) -> tuple:
        seen.append(item)
        return convert(item)

    build(out, ITEMS, count, card=CARD, factors=["parity"], workers=0, chunk=2)
    assert len(seen) == len(ITEMS) - 2 * len(done)
    assert hashes(out) == hashes(plain.path)
    assert siblings(out) == {"build_it.py", "note"}


def test_two_processes_that_build_the_same_do_it_once(plain, tmp_path):
    first = start_build(tmp_path, workers=1)
    assert wait_for((tmp_path / "note").exists)
    second = start_build(tmp_path, workers=1)
    assert first.wait(60) == second.wait(60) == 0
    assert sorted((tmp_path / "note").read_text().splitlines()) == sorted(map(str, ITEMS))
    assert hashes(tmp_path / "set") == hashes(plain.path)
    assert siblings(tmp_path / "set") == {"build_it.py", "note"}


def _alive(group: int) -> bool:
    """Whether any process of the group still runs."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            return True
    return False


def test_what_a_kill_leaves_in_the_last_step_is_cleared(plain, tmp_path):
    for left in ("..set.new.1a2b.tmp", ".set.new", ".set.old"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "inputs.npy").write_bytes(b"half")
    build(tmp_path / "set", ITEMS, convert, card=CARD, factors=["parity"], workers=0)
    assert hashes(tmp_path / "set") == hashes(plain.path) and siblings(tmp_path / "set") == set()


@pytest.mark.parametrize("change", [{"card": CARD | {"seed": 1}}, {"items": ITEMS[:-1]}])
def test_chunks_of_another_build_are_not_used(tmp_path, change):
    out, seen = tmp_path / "set", []

    def stop_late(item: tuple[str, int]) -> tuple:
        if len(seen) == 20:
            raise KeyboardInterrupt
        seen.append(item)
        return convert(item)

    with pytest.raises(KeyboardInterrupt):
        build(out, ITEMS, stop_late, card=CARD, factors=["parity"], workers=0, chunk=4)
    assert len(list(tmp_path.glob(".set.building/*/*.clips"))) == 5
    settings = {"card": CARD, "items": ITEMS} | change
    again = []

    def count(item: tuple[str, int]) -> tuple:
        again.append(item)
        return convert(item)

    build(out, settings["items"], count, card=settings["card"], factors=["parity"], workers=0, chunk=4)
    assert again == settings["items"] and siblings(out) == set()


def test_a_finished_build_is_opened_and_another_one_refused(plain, tmp_path):
    def never(item: tuple[str, int]) -> list[Clip]:
        raise AssertionError(item)

    same = build(plain.path, ITEMS, never, card=CARD, factors=["parity"], workers=0)
    assert same.content_hash == plain.content_hash
    other = CARD | {"seed": 7}
    with pytest.raises(AtlabError, match="exists and was built from something else"):
        build(plain.path, ITEMS, convert, card=other, factors=["parity"], workers=0)
    out = tmp_path / "set"
    build(out, ITEMS, convert, card=CARD, factors=["parity"], workers=0)
    replaced = build(out, ITEMS[:4], convert, card=other, factors=["parity"], workers=0, overwrite=True)
    assert len(replaced) == 6 and siblings(out) == set()
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    with pytest.raises(AtlabError, match="mine exists and was built from something else"):
        build(foreign, ITEMS, convert, card=CARD, factors=["parity"], workers=0)
    assert (foreign / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("items", "factors"), [([12, 3], ["parity"]), ([1, 23], ["parity", "number"]), ([1, 23], ["number"])]
)
def test_other_items_or_factors_are_another_build(tmp_path, items, factors):
    """Also where the items read the same one after another: 1, 23 and 12, 3."""

    def of(number: int) -> tuple:
        return convert(("even" if number % 2 == 0 else "odd", number))

    build(tmp_path / "set", [1, 23], of, card=CARD, factors=["parity"], workers=0)
    with pytest.raises(AtlabError, match="was built from something else"):
        build(tmp_path / "set", items, of, card=CARD, factors=factors, workers=0)


def test_an_overwrite_whose_last_step_fails_puts_the_old_set_back(tmp_path, monkeypatch):
    out, rename = tmp_path / "set", os.rename
    build(out, ITEMS, convert, card=CARD, factors=["parity"], workers=0)
    before = hashes(out)

    def fail_at_last(old: Path, new: Path) -> None:
        if (old, new) == (tmp_path / ".set.new", out):
            raise PermissionError(errno.EACCES, "Permission denied")
        rename(old, new)

    monkeypatch.setattr(os, "rename", fail_at_last)
    again = partial(build, out, ITEMS[:4], convert, card=CARD, factors=["parity"], workers=0, overwrite=True)
    with pytest.raises(PermissionError):
        again()
    assert hashes(out) == before
    monkeypatch.undo()
    assert len(again()) == 6 and siblings(out) == set()


def test_a_failed_overwrite_keeps_the_old_set(tmp_path):
    out = tmp_path / "set"
    build(out, ITEMS, convert, card=CARD, factors=["parity"], workers=0)
    before = hashes(out)
    with pytest.raises(ZeroDivisionError):
        build(out, ITEMS, lambda item: 1 // 0, card=CARD | {"seed": 2}, factors=["parity"], workers=0, overwrite=True)
    assert hashes(out) == before


def test_what_a_recipe_left_out_before_is_counted_too(tmp_path):
    card = CARD | {"dropped": {"no label": 7, "too short": 1}}
    fs = build(tmp_path / "set", ITEMS, convert, card=card, factors=["parity"], workers=0)
    assert fs.card["dropped"] == {"no label": 7, "too short": 5}


def break_some(number: int, broken: tuple[int, ...] = ()) -> list[Clip]:
    if number in broken:
        raise BrokenInput(f"{number}.wav: truncated")
    return [
        Clip(
            np.zeros(4, np.int16),
            {"id": str(number), "source": str(number), "duration": 1.0, "parity": str(number % 2)},
        )
    ]


def test_broken_items_are_skipped_with_a_line_and_counted(tmp_path, capsys):
    fs = build(
        tmp_path / "set", range(200), partial(break_some, broken=(3, 77)), card=CARD, factors=["parity"], workers=1
    )
    assert len(fs) == 198 and fs.card["dropped"] == {"broken": 2}
    text = "".join(capsys.readouterr())
    assert "skipped: 3.wav: truncated" in text and "skipped: 77.wav: truncated" in text


def test_more_than_one_percent_broken_fails_and_repaired_files_are_read_again(tmp_path):
    out = tmp_path / "set"
    with pytest.raises(
        AtlabError, match=r"3 of 200 items are broken, more than 1 %; the first: 3.wav: truncated; 77.wav"
    ):
        build(out, range(200), partial(break_some, broken=(3, 77, 199)), card=CARD, factors=["parity"], workers=0)
    assert not out.exists()
    fs = build(out, range(200), break_some, card=CARD, factors=["parity"], workers=0)
    assert len(fs) == 200 and fs.card["dropped"] == {}


def divide(number: int) -> list[Clip]:
    return [Clip(np.full(4, 12 // (number - 30), np.int16), {})]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bug_of_the_converter_passes_with_its_item_named(tmp_path, workers):
    with pytest.raises(ZeroDivisionError) as caught:
        build(tmp_path / "set", range(30, 40), divide, card=CARD, factors=["parity"], workers=workers)
    assert "while converting 30" in "".join(caught.value.__notes__)
    assert not (tmp_path / "set").exists()


def die(number: int) -> list[Clip]:
    if number == 33:
        os._exit(9)
    return break_some(number)


def test_a_dead_worker_is_named(tmp_path):
    with pytest.raises(AtlabError, match="a worker process died while building .*set .*run again with fewer workers"):
        build(tmp_path / "set", range(40), die, card=CARD, factors=["parity"], workers=2, chunk=2)


def test_a_full_disk_keeps_what_is_done(tmp_path, monkeypatch):
    module, out, written = sys.modules["atlab.data.assemble"], tmp_path / "set", []
    write = module.write_atomic

    def full_after_three(path: Path, data: bytes) -> Path:
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        return write(path, data)

    monkeypatch.setattr(module, "write_atomic", full_after_three)
    message = r"the disk of .* is full: 40 items need about [\d,]+ MB in all, [\d,]+ MB are free"
    with pytest.raises(AtlabError, match=message):
        build(out, ITEMS, convert, card=CARD, factors=["parity"], workers=0, chunk=4)
    monkeypatch.undo()
    assert not out.exists() and len(list(tmp_path.glob(".set.building/*/*.clips"))) == 3
    seen = []
    build(
        out,
        ITEMS,
        lambda item: (seen.append(item), convert(item))[1],
        card=CARD,
        factors=["parity"],
        workers=0,
        chunk=4,
    )
    assert len(seen) == len(ITEMS) - 12


def test_a_disk_that_fills_while_the_chunks_are_joined(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("numpy.lib.format.write_array_header_1_0", full)
    with pytest.raises(AtlabError, match="is full"):
        build(tmp_path / "set", ITEMS, convert, card=CARD, factors=["parity"], workers=0)
    assert siblings(tmp_path / "set") == {".set.building"}


def test_other_system_errors_pass(tmp_path):
    def denied(item: tuple[str, int]) -> list[Clip]:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(PermissionError):
        build(tmp_path / "set", ITEMS, denied, card=CARD, factors=["parity"], workers=0)


def one(row: dict | None = None, array: np.ndarray | None = None):
    def make(number: int) -> list[Clip]:
        full = {"id": str(number), "source": "a", "duration": 1.0, "parity": "odd"} | (row or {})
        shown = np.zeros(4, np.int16) if array is None else array
        return [Clip(shown, {k: v for k, v in full.items() if v is not ...})]

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (one({"parity": ...}), r"rows lack the columns \['parity'\]; they have \['id', 'source', 'duration'\]"),
        (one({"source": ...}), r"rows lack the columns \['source'\]"),
        (one({"id": "same"}), r"clip ids must be unique; repeated: \['same'"),
        (one({"parity": float("nan")}), r"factors without a value in some rows: \['parity'\]"),
        (one({"parity": None}), r"factors without a value in some rows: \['parity'\]"),
        (one(array=np.zeros(4, np.float32)), "int16 waveforms or uint8 images, found float32"),
        (lambda number: [], "3 items gave no clip at all"),
        (lambda number: ([], {"silent": 1}), r"3 items gave no clip at all; left out: \{'silent': 3\}"),
        (
            lambda number: one(array=np.zeros(4 + number, np.int16))(number),
            r"one shape and type, the converter made \(4,\) int16, \(5,\) int16",
        ),
    ],
)
@pytest.mark.parametrize("chunk", [1, 64])
def test_unusable_clips_are_refused(tmp_path, make, message, chunk):
    with pytest.raises(AtlabError, match=message):
        build(tmp_path / "set", range(3), make, card=CARD, factors=["parity"], workers=0, chunk=chunk)
    assert not (tmp_path / "set").exists()


def test_a_value_that_is_no_string_or_number_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"a row holds .*strings and numbers are allowed"):
        build(tmp_path / "set", range(3), one({"parity": object()}), card=CARD, factors=["parity"], workers=0)


def test_memory_does_not_grow_with_the_number_of_clips(tmp_path):
    """Peak of the joining step for 20 MB of inputs stays near one chunk of them."""
    import tracemalloc

    def second(number: int) -> list[Clip]:
        row = {"id": str(number), "source": str(number), "duration": 1.0, "parity": str(number % 2)}
        return [Clip(np.full(16000, number, np.int16), row)]

    tracemalloc.start()
    build(tmp_path / "set", range(640), second, card=CARD, factors=["parity"], workers=0, chunk=16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e6
