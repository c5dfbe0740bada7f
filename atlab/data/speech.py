"""Embedded speech: every word by every speaker in every emotion, rendered by eSpeak NG on this machine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from math import gcd
from multiprocessing.util import Finalize
from pathlib import Path

import numpy as np

from atlab.data.build import Clip, build
from atlab.data.espeak import Engine, Voice, data_folder, is_installed
from atlab.data.factorset import FactorSet
from atlab.errors import AtlabError

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# Prosody of an emotion: rate (words a minute), pitch, pitch range, volume, on eSpeak NG's scales.
EMOTIONS = {
    "neutral": (175, 50, 50, 60),
    "angry": (205, 58, 75, 76),
    "happy": (195, 66, 90, 66),
    "sad": (140, 40, 20, 48),
}
STRENGTH = 1.5  # how far emotions stand from neutral; 1.0 is hard to tell apart
JITTER = (7, 3, 6, 4)  # standard deviation between repetitions, same scales
ACCENTS = ("en-us", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us-nyc")
SAMPLE_RATE, SECONDS = 16_000, 1.0


def synthetic_speech(
    out: str | Path,
    *,
    words: Sequence[str] = DIGITS,
    speakers: int = 24,
    emotions: int = 4,
    repetitions: int = 6,
    seed: int = 0,
    workers: int | None = None,
    overwrite: bool = False,
) -> FactorSet:
    """Render the crossed design words x speakers x emotions x repetitions, one clip of 1 s at 16 kHz each.

    Speakers differ in pitch, vocal-tract length, single formants, accent, tempo, roughness and breath; every other one has a
    low voice.
    Emotions are prosody (rate, pitch, pitch range, volume); repetitions vary it and the onset in the clip. The bytes depend on the arguments only, whatever the number of processes; the defaults give 5,760 clips.

    Factors: word, speaker, emotion, voice ("low", "high"). Raises AtlabError if eSpeak NG is missing
    (`pip install espeakng-loader`) or an argument is out of range.

    >>> import tempfile
    >>> fs = synthetic_speech(tempfile.mkdtemp() + "/speech", words=["yes", "no"], speakers=2, emotions=1, repetitions=1, workers=1)
    >>> fs.factors["id"].tolist()
    ['spk00-neutral-yes-0', 'spk00-neutral-no-0', 'spk01-neutral-yes-0', 'spk01-neutral-no-0']
    """
    if not is_installed():
        raise AtlabError("synthetic speech needs eSpeak NG: pip install espeakng-loader")
    words = tuple(words)
    if not (
        words
        and len(set(words)) == len(words)
        and speakers >= 1
        and 1 <= emotions <= len(EMOTIONS)
        and repetitions >= 1
    ):
        raise AtlabError(
            f"needs distinct words, speakers >= 1, emotions 1 to {len(EMOTIONS)}, repetitions >= 1; found "
            f"words={words}, speakers={speakers}, emotions={emotions}, repetitions={repetitions}"
        )
    card = {
        "name": "synthetic_speech", "licence": "public domain (rendered on this machine by eSpeak NG, GPL-3)", "recipe": "synthetic_speech",
        "recipe_version": 1, "sample_rate": SAMPLE_RATE, "seed": seed,
        "parameters": {"words": words, "speakers": speakers, "emotions": emotions, "repetitions": repetitions},
    }  # fmt: skip
    voices = draw_voices(speakers, seed)
    items = [(speaker, emotion) for speaker in range(speakers) for emotion in list(EMOTIONS)[:emotions]]
    convert = partial(_render, words=words, repetitions=repetitions, seed=seed)
    return build(
        out, items, convert, card=card, factors=["word", "speaker", "emotion", "voice"], workers=workers or None,
        initializer=_start_worker, initargs=(voices,), chunk=4, title="rendering speech", overwrite=overwrite,
    )  # fmt: skip


def draw_voices(count: int, seed: int) -> list[Voice]:
    """Distinct speakers: low and high voices in turn, pitch and vocal-tract length spread evenly in each group."""
    rng = np.random.default_rng([seed, 7])
    lows, highs = -(-count // 2), count // 2
    pitches = np.empty(count)
    lengths = np.empty(count)
    for start, n, (pitch_low, pitch_high), (scale_low, scale_high) in (
        (0, lows, (80, 150), (0.86, 1.02)),
        (1, highs, (160, 260), (1.03, 1.24)),
    ):
        steps = (np.arange(n) + rng.uniform(0.2, 0.8, n)) / max(n, 1)
        pitches[start::2] = pitch_low + (pitch_high - pitch_low) * rng.permutation(steps)
        lengths[start::2] = scale_low + (scale_high - scale_low) * rng.permutation(steps)
    accents = rng.permutation(np.resize(ACCENTS, count))
    voices = []
    for n in range(count):
        frequency = np.clip(100 * lengths[n] * rng.normal(1, 0.04, 9), 75, 140)
        strength, width = rng.uniform(75, 125, 9), rng.uniform(75, 140, 9)
        formants = tuple(
            (round(f), round(s), round(w)) for f, s, w in zip(frequency, strength, width, strict=True)
        )
        voices.append(Voice(
            name=f"spk{n:02d}", accent=str(accents[n]), pitch=(round(pitches[n]), round(pitches[n] * rng.uniform(1.25, 1.6))),
            formants=formants, voicing=round(rng.uniform(85, 115)), consonants=round(rng.uniform(80, 120)), speed=round(rng.uniform(90, 110)),
            roughness=int(rng.integers(0, 5)), breath=int(rng.choice([0, 0, 2, 4])),
        ))  # fmt: skip
    return voices


_worker: dict = {}


def _start_worker(voices: list[Voice]) -> None:
    """Once in each worker process: the engine's data folder with the voices in it."""
    folder = tempfile.mkdtemp(prefix="atlab-espeak-")
    Finalize(None, shutil.rmtree, (folder, True), exitpriority=0)  # worker processes run no atexit
    _worker.update(data=data_folder(folder, voices), voices=voices)


