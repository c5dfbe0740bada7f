"""Good-Sounds: single notes of 12 instruments, well and badly played on purpose, 48 kHz.

Protocol of the anti-transfer papers: sound goodness in five classes out of the free tags of `sounds.klass`,
the classes balanced at random, one microphone of each sound, clips zero-padded (or cut) to 6 s at 16 kHz.

- good-sound; bad-dynamics; bad-pitch; bad-timbre (with bad-richness); bad-attack. "bad-dynamic-stability"
  (without s) counts as bad-dynamics; the published code misses it.
- A sound with several tags is left out, except where bad-pitch is among them, which is rare: it counts as
  bad-pitch.
- Scales, other tags and clips not louder than 0.05 are left out. Everything left out is counted in the card.

Columns: goodness, instrument, player, pack (recording session), microphone, tag (klass as it stands),
semitone (MIDI key, -1 where not given), official. Splits: "random", and "official" with 8 instruments to train, 2 to
validate and 2 to test (where all 12 are there).

Access: free download (Zenodo 820937): database.sqlite and sound_files/<pack>/<microphone>/*.wav or .flac. The
database is opened read-only.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from atlab.data.build import Clip, build
from atlab.errors import AtlabError, unknown
from data_recipes import corpus
from data_recipes.audio import fit_length, read_audio, to_int16

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

NAME = "good_sounds"
LICENCE = "Creative Commons, see the Zenodo record"
CITATION = "O. Romani Picas et al., A Real-Time System for Measuring Sound Goodness ..., AES 138, 2015"
ACCESS = "free download (Zenodo 820937): good-sounds.zip"
SIZE = "about 16,000 recordings, 14 GB"
FACTORS = {
    "goodness": "well played, or bad dynamics, pitch, timbre or attack",
    "instrument": "12 instruments",
    "player": "the musician",
}
GOODNESS = ("good-sound", "bad-dynamics", "bad-pitch", "bad-timbre", "bad-attack")
INSTRUMENTS = (
    "flute",
    "cello",
    "clarinet",
    "trumpet",
    "violin",
    "sax_alto",
    "sax_tenor",
    "sax_baritone",
    "sax_soprano",
    "oboe",
    "piccolo",
    "bass",
)
TAGS = {
    "good-sound": "good-sound",
    "bad-dynamic": "bad-dynamics",
    "bad-pitch": "bad-pitch",
    "bad-timbre": "bad-timbre",
    "bad-richness": "bad-timbre",
    "bad-attack": "bad-attack",
}  # by beginning
COLUMNS = {  # what is read of each table, and the types that SQLite may hand out there
    "sounds": {
        "id": int,
        "instrument": str,
        "player": str | None,
        "klass": str | None,
        "pack_filename": str | None,
        "pack_id": int | None,
        "semitone": int | None,
    },
    "takes": {"id": int, "microphone": str | None, "filename": str | None, "sound_id": int | None},
    "packs": {"id": int, "name": str | None},
}
SECONDS = 6.0


class Take(NamedTuple):
    """One recording of one sound."""

    path: str
    sound: int
    goodness: str
    instrument: str
    player: str
    pack: str
    microphone: str
    tag: str
    semitone: int


def prepare(
    raw: str | Path,
    out: str | Path,
    *,
    balanced: bool = True,
    microphone: str = "one",
    silence: float = corpus.SILENCE,
    seed: int = 0,
    workers: int | None = None,
) -> FactorSet:
    """FactorSet of Good-Sounds, int16 [N, 96000] at 16 kHz.

    balanced: every goodness class is cut, at random, to the size of the smallest; microphone: "one" take of
    each sound (the first microphone by name), "all" takes (those of one sound share their source, so no split
    parts them) or the name of a microphone. Raises AtlabError if database, table, column or sound files are
    missing.
    """
    raw = corpus.expect(raw, "Good-Sounds folder")
    raw = raw / "good-sounds" if (raw / "good-sounds").is_dir() else raw
    tables = _tables(corpus.expect_file(raw / "database.sqlite", "database of Good-Sounds"))
    corpus.expect(raw / "sound_files", "sound files of Good-Sounds")
    takes, dropped = _takes(raw, tables, microphone)
    if balanced:
        takes = _balance(takes, seed, dropped)
    found = Counter(take.instrument for take in takes)
    absent = [name for name in INSTRUMENTS if name not in found]
    print(
        f"{NAME}: {len(tables['sounds']):,} sounds, {len(tables['takes']):,} takes, "
        f"{len(found)} of 12 instruments" + (f"; missing: {', '.join(absent)}" if absent else ""),
        flush=True,
    )
    card = {
        "name": NAME,
        "kind": "audio",
        "sample_rate": corpus.SAMPLE_RATE,
        "licence": LICENCE,
        "citation": CITATION,
        "recipe": NAME,
        "recipe_version": 2,
        "seed": seed,
        "dropped": {k: n for k, n in dropped.items() if n},
        "published_clips": {"found": {"instruments": len(found)}, "published": {"instruments": 12}},
        "parameters": {"balanced": balanced, "microphone": microphone, "silence": silence},
    }
    return build(
        out,
        takes,
        partial(_convert, raw=str(raw), silence=silence, official=official_parts(found)),
        card=card,
        factors=list(FACTORS),
        workers=workers,
        title="Good-Sounds",
    )


def goodness(klass: str | None) -> str | None:
    """The goodness class of a sound's tags; None if it has none of the five, more than one, or is a scale.

    >>> goodness("bad-dynamic-stability"), goodness("bad-richness-pato"), goodness("bad-attack bad-pitch")
    ('bad-dynamics', 'bad-timbre', 'bad-pitch')
    >>> goodness("scale-good-sound"), goodness("bad-attack bad-timbre"), goodness(None)
    (None, None, None)
    """
    tags = (klass or "").split()
    if any("scale" in tag for tag in tags):
        return None
    if any(tag.startswith("bad-pitch") for tag in tags):
        return "bad-pitch"
    if len(tags) != 1 or tags[0].count("bad") > 1:
        return None
    return next((name for beginning, name in TAGS.items() if tags[0].startswith(beginning)), None)


def official_parts(instruments: Iterable[str], seed: int = 0) -> dict[str, str]:
    """Part of every instrument: 8 drawn for training, 2 for validation, 2 for testing, as in the papers; {} for fewer than 12.

    Which ones the papers drew is not known.

    >>> sorted(official_parts(map(str, range(12))).values())
    ['test', 'test', 'train', 'train', 'train', 'train', 'train', 'train', 'train', 'train', 'validation', 'validation']
    """
    names = sorted(set(instruments))
    if len(names) < 12:
        return {}
    order = [names[n] for n in np.random.default_rng(seed).permutation(len(names))]
    held = dict.fromkeys(order[-4:-2], "validation") | dict.fromkeys(order[-2:], "test")
    return {name: held.get(name, "train") for name in names}


def _tables(path: Path) -> dict[str, list[dict]]:
    """The needed columns of the three tables, as rows sorted by id."""
    tables = {}
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
    connection.set_authorizer(_only_tables)
    try:
        for table, needed in COLUMNS.items():
            present = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            if not present:
                names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
                raise unknown(f"table of {path}", table, names)
            for column in needed:
                if column not in present:
                    raise unknown(f"column of the table {table} in {path}", column, present)
            rows = connection.execute(f"SELECT {', '.join(needed)} FROM {table} ORDER BY id")
            tables[table] = [_typed(path, table, dict(zip(needed, row, strict=True))) for row in rows]
    except sqlite3.DatabaseError as error:
        raise AtlabError(f"{path} is no readable sqlite database: {error}") from error
    finally:
        connection.close()
    return tables


def _only_tables(action: int, table: str, column: str, base: str, view: str | None) -> int:
    """Let columns of tables be read and nothing else: a view or a function can take for ever."""
    allowed = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_PRAGMA)
    return sqlite3.SQLITE_OK if action in allowed and view is None else sqlite3.SQLITE_DENY


def _typed(path: Path, table: str, row: dict) -> dict:
    """The row; AtlabError for a value of another type, which SQLite takes in any column."""
    for column, value in row.items():
        if not isinstance(value, COLUMNS[table][column]):
            raise AtlabError(
                f"{path}: {value!r:.80} is in the column {column} of {table}; expected {COLUMNS[table][column]}"
            )
    return row


def _takes(raw: Path, tables: dict[str, list[dict]], microphone: str) -> tuple[list[Take], Counter]:
    """The takes of usable sounds, and what was left out."""
    packs = {row["id"]: str(row["name"]) for row in tables["packs"]}
    by_sound: dict[int, list[dict]] = {}
    for take in tables["takes"]:
        by_sound.setdefault(take["sound_id"], []).append(take)
    names = sorted({str(take["microphone"]) for take in tables["takes"]})
    if microphone not in ("one", "all", *names):
        raise unknown("microphone", microphone, ["one", "all", *names])
    takes, dropped = [], Counter()
    for sound in tables["sounds"]:
        grade = goodness(sound["klass"])
        if grade is None:
            dropped["scale" if "scale" in (sound["klass"] or "") else "other or several tags"] += 1
            continue
        recorded = [
            take
            for take in sorted(by_sound.get(sound["id"], []), key=lambda t: (str(t["microphone"]), t["id"]))
            if microphone in ("one", "all", str(take["microphone"]))
        ]
        if not recorded:
            dropped["sound without take"] += 1
        pack = packs.get(sound["pack_id"], "")
        for take in recorded[: None if microphone == "all" else 1]:
            path = _locate(raw, take, pack, sound["pack_filename"])
            if path is None:
                dropped["no sound file"] += 1
                continue
            semitone = sound["semitone"]
            takes.append(
                Take(
                    path,
                    sound["id"],
                    grade,
                    str(sound["instrument"]),
                    str(sound["player"] or "unknown"),
                    pack,
                    str(take["microphone"]),
                    sound["klass"],
                    -1 if semitone is None else int(semitone),
                )
            )
    if not takes:
        raise AtlabError(f"no usable recording in {raw}: left out {dict(dropped)}")
    return takes, dropped


def _locate(raw: Path, take: dict, pack: str, pack_filename: str | None) -> str | None:
    """The take's file below `raw`: as the database has it or by pack and microphone, .wav or .flac."""
    stated = str(take["filename"] or "").replace("\\", "/")
    names = [
        "sound_files/" + stated.split("sound_files/")[-1].lstrip("/"),
        f"sound_files/{pack}/{take['microphone']}/{pack_filename or Path(stated).name}",
    ]
    for name in names:
        for suffix in (Path(name).suffix, ".wav", ".flac"):
            path = raw / Path(name).with_suffix(suffix or ".wav")
            if path.is_file() and path.resolve().is_relative_to(raw.resolve()):
                return path.relative_to(raw).as_posix()
    return None


