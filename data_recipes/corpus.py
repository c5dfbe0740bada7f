"""What the recipes of spoken corpora share: expected paths, published counts, segments, noise excerpts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from atlab.data.build import BrokenInput
from atlab.errors import AtlabError
from data_recipes.audio import RATES, missing_bytes, read_audio, resample

SAMPLE_RATE = 16_000
MOST_FILES = 10_000_000
SILENCE = 0.05  # the anti-transfer papers drop clips whose largest absolute sample is not above this


def expect(path: str | Path, what: str) -> Path:
    """`path` if it is a file or a folder; AtlabError naming it and what it should hold otherwise."""
    path = Path(path)
    if not path.exists():
        raise AtlabError(f"{what} not found: expected {path}")
    if not (path.is_file() or path.is_dir()):  # a named pipe would wait for ever
        raise AtlabError(f"{what} is neither a file nor a folder: {path}")
    return path


def refuse_raw(name: str, raw: str | Path | None) -> None:
    """AtlabError if a folder of raw files is given for a set that is rendered here."""
    if raw is not None:
        raise AtlabError(f"{name} is rendered here and takes no raw folder, got {raw}")


def expect_file(path: str | Path, what: str) -> Path:
    """`path` if it is a file; AtlabError naming it otherwise."""
    path = expect(path, what)
    if not path.is_file():
        raise AtlabError(f"{what} is not a file: {path}")
    return path


def expect_folder(path: str | Path, what: str) -> Path:
    """`path` if it is a folder; AtlabError naming it otherwise."""
    path = expect(path, what)
    if not path.is_dir():
        raise AtlabError(f"{what} is not a folder: {path}")
    return path


def sounds(folder: Path, *suffixes: str) -> list[Path]:
    """Sound files directly in a folder, sorted; the `._` twins that macOS archives carry are left out."""
    suffixes = suffixes or (".wav", ".flac")
    found = (p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith("._"))
    return sorted(p for p in found if p.is_file())


def files_below(root: Path) -> list[Path]:
    """Regular files below a folder, sorted, hidden ones and macOS's twins left out.

    Links to folders are followed, each folder once, so that a link to a folder above ends. AtlabError for more than
    10 million files.
    """
    found, seen = [], set()
    for place, folders, names in os.walk(root, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        found += [path for name in names if not name.startswith(".") and (path := Path(place, name)).is_file()]
        if len(found) > MOST_FILES:
            raise AtlabError(f"{root} holds more than {MOST_FILES:,} files: name the folder of one data set")
    return sorted(found)


def whole_number(name: str, value: object, least: int = 1) -> int:
    """An option as an integer of at least `least`; AtlabError otherwise."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = least - 1
    if number < least or (isinstance(value, float) and value != number):
        raise AtlabError(f"{name} is {value!r}; allowed: a whole number of at least {least}")
    return number


def number(name: str, value: object, least: float, most: float) -> float:
    """An option as a float within bounds; AtlabError otherwise."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = float("nan")
    if not least <= found <= most:
        raise AtlabError(f"{name} is {value!r}; allowed: {least:g} to {most:g}")
    return found


def compare(name: str, found: Mapping[str, int], published: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Print one line saying where the corpus on disk differs from its published counts; returns both counts.

    >>> compare("gsc", {"zero": 2, "files": 9}, {"zero": 3, "files": 9})["found"]
    gsc: differs from the published corpus: zero 2 instead of 3
    {'zero': 2, 'files': 9}
    """
    wrong = [
        f"{key} {found.get(key, 0):,} instead of {number:,}"
        for key, number in published.items()
        if found.get(key, 0) != number
    ]
    shown = ", ".join(wrong[:6]) + (f" and {len(wrong) - 6} more" if len(wrong) > 6 else "")
    print(
        f"{name}: differs from the published corpus: {shown}" if wrong else f"{name}: all published counts found",
        flush=True,
    )
    return {"found": {key: int(found.get(key, 0)) for key in published}, "published": dict(published)}


