"""Bring your own: a folder of sound files or of pictures, with labels from a CSV or from the paths.

- labels="factors.csv": a table with the column `file` (path below `raw`) and a column per factor. A column
  `source` names the recording that several clips were cut from: splits keep them together.
- pattern="{speaker}/{word}_*.wav": a placeholder takes as few characters as it can, never a slash; * any
  characters but a slash, ? one of them. A placeholder {source} works like the column.

Sound is mixed to one channel, resampled to `sample_rate` and zero-padded or cut to `seconds`; pictures are
scaled and cropped to `size` x `size`. Files without labels, labels without a file or with an empty cell, and
files of another kind (.mp3) are left out and counted, a broken file is skipped with one line. Splits: atlab.data.splits.random, disjoint(fs,
by="speaker") ...

Access: your own data. `raw` is a folder, or a .zip or .tar(.gz, .bz2, .xz) of one.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from atlab.data.build import Clip, build
from atlab.errors import AtlabError, unknown
from data_recipes.audio import LONGEST, RATES, fit_length, read_audio, to_int16
from data_recipes.corpus import files_below, number, whole_number
from data_recipes.images import SUFFIXES, header, is_image, raw_folder, read_image

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

NAME = "folder"
LICENCE = "that of your data"
CITATION = "your own data"
ACCESS = "your own folder of sound files or pictures and a CSV of factors, or labels in the paths"
SIZE = "any"
FACTORS = {"(yours)": "every column of the CSV, or every placeholder of the pattern"}
SOUNDS = frozenset({".wav", ".flac", ".ogg", ".aiff", ".aif", ".sph"})
NOTES = frozenset({"", ".csv", ".txt", ".md", ".json", ".pdf"})  # what lies next to recordings and is none
RESERVED = ("id", "duration")


class Labelled(NamedTuple):
    """A file below the raw folder, its source and its labels in the order of the factors."""

    path: str
    source: str
    labels: tuple[str, ...]


def prepare(
    raw: str | Path,
    out: str | Path,
    *,
    labels: str | Path | None = None,
    pattern: str | None = None,
    factors: Sequence[str] | str | None = None,
    seconds: float | None = None,
    sample_rate: int = 16_000,
    size: int | None = None,
    name: str = NAME,
    workers: int | None = None,
) -> FactorSet:
    """FactorSet of int16 [N, seconds * sample_rate] or uint8 [N, channels, size, size].

    labels: CSV, by its path or its path below `raw` (default: factors.csv there, if no pattern is given);
    pattern: see above; factors: columns to keep as factors (default: all); seconds: clip length (default: the
    longest file); size: side of the pictures (default: that of the pictures, if they agree); three channels
    unless all are grey.

    Raises AtlabError if labels and pattern are both given or both missing, for a missing file, column or
    match, a file listed twice, a path outside `raw`, or sounds and pictures at once.
    """
    with raw_folder(raw, out) as root:
        present, unread = _files(root)
        if pattern is not None and labels is None:
            names, found, dropped = _by_pattern(present, pattern, factors)
        elif pattern is None:
            names, found, dropped = _by_table(root, present, labels, factors)
        else:
            raise AtlabError("labels and pattern are both given: allowed is one of them")
        dropped += unread
        sounding = _one_kind(found)
        card = {
            "name": name,
            "licence": LICENCE,
            "citation": CITATION,
            "recipe": NAME,
            "recipe_version": 1,
            "seed": 0,
            "dropped": {reason: number for reason, number in dropped.items() if number},
            "parameters": {"labels": labels and str(labels), "pattern": pattern},
        }
        if sounding:
            sample_rate = whole_number("sample_rate", number("sample_rate", sample_rate, *RATES))
            samples = _samples(root, found, seconds, sample_rate)
            convert = partial(_sound, root=str(root), names=names, samples=samples, sample_rate=sample_rate)
            card |= {"kind": "audio", "sample_rate": sample_rate}
            card["parameters"]["seconds"] = samples / sample_rate
        else:
            shape = _shape(root, found, size)
            convert = partial(_picture, root=str(root), names=names, shape=shape)
            card |= {"kind": "image", "sample_rate": None}
            card["parameters"]["size"] = list(shape)
        return build(out, found, convert, card=card, factors=names, workers=workers, title=name)


def compile_pattern(pattern: str) -> re.Pattern:
    """The regular expression of a path pattern; AtlabError if it has no placeholder or a misshapen one.

    >>> compile_pattern("{speaker}/{word}_*.wav").fullmatch("ann/go_1.wav").groupdict()
    {'speaker': 'ann', 'word': 'go'}
    """
    expression, seen = "", set()
    for piece in re.split(r"(\{[^{}]*\}|\*|\?)", unicodedata.normalize("NFC", pattern)):
        if piece.startswith("{") and piece.endswith("}"):
            name = piece[1:-1]
            if not name.isidentifier() or name in RESERVED:
                raise AtlabError(
                    f"pattern {pattern!r} has the placeholder {piece!r}; allowed: a name such as "
                    f"{{speaker}}, but not {', '.join(RESERVED)}"
                )
            expression += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+?)"
            seen.add(name)
        else:
            expression += {"*": "[^/]*", "?": "[^/]"}.get(piece) or re.escape(piece)
    if not seen - {"source"}:
        raise AtlabError(f"pattern {pattern!r} names no factor; write one in braces, e.g. {{speaker}}/{{word}}_*.wav")
    return re.compile(expression)


def _files(root: Path) -> tuple[dict[str, str], Counter]:
    """Sound files and pictures below the folder: path in composed characters (NFC) -> path as on disk; others by suffix."""
    found, unread = {}, Counter()
    for path in files_below(root):
        relative, suffix = path.relative_to(root).as_posix(), path.suffix.lower()
        if suffix in SOUNDS | SUFFIXES:
            found[unicodedata.normalize("NFC", relative)] = relative
        elif suffix not in NOTES:
            unread[f"file of another kind ({suffix})"] += 1
    if not found:
        others = "".join(f", but {count} times a {kind}" for kind, count in unread.items())
        raise AtlabError(f"no sound file or picture in {root}{others}; allowed: {', '.join(sorted(SOUNDS | SUFFIXES))}")
    return found, unread


def _by_pattern(
    present: dict[str, str], pattern: str, factors: Sequence[str] | str | None
) -> tuple[list[str], list[Labelled], Counter]:
    expression = compile_pattern(pattern)
    names = _wanted([name for name in expression.groupindex if name != "source"], factors)
    found = []
    for shown, path in present.items():
        if match := expression.fullmatch(shown):
            found.append(Labelled(path, match.groupdict().get("source", path), tuple(match[name] for name in names)))
    if not found:
        raise AtlabError(f"pattern {pattern!r} matches none of {len(present)} files, e.g. {next(iter(present))!r}")
    return names, found, Counter({"pattern does not match": len(present) - len(found)})


def _by_table(
    root: Path, present: dict[str, str], labels: str | Path | None, factors: Sequence[str] | str | None
) -> tuple[list[str], list[Labelled], Counter]:
    path, table = _read_table(root, labels)
    names = [column for column in table.columns if column not in ("file", "source", *RESERVED)]
    if not names:
        raise AtlabError(f"{path} has no column of factors besides {', '.join(table.columns)}")
    names = _wanted(names, factors)
    found, dropped, seen = [], Counter(), {}
    for line, row in enumerate(table.to_dict("records"), 2):
        shown = unicodedata.normalize("NFC", row["file"].strip().replace("\\", "/"))
        if shown.startswith("/") or ".." in Path(shown).parts:
            raise AtlabError(f"{path}, line {line}: {row['file']!r} is not a path below {root}")
        shown = Path(shown).as_posix()
        if shown in seen:
            raise AtlabError(f"{path} lists {shown!r} twice, in lines {seen[shown]} and {line}")
        seen[shown] = line
        empty = next((name for name in names if not row[name].strip()), None)
        if shown not in present:
            dropped["row without file"] += 1
        elif empty:
            dropped[f"no {empty}"] += 1
        else:
            source = row.get("source", "").strip() or present[shown]
            found.append(Labelled(present[shown], source, tuple(row[name].strip() for name in names)))
    dropped["file without row"] = len(set(present) - set(seen))
    if not found:
        raise AtlabError(f"{path} labels none of {len(present)} files in {root}: {dict(dropped)}")
    return names, sorted(found), dropped


def _read_table(root: Path, labels: str | Path | None) -> tuple[Path, pd.DataFrame]:
    if labels is None and not (root / "factors.csv").is_file():
        raise AtlabError(
            f"no labels for {root}: give labels (a CSV with the column file) or a pattern such as "
            "{speaker}/{word}_*.wav, or put factors.csv there"
        )
    path = next((p for p in (root / (labels or "factors.csv"), Path(labels or "")) if p.is_file()), None)
    if path is None:
        raise AtlabError(f"no table of labels at {labels}, nor below {root}")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise AtlabError(f"{path} is no CSV in UTF-8: {error}") from error
    table.columns = [str(column).strip() for column in table.columns]
    if "file" not in table:
        raise unknown(f"column of {path}", "file", table.columns)
    return path, table


def _wanted(names: list[str], factors: Sequence[str] | str | None) -> list[str]:
    """The factors asked for, all by default; AtlabError for one that is not there."""
    if factors is None:
        return names
    wanted = [name.strip() for name in factors.split(",")] if isinstance(factors, str) else list(factors)
    for name in wanted:
        if name not in names:
            raise unknown("factor", name, names)
    return wanted


def _one_kind(found: list[Labelled]) -> bool:
    """Whether the files are sounds; AtlabError if they are sounds and pictures."""
    pictures = [item.path for item in found if is_image(Path(item.path))]
    if 0 < len(pictures) < len(found):
        sound = next(item.path for item in found if item.path not in pictures)
        raise AtlabError(f"sounds and pictures at once, e.g. {sound!r} and {pictures[0]!r}: allowed is one kind")
    return not pictures


def _samples(root: Path, found: list[Labelled], seconds: float | None, sample_rate: int) -> int:
    """Samples of a clip: of `seconds`, or of the longest file by its header."""
    if seconds is None:
        import soundfile

        longest = 0.0
        for item in found:
            try:
                info = soundfile.info(root / item.path)
            except (soundfile.LibsndfileError, RuntimeError):  # counted as broken when it is read
                continue
            if info.frames * info.channels <= LONGEST and RATES[0] <= info.samplerate <= RATES[1]:
                longest = max(longest, info.duration)
        return max(1, int(np.ceil(longest * sample_rate)))
    if not 0 < float(seconds) <= 3600:
        raise AtlabError(f"seconds is {seconds!r}; allowed: above 0, up to 3600")
    return max(1, round(float(seconds) * sample_rate))


def _shape(root: Path, found: list[Labelled], size: int | None) -> tuple[int, int, int]:
    """Channels, height and width of all pictures; AtlabError if they differ and no size is given."""
    headers = {item.path: head for item in found if (head := header(root / item.path))}
    channels = 1 if headers and all(grey for _, grey in headers.values()) else 3
    if size is not None:
        size = whole_number("size", size)
        return channels, size, size
    sizes = {wide: path for path, (wide, _) in headers.items()}
    if len(sizes) != 1:
        examples = ", ".join(f"{path!r} has {w} x {h}" for (w, h), path in list(sizes.items())[:2]) or "none readable"
        raise AtlabError(f"the pictures differ in size ({examples}): give size, e.g. size=64")
    ((width, height),) = sizes
    return channels, height, width


def _sound(item: Labelled, root: str, names: list[str], samples: int, sample_rate: int) -> list[Clip]:
    wave = read_audio(Path(root) / item.path, sample_rate)
    row = {
        "id": item.path,
        "source": item.source,
        "duration": len(wave) / sample_rate,
        **dict(zip(names, item.labels, strict=False)),
    }
    return [Clip(to_int16(fit_length(wave, samples)), row)]


def _picture(item: Labelled, root: str, names: list[str], shape: tuple[int, int, int]) -> list[Clip]:
    channels, height, width = shape
    image = read_image(Path(root) / item.path, height if height == width else None, channels)
    row = {"id": item.path, "source": item.source, "duration": 0.0, **dict(zip(names, item.labels, strict=False))}
    return [Clip(image, row)]