def _balance(takes: list[Take], seed: int, dropped: Counter) -> list[Take]:
    """As many takes of every class as the smallest has, drawn at random by sound; the rest is counted."""
    sounds: dict[str, list[int]] = {grade: [] for grade in GOODNESS}
    for take in takes:
        if take.sound not in sounds[take.goodness][-1:]:
            sounds[take.goodness].append(take.sound)
    present = {grade: ids for grade, ids in sounds.items() if ids}
    smallest = min(map(len, present.values()))
    rng = np.random.default_rng(seed)
    kept = {ids[n] for ids in present.values() for n in rng.permutation(len(ids))[:smallest]}
    chosen = [take for take in takes if take.sound in kept]
    dropped["left out for balance"] += len(takes) - len(chosen)
    return chosen


def _convert(take: Take, raw: str, silence: float, official: dict[str, str]) -> tuple[list[Clip], dict[str, int]]:
    wave = read_audio(Path(raw) / take.path, corpus.SAMPLE_RATE)
    if corpus.is_silent(wave, silence):
        return [], {"silent": 1}
    row = {
        "id": take.path,
        "source": f"sound {take.sound}",
        "duration": len(wave) / corpus.SAMPLE_RATE,
        "goodness": take.goodness,
        "instrument": take.instrument,
        "player": take.player,
        "pack": take.pack,
        "microphone": take.microphone,
        "tag": take.tag,
        "semitone": take.semitone,
    } | ({"official": official[take.instrument]} if official else {})
    return [Clip(to_int16(fit_length(wave, round(SECONDS * corpus.SAMPLE_RATE))), row)], {}