def segment_starts(samples: int, length: int, hop: int) -> list[int]:
    """Starts of segments that cover a sound; the last one reaches beyond its end and is zero-padded.

    >>> segment_starts(9, 4, 2), segment_starts(8, 4, 2), segment_starts(3, 4, 2)
    ([0, 2, 4, 6], [0, 2, 4], [0])
    """
    return list(range(0, max(samples - length, 0) + hop, hop)) if samples > length else [0]


def is_silent(wave: np.ndarray, threshold: float) -> bool:
    """The papers' silence rule: no sample louder than the threshold (fraction of full scale)."""
    return bool(np.abs(wave).max(initial=0.0) <= threshold)


def noise_type(path: str | Path) -> str:
    """Noise type of a file: its name without the running number.

    >>> noise_type("noise_train/ShuttingDoor_10.wav")
    'ShuttingDoor'
    """
    return re.sub(r"[_\d]+$", "", Path(path).stem)


def noise_files(folder: Path) -> dict[str, list[Path]]:
    """Sound files of a noise folder by type; AtlabError where there is none."""
    kinds: dict[str, list[Path]] = {}
    for path in sounds(expect_folder(folder, "noise folder")):
        kinds.setdefault(noise_type(path), []).append(path)
    if not kinds:
        raise AtlabError(f"no noise recording (.wav, .flac) in {folder}")
    return kinds


def noise_excerpt(path: Path, samples: int, rng: np.random.Generator) -> np.ndarray | None:
    """A random stretch of a noise recording (repeated where it is shorter), float32 [samples] at 16 kHz.

    Only the stretch is read: recordings last minutes. Doors and chairs are silent most of the time and an SNR
    to silence is undefined: of ten random stretches the first above -60 dBFS RMS is taken, else the one
    around the loudest sample; None for a recording of zeros. Raises BrokenInput for a file that cannot be
    decoded.
    """
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            if not RATES[0] <= file.samplerate <= RATES[1]:
                raise BrokenInput(f"{path}: names a rate of {file.samplerate} Hz")
            if missing := missing_bytes(path, file):
                raise BrokenInput(f"{path}: truncated, {missing} bytes are missing")
            needed = -(-samples * file.samplerate // SAMPLE_RATE)
            for _ in range(10 if file.frames > needed else 0):
                file.seek(int(rng.integers(file.frames - needed + 1)))
                stretch = file.read(needed, dtype="float32", always_2d=True).mean(axis=1)
                if len(stretch) == needed and rms(stretch) > 1e-3:
                    return resample(stretch, file.samplerate, SAMPLE_RATE)[:samples]
    except (OSError, RuntimeError) as error:  # soundfile's own errors are RuntimeErrors
        raise BrokenInput(f"{path}: {error}") from None
    whole = read_audio(path, SAMPLE_RATE)
    if len(whole) < samples:
        stretch = np.resize(np.roll(whole, -int(rng.integers(len(whole)))), samples)
    else:
        start = min(max(int(np.abs(whole).argmax()) - samples // 2, 0), len(whole) - samples)
        stretch = whole[start : start + samples]
    return stretch if np.any(stretch) else None


def rms(wave: np.ndarray) -> float:
    """Root mean square of a wave, computed in float64."""
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


def at_level(wave: np.ndarray, dbfs: float = -25.0) -> np.ndarray:
    """The wave scaled to an RMS level in dB of full scale (the level of both signals in MS-SNSD's mixer).

    >>> round(float(np.sqrt(np.mean(at_level(np.ones(8), -20.0) ** 2))), 6)
    0.1
    """
    return wave * (10 ** (dbfs / 20) / rms(wave))


def within_full_scale(wave: np.ndarray) -> np.ndarray:
    """The wave, scaled down as a whole (which keeps the SNR) where a sample would clip."""
    peak = float(np.abs(wave).max(initial=0.0))
    return wave / peak if peak > 1.0 else wave
