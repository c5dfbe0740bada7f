"""What the recipes of corpora with labels in their file names share: files by pattern, clips of one length."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from atlab.data.build import Clip, build
from atlab.errors import AtlabError
from data_recipes.audio import fit_length, read_audio, to_int16
from data_recipes.corpus import SAMPLE_RATE, compare, files_below, number, segment_starts

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

SUFFIXES = (".wav", ".flac", ".ogg")
SILENT = 0.001  # a recording without a louder sample (-60 dB of full scale) holds no sound
QUIET = 0.1  # a clip without a sample of a tenth (-20 dB) of its recording's largest one holds no sound

Labels = dict[str, str | int]


class Sound(NamedTuple):
    """A sound file below the raw folder: its path, its identity, the recording it is from, its label columns."""

    path: str
    id: str
    source: str
    labels: Labels


def find_sounds(
    root: Path, pattern: str, labels: Callable[[re.Match], Labels | str], example: str
) -> tuple[list[Sound], Counter]:
    """Sound files anywhere below `root` whose path ends as `pattern` says, and how many were left out, by reason.

    Args:
        pattern: regular expression of the end of the path without the suffix, from a slash on; its groups
            together are the identity, and of two files with one identity the first by path is taken.
        labels: match -> label columns (`source` among them if it is not the identity), or the reason to leave
            the file out.
        example: a path as it should be, for the error.

    Raises AtlabError where no file has such a name.

    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> for name in ("ann_go.wav", "ann_stop.wav", "noise.wav"):
    ...     (root / name).touch()
    >>> sounds, dropped = find_sounds(root, r"([a-z]+)_([a-z]+)", lambda m: {"speaker": m[1], "word": m[2]}, "ann_go.wav")
    >>> sounds[0].id, sounds[0].labels, dict(dropped)
    ('ann-go', {'speaker': 'ann', 'word': 'go'}, {'name of another form': 1})
    """
    expression = re.compile(rf"(?:.*/)?{pattern}")
    found, dropped = {}, Counter()
    paths = [path for path in files_below(root) if path.suffix.lower() in SUFFIXES]
    for path in sorted(path.relative_to(root).as_posix() for path in paths):
        match = expression.fullmatch(path.rpartition(".")[0])
        told = labels(match) if match else "name of another form"
        identity = "-".join(match.groups()) if match else ""
        if isinstance(told, str):
            dropped[told] += 1
        elif identity in found:
            dropped["second copy of a recording"] += 1
        else:
            found[identity] = Sound(path, identity, str(told.pop("source", identity)), told)
    if not found:
        raise AtlabError(f"no recording such as {example} in {root} ({len(paths)} sound files with other names)")
    return list(found.values()), dropped


def build_sounds(
    recipe: ModuleType,
    out: str | Path,
    root: Path,
    sounds: Sequence[Sound],
    dropped: Counter,
    published: dict[str, int],
    *,
    seconds: float,
    segments: bool = False,
    workers: int | None = None,
) -> FactorSet:
    """FactorSet of clips of `seconds` at 16 kHz, int16 [N, 16000 * seconds], with the recipe's factors.

    Args:
        published: what the corpus should hold: "recordings", different values of a column ("speaker"), recordings
            with one of them ("emotion sad").
        seconds: clip length; a shorter recording is zero-padded at its end.
        segments: False keeps the beginning of a longer recording, True cuts all of it into clips without
            overlap that share their source; a remainder under half a clip is dropped.

    Dropped and counted are recordings without a sample above -60 dB of full scale, and clips without one
    within 20 dB of their recording's largest. Raises AtlabError for options out of range.
    """
    samples = round(number("seconds", seconds, 0.1, 60) * SAMPLE_RATE)
    if not isinstance(segments, bool):
        raise AtlabError(f"segments is {segments!r}; allowed: true, false")
    card = {
        "name": recipe.NAME,
        "kind": "audio",
        "licence": recipe.LICENCE,
        "citation": recipe.CITATION,
        "recipe": recipe.NAME,
        "recipe_version": 1,
        "seed": 0,
        "sample_rate": SAMPLE_RATE,
        "published_clips": compare(recipe.NAME, _counts(sounds), published),
        "dropped": dict(sorted(dropped.items())),
        "parameters": {"seconds": samples / SAMPLE_RATE, "segments": segments},
    }
    convert = partial(_convert, root=str(root), samples=samples, segments=segments)
    factors = list(recipe.FACTORS)
    return build(out, sounds, convert, card=card, factors=factors, workers=workers, title=recipe.NAME)


def _counts(sounds: Sequence[Sound]) -> Counter:
    columns = sounds[0].labels
    counts = Counter(f"{column} {sound.labels[column]}" for sound in sounds for column in columns)
    counts.update({column: len({sound.labels[column] for sound in sounds}) for column in columns})
    return counts + Counter({"recordings": len(sounds)})


def _convert(sound: Sound, root: str, samples: int, segments: bool) -> tuple[list[Clip], Counter]:
    wave = read_audio(Path(root) / sound.path, SAMPLE_RATE)
    peak = np.abs(wave).max()
    if peak <= SILENT:
        return [], Counter({"recording without sound": 1})
    starts = segment_starts(len(wave), samples, samples) if segments else [0]
    clips, dropped = [], Counter()
    if not segments and len(wave) > samples:
        dropped[f"end beyond {samples / SAMPLE_RATE:g} s (clip kept)"] += 1
    for k, start in enumerate(starts):
        part = wave[start : start + samples]
        if start and 2 * len(part) < samples:
            dropped["remainder under half a clip"] += 1
        elif np.abs(part).max() < QUIET * peak:
            dropped["clip without sound"] += 1
        else:
            name = f"{sound.id}-{k}" if segments else sound.id
            row = {"id": name, "source": sound.source, "duration": len(part) / SAMPLE_RATE, **sound.labels}
            clips.append(Clip(to_int16(fit_length(part, samples)), row))
    return clips, dropped
