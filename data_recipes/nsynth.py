"""NSynth: 305,979 single notes of 1,006 instruments, 4 s at 16 kHz.

Protocol of the anti-transfer papers: instrument family (11 classes), clips zero-padded to 6 s. The papers
train on 66 hours, which is every family cut to the smallest one (5,501 notes of synth_lead):
per_family="smallest", the default. Clips whose largest absolute sample is not above 0.05 are dropped and
counted. Columns: instrument_family, instrument, pitch (MIDI key), velocity (25, 50, 75, 100, 127),
instrument_source (acoustic, electronic, synthetic), official (train, validation, test; no training instrument
is in the other two).

Access: free download: nsynth-train, nsynth-valid and nsynth-test, each with examples.json and audio/; any of
the three may be missing. The JSON of the training part (200 MB) is held in memory as text, about 0.5 GB in
all.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atlab.data.build import Clip, build
from atlab.errors import AtlabError
from atlab.system.foreign import read_text
from data_recipes import corpus
from data_recipes.audio import fit_length, read_audio, to_int16

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

NAME = "nsynth"
LICENCE = "CC BY 4.0"
CITATION = "J. Engel et al., Neural Audio Synthesis of Musical Notes with WaveNet Autoencoders, ICML 2017"
ACCESS = "free download: nsynth-train, nsynth-valid, nsynth-test (json/wav archives)"
SIZE = "305,979 notes of 4 s, 30 GB"
FACTORS = {
    "instrument_family": "11 families of instruments",
    "instrument": "1,006 instruments",
    "pitch": "MIDI key 0 to 127",
    "velocity": "five MIDI velocities",
    "instrument_source": "acoustic, electronic or synthetic",
}
PUBLISHED = {"train": 289_205, "validation": 12_678, "test": 4_096}
FOLDERS = {"train": "nsynth-train", "validation": "nsynth-valid", "test": "nsynth-test"}
SECONDS = 6.0
KEYS = ("note_str", "instrument_family_str", "instrument_str", "pitch", "velocity", "instrument_source_str")
LARGEST = 1 << 30  # bytes of the list of notes; that of the training part has 2e8


def prepare(
    raw: str | Path,
    out: str | Path,
    *,
    per_family: int | str = "smallest",
    silence: float = corpus.SILENCE,
    seed: int = 0,
    workers: int | None = None,
) -> FactorSet:
    """FactorSet of NSynth, int16 [N, 96000] at 16 kHz.

    per_family: notes drawn at random from each family: a number, "smallest" (as many as the smallest family
    has) or "all"; silence: clips not louder than this fraction of full scale are dropped (0 keeps all but
    zeros). Raises AtlabError if no part is there, for broken JSON and for a note without one of its labels.
    """
    raw = corpus.expect(raw, "NSynth folder")
    if per_family not in ("smallest", "all"):
        per_family = corpus.whole_number("per_family", per_family)
    parts = [part for part, folder in FOLDERS.items() if (raw / folder).is_dir()]
    if not parts:
        raise AtlabError(f"no part of NSynth in {raw}: expected {', '.join(FOLDERS.values())}")
    notes = [(part, *note) for part in parts for note in _examples(raw / FOLDERS[part] / "examples.json")]
    counts = corpus.compare(NAME, Counter(note[0] for note in notes), PUBLISHED)
    items = _choose(notes, per_family, seed)
    card = {
        "name": NAME,
        "kind": "audio",
        "sample_rate": corpus.SAMPLE_RATE,
        "licence": LICENCE,
        "citation": CITATION,
        "recipe": NAME,
        "recipe_version": 1,
        "seed": seed,
        "published_clips": counts,
        "dropped": {"not drawn": len(notes) - len(items)} if len(notes) > len(items) else {},
        "parameters": {"per_family": per_family, "silence": silence},
    }
    return build(
        out,
        items,
        partial(_convert, raw=str(raw), silence=silence),
        card=card,
        factors=list(FACTORS),
        workers=workers,
        title="NSynth",
    )


def _examples(path: Path) -> list[tuple]:
    """The labels of every note, in the order of KEYS, sorted by name."""

    def labels(entry: dict) -> dict | tuple:
        return tuple(entry[key] for key in KEYS) if "note_str" in entry else entry

    try:
        notes = json.loads(
            read_text(corpus.expect(path, "list of notes"), LARGEST), object_hook=labels
        )  # a hook keeps six labels of each note, not its whole dict
    except KeyError as error:
        raise AtlabError(f"{path} has a note without {error}; needed: {', '.join(KEYS)}") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise AtlabError(f"{path} is broken: {error}") from error
    if not isinstance(notes, dict) or not notes or not all(map(_is_note, notes.values())):
        raise AtlabError(f"{path} is no list of NSynth notes: expected {{name: {{note_str: ..., pitch: ...}}}}")
    return sorted(notes.values())


def _is_note(note: object) -> bool:
    """Whether these are a note's labels, whose name is that of a file in the folder of notes."""
    typed = isinstance(note, tuple) and tuple(map(type, note)) == (str, str, str, int, int, str)
    return typed and re.fullmatch(r"[\w-]+", note[0]) is not None


def _choose(notes: list[tuple], per_family: int | str, seed: int) -> list[tuple]:
    """Notes drawn at random within each family, in their former order."""
    if per_family == "all":
        return notes
    families = np.array([note[2] for note in notes])
    names, sizes = np.unique(families, return_counts=True)
    cap = int(sizes.min()) if per_family == "smallest" else per_family
    rng = np.random.default_rng(seed)
    kept = [rng.permutation(np.flatnonzero(families == name))[:cap] for name in names]
    return [notes[n] for n in np.sort(np.concatenate(kept))]


def _convert(item: tuple, raw: str, silence: float) -> tuple[list[Clip], dict[str, int]]:
    part, name, family, instrument, pitch, velocity, source = item
    path = f"{FOLDERS[part]}/audio/{name}.wav"
    wave = read_audio(Path(raw) / path, corpus.SAMPLE_RATE)
    if corpus.is_silent(wave, silence):
        return [], {"silent": 1}
    row = {
        "id": name,
        "source": path,
        "duration": len(wave) / corpus.SAMPLE_RATE,
        "instrument_family": family,
        "instrument": instrument,
        "pitch": int(pitch),
        "velocity": int(velocity),
        "instrument_source": source,
        "official": part,
    }
    return [Clip(to_int16(fit_length(wave, round(SECONDS * corpus.SAMPLE_RATE))), row)], {}
