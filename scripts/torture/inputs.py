"""Raw files of every recipe spoiled one at a time: refused, or left out and counted; what else is in the data set does not change."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import signal
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import data_recipes
from atlab.data import FactorSet
from atlab.errors import AtlabError
from tests.recipes import corpora, corpora_images, corpora_music, corpora_named

LONGEST = 60, 600  # seconds of computing, and by the clock; what takes longer counts as a hang
CORPORA: dict[str, Callable[[Path], object]] = {
    "arabic_speech_commands": corpora_named.arabic_speech_commands,
    "audiomnist": corpora_named.audiomnist,
    "cifar10": corpora_images.cifar10,
    "crema_d": corpora_named.crema_d,
    "emodb": corpora_named.emodb,
    "esc50": corpora_named.esc50,
    "folder": lambda root: corpora.speech_commands(root),
    "good_sounds": corpora_music.good_sounds,
    "gsc": corpora.speech_commands,
    "iemocap": lambda root: corpora.iemocap(root),
    "librispeech_words": lambda root: corpora.librispeech(root),
    "mnist": lambda root: corpora_images.idx_set(root),
    "morpho_mnist": lambda root: corpora_images.morpho_mnist(root),
    "ms_snsd": lambda root: corpora.ms_snsd(root),
    "nsynth": lambda root: corpora_music.nsynth(root, {"nsynth-train": 22, "nsynth-valid": 11, "nsynth-test": 11}),
    "ravdess": corpora_named.ravdess,
    "svhn": lambda root: corpora_images.svhn(root, {"train": 30, "test": 12, "extra": 12}),
    "tess": corpora_named.tess,
    "timit": lambda root: corpora.timit(root),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "folder": {"pattern": "{word}/{speaker}_nohash_*.wav", "seconds": 1.0},
    "good_sounds": {"balanced": False},  # which notes are drawn depends on which are there
    "librispeech_words": {"part": "dev-clean"},
    "nsynth": {"per_family": "all"},
    "gsc": {"words": "all"},
    "ms_snsd": {"hours": 0.02},
}
DRAWN = ("ms_snsd",)  # from the noise that is there: without a file of it, other mixtures
GONE = ("named pipe", "directory", "dangling link", "link to itself", "removed")  # where no file is, none is counted


def _sound(subtype: str, rate: int = 16_000, level: float = 0.5) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        wave = level * corpora.sound(1.0)
        soundfile.write(path.with_suffix(".wav"), wave, rate, subtype=subtype)
        os.replace(path.with_suffix(".wav"), path)

    return spoil


def _not_numbers(path: Path) -> None:
    wave = np.full(16_000, np.nan)
    soundfile.write(path.with_suffix(".wav"), wave, 16_000, subtype="FLOAT")
    os.replace(path.with_suffix(".wav"), path)


def _antiphase(path: Path) -> None:
    wave = corpora.sound(1.0)
    soundfile.write(path.with_suffix(".wav"), np.stack([wave, -wave], axis=1), 16_000)
    os.replace(path.with_suffix(".wav"), path)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link(to: str | None) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        path.unlink()
        path.symlink_to(to or path)

    return spoil


def _huge(path: Path) -> None:
    soundfile.write(path.with_suffix(".flac"), corpora.sound(1.0), 16_000)
    os.replace(path.with_suffix(".flac"), path)
    corpora.announcing(path, 2**36 - 1)


SPOILED: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut in its middle": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "cut by a byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "cut in its header": lambda path: path.write_bytes(path.read_bytes()[:20]),
    "other text": lambda path: path.write_text("404: not found\n"),
    "random bytes": lambda path: path.write_bytes(random.Random(0).randbytes(3000)),
    "zeros": lambda path: path.write_bytes(bytes(5000)),
    "latin-1": lambda path: path.write_bytes("é\xff\n".encode("latin-1") * 50),
    "null characters": lambda path: path.write_bytes(b"\0" * 5 + path.read_bytes()),
    "deep JSON": lambda path: path.write_text("[" * 100_000),
    "pickle": lambda path: path.write_bytes(b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x07no text\x94."),
    "NaN": _not_numbers,
    "floats of 16 bits": _sound("FLOAT", level=30_000),
    "a rate of 10^9": _sound("PCM_16", rate=1_000_000_000),
    "antiphase": _antiphase,
    "2^36 samples": _huge,
    "named pipe": _pipe,
    "directory": _directory,
    "dangling link": _link("nowhere"),
    "link to itself": _link(None),
    "removed": lambda path: path.unlink(),
}


def run(count: int) -> int:
    """Spoil `count` files or more, one at a time: -> 0 if each was refused or counted and nothing else changed."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _late)
    signal.signal(signal.SIGPROF, _late)
    found: Counter[str] = Counter()
    each = -(-count // (len(CORPORA) * len(SPOILED)))
    for name, make in CORPORA.items():
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            raw = Path(folder, "raw")
            make(raw)
            clean = _prepared(name, raw, Path(folder, "clean"))
            for path in _victims(raw, each):
                for how, spoil in SPOILED.items():
                    shutil.copytree(raw, Path(folder, "spoiled"))
                    spoil(Path(folder, "spoiled") / path)
                    outcome = _outcome(name, Path(folder), clean, how)
                    found[outcome.partition(":")[0]] += 1
                    if outcome not in ("refused", "counted"):
                        os.write(2, f"{name}, {path}, {how}: {outcome}\n".encode())
                    shutil.rmtree(Path(folder, "spoiled"))
                    for left in Path(folder).glob("*out*"):
                        shutil.rmtree(left) if left.is_dir() else left.unlink()
                    for left in Path(folder).glob(".out*"):
                        shutil.rmtree(left) if left.is_dir() else left.unlink()
    print(f"{sum(found.values())} spoiled files: {', '.join(f'{n} {what}' for what, n in sorted(found.items()))}")
    return int(bool(set(found) - {"refused", "counted"}))


def _late(*_: object) -> None:
    raise TimeoutError("took too long")


def _prepared(name: str, raw: Path, out: Path) -> FactorSet:
    with contextlib.redirect_stderr(io.StringIO()):
        return data_recipes.get(name).prepare(raw, out, workers=0, **OPTIONS.get(name, {}))


def _victims(raw: Path, each: int) -> list[Path]:
    """Files to spoil: of every suffix the first and as many more as it takes."""
    files = [path.relative_to(raw) for path in sorted(raw.rglob("*")) if path.is_file() and path.name[0] != "."]
    by_suffix: dict[str, list[Path]] = {}
    for path in files:
        by_suffix.setdefault(path.suffix, []).append(path)
    rng = random.Random(0)
    return [path for group in by_suffix.values() for path in rng.sample(group, min(each, len(group)))]


def _outcome(name: str, folder: Path, clean: FactorSet, how: str) -> str:
    """What becomes of the spoiled corpus: "refused", "counted", or what is wrong.

    Labels may change where the data set says that the corpus differs from the published one.
    """
    signal.setitimer(signal.ITIMER_PROF, LONGEST[0])
    signal.alarm(LONGEST[1])
    try:
        fs = _prepared(name, folder / "spoiled", folder / "out")
    except AtlabError:
        return "refused"
    except TimeoutError as error:
        return f"hang: {error}"
    except Exception:
        return f"traceback: {traceback.format_exc()}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
    ids = {clip: row for row, clip in enumerate(clean.factors["id"])}
    kept = [row for row, clip in enumerate(fs.factors["id"]) if clip in ids]
    before = [ids[clip] for clip in fs.factors["id"].iloc[kept]]
    said = fs.card.get("published_clips") != clean.card.get("published_clips")
    changed = sum(not np.array_equal(a, b) for a, b in zip(fs.read(kept), clean.read(before), strict=True))
    labels, names = (
        table.iloc[rows][fs.factor_names].to_numpy() for table, rows in ((fs.factors, kept), (clean.factors, before))
    )
    changed += 0 if said else int((labels != names).any(axis=1).sum())
    lost = len(clean) - len(fs)
    counted = sum(fs.card["dropped"].values()) - sum(clean.card["dropped"].values())
    if changed or (len(kept) < len(fs) and not (name in DRAWN and how in GONE)):
        return f"silent change: {changed} of {len(fs)} clips differ, {len(fs) - len(kept)} are new"
    if lost > 0 and not counted and how not in GONE and not said:  # an utterance that is counted has several words
        return f"silent loss: {lost} clips, {counted} counted"
    return "counted"
