"""Synthetic notes: single notes of 12 sampled instruments with controlled faults; needs no raw data.

A stand-in for Good-Sounds and NSynth: instrument x goodness (good-sound, bad-dynamics, bad-pitch, bad-timbre,
bad-attack) at matched pitches and velocities, 1 s at 16 kHz, deterministic (atlab.data.synthetic.notes). Hold
instruments out with splits.disjoint(fs, "instrument").

Access: rendered from TimGM6mb.sf2, the sound font that the package pretty_midi installs (GPL-2, used at run
time).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from atlab.data.synthetic.notes import synthetic_notes
from data_recipes.corpus import refuse_raw

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

NAME = "synthetic_notes"
LICENCE = "rendered from TimGM6mb.sf2 (GPL-2)"
CITATION = "TimGM6mb sound font by Tim Brechbill; tags after Romani Picas et al., AES 138, 2015"
ACCESS = "rendered here, no raw data; needs pretty_midi 0.2.11, which ships the sound font"
SIZE = "3,600 notes of 1 s, 115 MB"
FACTORS = {
    "instrument": "12 instruments of Good-Sounds",
    "goodness": "well played, or one of four faults",
    "pitch": "MIDI key",
    "velocity": "five MIDI velocities",
}
CROSSED = ("instrument", "goodness")
STANDS_IN_FOR = ("good_sounds", "nsynth")


def prepare(
    raw: str | Path | None,
    out: str | Path,
    *,
    instruments: int = 12,
    goodness: int = 5,
    repetitions: int = 60,
    seed: int = 0,
    workers: int | None = None,
) -> FactorSet:
    """Render the notes. AtlabError if `raw` is given, for a number out of range, or without the sound font."""
    refuse_raw(NAME, raw)
    return synthetic_notes(
        out, instruments=instruments, goodness=goodness, repetitions=repetitions, seed=seed, workers=workers
    )