def _render(item: tuple[int, str], words: Sequence[str], repetitions: int, seed: int) -> list[Clip]:
    """All words of one speaker in one emotion, in a fixed order from a fresh engine."""
    speaker, emotion = item
    voice, clips = _worker["voices"][speaker], []
    with Engine(_worker["data"]) as engine:
        for word in words:
            for repetition in range(repetitions):
                rng = np.random.default_rng(
                    [seed, speaker, list(EMOTIONS).index(emotion), repetition, *word.encode()]
                )
                wave = _trim(_resample(engine.say(word, voice, *_prosody(emotion, rng)), engine.sample_rate))
                name = f"{voice.name}-{emotion}-{word}-{repetition}"
                row = {"id": name, "source": name, "duration": len(wave) / SAMPLE_RATE, "word": word, "speaker": voice.name,
                       "emotion": emotion, "voice": ("low", "high")[speaker % 2], "repetition": repetition}  # fmt: skip
                clips.append(Clip(_place(wave, rng), row))
    return clips


def _place(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """At a random place in a clip of 1 s; a longer word is cut."""
    clip = np.zeros(int(SECONDS * SAMPLE_RATE), np.int16)
    wave = wave[: len(clip)]
    onset = rng.integers(0, len(clip) - len(wave) + 1)
    clip[onset : onset + len(wave)] = wave
    return clip


def _prosody(emotion: str, rng: np.random.Generator) -> list[int]:
    neutral, own = np.array(EMOTIONS["neutral"]), np.array(EMOTIONS[emotion])
    return [round(v) for v in neutral + STRENGTH * (own - neutral) + rng.normal(0, JITTER)]


def _resample(wave: np.ndarray, rate: int) -> np.ndarray:
    from scipy.signal import resample_poly

    common = gcd(rate, SAMPLE_RATE)
    resampled = resample_poly(wave.astype(np.float64), SAMPLE_RATE // common, rate // common)
    return np.clip(np.round(resampled), -32768, 32767).astype(np.int16)


def _trim(wave: np.ndarray, threshold: int = 100) -> np.ndarray:
    """Without the silence before and after the word."""
    loud = np.flatnonzero(np.abs(wave.astype(np.int32)) > threshold)
    if not len(loud):
        raise AtlabError("eSpeak NG returned silence for a word")
    return wave[max(0, loud[0] - 80) : loud[-1] + 160]
