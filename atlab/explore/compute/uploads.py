"""Sounds of the user's own, uploaded or recorded in the page: kept as files, heard by networks in place of the other clip of a pair."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np

from atlab.data.noise import active_part
from atlab.errors import AtlabError, unknown
from atlab.explore.compute.data import wav
from atlab.explore.compute.maps import Sample
from atlab.system.files import write_atomic
from atlab.system.home import find, in_home

OWN = "own sound"  # what a pair differs in
FOLDER = "runs/.sounds"  # of the project: hidden, for it is no study
LONGEST = 60.0  # seconds


def kept() -> list[str]:
    """The files of sounds that were uploaded, the latest first."""
    found = sorted(in_home(FOLDER).glob("*.wav"), key=lambda path: -path.stat().st_mtime)
    return [f"{FOLDER}/{path.name}" for path in found]


def keep(name: str, samples: np.ndarray, sample_rate: int) -> str:
    """Write a sound, float32 [T] in -1..1, to a file named after it and its content: -> the file, below the project's folder."""
    if not len(samples) or not np.isfinite(samples).all() or not samples.any():
        raise AtlabError("this sound is silent or broken: choose or record another one")
    if len(samples) > LONGEST * sample_rate:
        raise AtlabError(f"this sound is {len(samples) / sample_rate:.0f} s long: expected {LONGEST:g} s at most")
    content = wav(samples, sample_rate)
    stem = re.sub(r"[^A-Za-z0-9-]+", "-", Path(name).stem).strip("-")[:40] or "sound"
    file = f"{FOLDER}/{stem}-{hashlib.sha256(content).hexdigest()[:8]}.wav"
    in_home(FOLDER).mkdir(parents=True, exist_ok=True)
    write_atomic(in_home(file), content)
    return file


def sample(fs, file: str, like: Sample) -> Sample:
    """A sound that was kept, in place of the clip `like` of a data set: its loudest stretch of that length, at that clip's level.

    AtlabError for any other file: links to a view come from strangers too.
    """
    import soundfile

    if file not in kept():
        raise unknown("sound of your own", file, kept())
    try:
        samples, rate = soundfile.read(find(file), dtype="float64", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise AtlabError(f"cannot read the sound {file!r}: {error}") from None
    if rate != fs.sample_rate:
        raise AtlabError(
            f"the sound {file!r} has {rate} Hz, {fs.card['name']} {fs.sample_rate} Hz: upload it again here"
        )
    wave = loudest(samples.mean(1), len(like.array))
    level, wanted = _level(wave), _level(like.array) or 32768.0
    wave = np.clip(np.round(wave * wanted / level), -32768, 32767).astype(np.int16)
    return Sample(("own", hashlib.sha256(wave.tobytes()).hexdigest()), wave, like.row, Path(file).stem)


def _level(wave: np.ndarray) -> float:
    """Root mean square of a sound without the silence around it, 0 for silence."""
    active = wave[active_part(wave)].astype(float)
    return float(np.sqrt(np.square(active).mean())) if len(active) else 0.0


def loudest(wave: np.ndarray, length: int) -> np.ndarray:
    """The stretch of this length with most energy; a shorter sound stands in the middle of silence.

    >>> loudest(np.array([0.0, 1, 5, 4, 0]), 2).tolist(), loudest(np.array([3.0]), 3).tolist()
    ([5.0, 4.0], [0.0, 3.0, 0.0])
    """
    if len(wave) < length:
        before = (length - len(wave)) // 2
        return np.pad(wave, (before, length - len(wave) - before))
    energy = np.concatenate([[0.0], np.cumsum(np.square(wave))])
    start = int(np.argmax(energy[length:] - energy[:-length]))
    return wave[start : start + length]
