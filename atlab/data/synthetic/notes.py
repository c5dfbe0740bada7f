"""Single notes of sampled instruments with controlled faults of playing, in place of Good-Sounds and NSynth.

Instrument x pitch x velocity x goodness. The faults are made where a player makes them (pitch, loudness and
onset vary while the sample is read) and come in the kinds that Good-Sounds (Romani Picas et al. 2015) tags.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atlab.data.synthetic.soundfont import SoundFont, general_midi, general_midi_path
from atlab.errors import AtlabError

if TYPE_CHECKING:
    from atlab.data.build import Clip
    from atlab.data.factorset import FactorSet

SAMPLE_RATE = 16000
SAMPLES = 16000
# Name as in Good-Sounds: (General MIDI program counted from 0, lowest and highest MIDI key of its range).
INSTRUMENTS = {
    "flute": (73, 60, 84),
    "cello": (42, 36, 67),
    "clarinet": (71, 50, 82),
    "trumpet": (56, 54, 82),
    "violin": (40, 55, 88),
    "sax_alto": (65, 49, 77),
    "sax_tenor": (66, 44, 72),
    "sax_baritone": (67, 38, 65),
    "sax_soprano": (64, 56, 84),
    "oboe": (68, 58, 86),
    "piccolo": (72, 74, 98),
    "bass": (43, 28, 55),
}
GOODNESS = ("good-sound", "bad-dynamics", "bad-pitch", "bad-timbre", "bad-attack")
VELOCITIES = (25, 50, 75, 100, 127)  # NSynth's five


def synthetic_notes(
    out: str | Path,
    *,
    instruments: int = 12,
    goodness: int = 5,
    repetitions: int = 60,
    seed: int = 0,
    workers: int | None = None,
) -> FactorSet:
    """Render a FactorSet of notes: int16 [instruments * goodness * repetitions, 16000] at 16 kHz.

    Factors: instrument, goodness, pitch (MIDI key), velocity (one of 25, 50, 75, 100, 127); further columns:
    tag (the fault's kind) and repetition. Pitch and velocity are drawn once per instrument and repetition, so
    the goodness classes are matched note by note and no pitch gives a class away. The first `instruments` of
    INSTRUMENTS and the first `goodness` of GOODNESS are taken. Deterministic whatever the number of workers.

    Raises AtlabError for a number out of range, or if the sound font is not installed.
    """
    from atlab.data.build import build

    for name, value, top in (
        ("instruments", instruments, len(INSTRUMENTS)),
        ("goodness", goodness, len(GOODNESS)),
        ("repetitions", repetitions, 100_000),
    ):
        if not 1 <= value <= top:
            raise AtlabError(f"{name}={value}: allowed are 1 to {top}")
    font = general_midi_path()
    items = [
        (name, grade, repetition)
        for name in list(INSTRUMENTS)[:instruments]
        for grade in GOODNESS[:goodness]
        for repetition in range(repetitions)
    ]
    card = {
        "name": "synthetic_notes",
        "kind": "audio",
        "sample_rate": SAMPLE_RATE,
        "seed": seed,
        "licence": "rendered from TimGM6mb.sf2 (GPL-2), which is used at run time and not part of this set",
        "citation": "TimGM6mb sound font by Tim Brechbill; tags after Romani Picas et al., AES 138, 2015",
        "recipe": "synthetic_notes",
        "recipe_version": 1,
        "parameters": {
            "instruments": instruments,
            "goodness": goodness,
            "repetitions": repetitions,
            "sound_font": font.name,
        },
    }
    return build(
        out,
        items,
        partial(_render, seed=seed),
        card=card,
        workers=workers,
        factors=["instrument", "goodness", "pitch", "velocity"],
    )


def _render(item: tuple[str, str, int], seed: int) -> list[Clip]:
    from atlab.data.build import Clip

    instrument, goodness, repetition = item
    number = list(INSTRUMENTS).index(instrument)
    score = np.random.default_rng([seed, number, repetition])
    pitch, velocity = draw_note(general_midi(), instrument, score)
    rng = np.random.default_rng([seed, number, repetition, 1 + GOODNESS.index(goodness)])
    sound, tag = play(general_midi(), instrument, pitch, velocity, goodness, rng)
    name = f"{instrument}_{goodness}_{repetition:05d}"
    return [
        Clip(
            np.round(sound * 32767).astype(np.int16),
            {
                "id": name,
                "source": name,
                "duration": SAMPLES / SAMPLE_RATE,
                "instrument": instrument,
                "goodness": goodness,
                "pitch": pitch,
                "velocity": velocity,
                "tag": tag,
                "repetition": repetition,
            },
        )
    ]


def draw_note(font: SoundFont, instrument: str, rng: np.random.Generator) -> tuple[int, int]:
    """A MIDI key in the instrument's range that the sound font has a sample for, and a velocity."""
    program, low, high = INSTRUMENTS[instrument]
    velocity = int(rng.choice(VELOCITIES))
    keys = [key for key in range(low, high + 1) if font.regions(program, key, velocity)]
    return int(rng.choice(keys)), velocity


def play(
    font: SoundFont, instrument: str, pitch: int, velocity: int, goodness: str, rng: np.random.Generator
) -> tuple[np.ndarray, str]:
    """One note: float32 [16000] with a peak below 1, and the tag of its fault.

    Good notes waver a little too, so a fault is a matter of degree; its strength is drawn from 0.7 to 1.5.
    The peak follows the velocity (-3 dB at 127, 17 dB less at 0, 1.5 dB of jitter).

    >>> sound, tag = play(general_midi(), "flute", 69, 100, "bad-dynamics", np.random.default_rng(0))
    >>> sound.shape, sound.dtype, tag
    ((16000,), dtype('float32'), 'bad-dynamics-stability')
    """
    time = np.arange(SAMPLES) / SAMPLE_RATE
    onset, rise, held = rng.uniform(0, 0.04), rng.uniform(0.005, 0.03), rng.uniform(0.7, 0.9)
    cents = rng.normal(0, 6) + 3 * wander(rng, 3)
    decibels = 0.5 * wander(rng, 3)
    gain = np.clip((time - onset) / rise, 0, 1)
    strength, breath, shape, tag = rng.uniform(0.7, 1.5), 0.01, None, goodness
    if goodness == "bad-pitch":
        fault, tag = _unsteady_pitch(time, strength, rng)
        cents = cents + fault
    elif goodness == "bad-dynamics":
        decibels = decibels + strength * rng.uniform(3, 6) * wander(rng, rng.uniform(4, 9))
        tag = "bad-dynamics-stability"
    elif goodness == "bad-attack":
        scoop, factor, hiss, tag = _attack(time - onset, strength, rng)
        cents, gain, breath = cents + scoop, gain * factor, breath + hiss
    elif goodness == "bad-timbre":
        shape, hiss, tag = _timbre(440 * 2 ** ((pitch - 69) / 12), strength, rng)
        breath = breath + hiss
    gain = gain * 10 ** (decibels / 20)
    sound = font.note(INSTRUMENTS[instrument][0], pitch, velocity, held=held, cents=cents) * gain
    if shape:
        sound = _rms(sound) * shape(sound / _rms(sound))
    sound = sound + _band(rng.standard_normal(SAMPLES)) * gain * _rms(sound) * breath
    peak = 10 ** ((-3 - 17 * (1 - velocity / 127) + rng.uniform(-1.5, 1.5)) / 20)
    return (sound * peak / np.abs(sound).max()).astype(np.float32), tag


def wander(rng: np.random.Generator, knots_per_second: float) -> np.ndarray:
    """A smooth random course of unit variance, [16000]: straight lines between random knots.

    >>> wander(np.random.default_rng(0), 3.0).shape
    (16000,)
    """
    knots = max(4, int(SAMPLES / SAMPLE_RATE * knots_per_second) + 3)
    course = np.interp(np.linspace(0, knots - 1, SAMPLES), np.arange(knots), rng.standard_normal(knots))
    return course / (course.std() + 1e-6)


def _unsteady_pitch(time: np.ndarray, strength: float, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    if rng.integers(2):
        return strength * rng.uniform(20, 40) * wander(rng, rng.uniform(3, 7)), "bad-pitch-stability"
    drift = rng.choice([-1, 1]) * rng.uniform(40, 90) * np.clip(time - 0.1, 0, 1)
    return strength * (drift + 10 * wander(rng, 3)), "bad-pitch-drift"


def _attack(since: np.ndarray, strength: float, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Cents, gain and added hiss of a spoilt onset; `since` is the time after the onset in s."""
    hiss = 0.25 * strength * np.exp(-np.maximum(since, 0) / rng.uniform(0.02, 0.06))
    kind = rng.integers(3)
    if kind == 0:
        scoop = -strength * rng.uniform(80, 200) * np.exp(-np.maximum(since, 0) / rng.uniform(0.04, 0.1))
        return scoop, np.ones(SAMPLES), hiss, "bad-attack-scoop"
    if kind == 1:
        return (0.0, np.clip(since / (strength * rng.uniform(0.15, 0.3)), 0, 1) ** 1.5, hiss, "bad-attack-smear")
    gap = (since > 0.02) & (since < 0.02 + strength * rng.uniform(0.03, 0.08))
    return 0.0, np.where(gap, 0.1, 1.0), hiss, "bad-attack-crack"


def _timbre(fundamental: float, strength: float, rng: np.random.Generator) -> tuple:
    """A waveshape (or None), added hiss, and the tag: dull, harsh or airy."""
    from scipy.signal import butter, sosfilt

    kind = rng.integers(3)
    if kind == 0:
        low_pass = butter(2, min(fundamental * rng.uniform(1.3, 2.2), 7000), fs=SAMPLE_RATE, output="sos")
        return partial(sosfilt, low_pass), 0.0, "bad-timbre-dull"
    if kind == 1:
        drive = rng.uniform(1.5, 3) * strength
        return lambda sound: np.tanh(drive * sound), 0.0, "bad-timbre-harsh"
    return None, strength * rng.uniform(0.15, 0.4), "bad-timbre-airy"


def _rms(sound: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))) + 1e-9


def _band(noise: np.ndarray) -> np.ndarray:
    from scipy.signal import butter, sosfilt

    return sosfilt(butter(1, [300, 4000], "bandpass", fs=SAMPLE_RATE, output="sos"), noise)
