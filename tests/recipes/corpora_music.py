"""Tiny NSynth and Good-Sounds in the official on-disk layouts, odd cases included; the notes are sines."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import numpy as np
import soundfile

FAMILIES = ("bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "synth_lead", "vocal")
SOURCES = ("acoustic", "electronic", "synthetic")
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
TAGS = (
    "good-sound",
    "bad-dynamics-stability-crescendo",
    "bad-dynamic-stability",
    "bad-pitch-stability-vibrato",
    "bad-timbre",
    "bad-richness-pato",
    "bad-attack",
    "bad-attack bad-pitch-stability",
    "bad-attack bad-timbre",
    "scale-good-sound",
    "scale-bad-pitch",
    "air-outside",
    None,
)


def tone(seconds: float, rate: int, hertz: float = 440.0, peak: float = 0.5) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return peak * np.sin(2 * np.pi * hertz * time)


def write(path: Path, wave: np.ndarray, rate: int, subtype: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, subtype=subtype)


def nsynth(root: Path, notes: dict[str, int], silent: tuple[str, ...] = ()) -> list[str]:
    """Parts of NSynth with `notes[part]` notes, families in turn (note k: family k % 11); returns the names.

    Each part has instruments of its own. The notes in `silent` have a peak of 0.01.
    """
    names = []
    for number, (part, size) in enumerate(notes.items()):
        entries = {}
        for k in range(size):
            family, source = k % 11, k % 3
            instrument = f"{FAMILIES[family]}_{SOURCES[source]}_{number:03d}"
            name = f"{instrument}-{21 + k:03d}-{(25, 50, 75, 100, 127)[k % 5]:03d}"
            entries[name] = {
                "note": 1000 * number + k,
                "note_str": name,
                "instrument": family + 11 * number,
                "instrument_str": instrument,
                "instrument_family": family,
                "instrument_family_str": FAMILIES[family],
                "instrument_source": source,
                "instrument_source_str": SOURCES[source],
                "pitch": 21 + k,
                "velocity": (25, 50, 75, 100, 127)[k % 5],
                "sample_rate": 16000,
                "qualities": [0] * 10,
                "qualities_str": [],
            }
            peak = 0.01 if name in silent else 0.5
            write(root / part / "audio" / f"{name}.wav", tone(4.0, 16000, 110 * 2 ** (k / 12), peak), 16000)
            names.append(name)
        (root / part / "examples.json").write_text(json.dumps(entries), encoding="utf-8")
    return names


def good_sounds(root: Path, seconds: float = 0.25) -> list[dict]:
    """good-sounds/database.sqlite and sound_files: every instrument plays every tag once; returns the sounds.

    Two microphones per sound (one folder each). Odd cases: flute's sounds are flac of 24 bits, its first one
    lasts 7 s; cello's takes are named by pack and microphone only; violin's first file is missing, trumpet's
    first is silent, oboe's first has no take.
    """
    folder = root / "good-sounds"
    folder.mkdir(parents=True)
    connection = sqlite3.connect(folder / "database.sqlite")
    connection.executescript(SCHEMA)
    sounds, take = [], 0
    for pack, instrument in enumerate(INSTRUMENTS, 1):
        pack_name = f"{instrument}_player{pack % 3}_reference"
        connection.execute("INSERT INTO packs VALUES (?, ?, ?)", (pack, pack_name, ""))
        for number, tag in enumerate(TAGS):
            sound = 1 + len(sounds)
            name = f"{number:04d}.{'flac' if instrument == 'flute' else 'wav'}"
            connection.execute(
                "INSERT INTO sounds (id, instrument, note, octave, player, pack_filename, pack_id, klass, "
                "semitone) "
                "VALUES (?, ?, 'A', 4, ?, ?, ?, ?, ?)",
                (sound, instrument, f"player{pack % 3}", f"{number:04d}.wav", pack, tag, 69 if number else None),
            )
            sounds.append({"id": sound, "instrument": instrument, "pack": pack_name, "name": name, "tag": tag})
            if instrument == "oboe" and number == 0:
                continue
            for microphone in ("akg", "neumann"):
                take += 1
                stated = f"sound_files/{pack_name}/{microphone}/{name}"
                connection.execute(
                    "INSERT INTO takes (id, microphone, filename, sound_id) VALUES (?, ?, ?, ?)",
                    (take, microphone, "" if instrument == "cello" else stated, sound),
                )
                if instrument == "violin" and number == 0:
                    continue
                peak = 0.02 if instrument == "trumpet" and number == 0 else 0.5
                length = 7.0 if instrument == "flute" and number == 0 else seconds
                write(
                    folder / stated,
                    tone(length, 48000, 220 + 10 * number, peak),
                    48000,
                    "PCM_24" if instrument == "flute" else None,
                )
    connection.commit()
    connection.close()
    return sounds


SCHEMA = """
CREATE TABLE packs (id INTEGER PRIMARY KEY, name TEXT, description TEXT); CREATE TABLE sounds (id INTEGER
PRIMARY KEY, instrument TEXT, note TEXT, octave INTEGER, dynamics TEXT, recorded_at TEXT, location TEXT,
player TEXT, bow_velocity TEXT, bridge_position TEXT, string TEXT, csv_file TEXT, csv_id INTEGER,
pack_filename TEXT, pack_id INTEGER, attack INTEGER, decay INTEGER, sustain INTEGER, release INTEGER, "offset"
INTEGER, reference INTEGER, klass TEXT, comments TEXT, semitone INTEGER, pitch_reference INTEGER); CREATE
TABLE takes (id INTEGER PRIMARY KEY, microphone TEXT, filename TEXT, original_filename TEXT, freesound_id
INTEGER, sound_id INTEGER, goodsound_id INTEGER); CREATE TABLE ratings (id INTEGER PRIMARY KEY, mark REAL,
type TEXT, created_at TEXT, comments TEXT, sound_id INTEGER, rater TEXT);
"""
