"""Embedded speech: every word by every speaker in every emotion, rendered by eSpeak NG on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from math import gcd
from multiprocessing.util import Finalize
from pathlib import Path
from typing import NamedTuple

import numpy as np

from atlab.data.build import Clip, build
from atlab.data.factorset import FactorSet
from atlab.data.synthetic.espeak import Engine, Voice, data_folder, installed_version
from atlab.errors import AtlabError
from atlab.system.files import scratch

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
    words: Sequence[str] | str = DIGITS,
    speakers: int = 24,
    emotions: int = 4,
    repetitions: int = 6,
    seed: int = 0,
    workers: int | None = None,
    overwrite: bool = False,
    name: str = "synthetic_speech",
    prefix: str = "spk",
) -> FactorSet:
    """Render the crossed design words x speakers x emotions x repetitions: int16 clips of 1 s at 16 kHz.

    Speakers differ in pitch, vocal-tract length, single formants, accent, tempo, roughness and breath;
    every other one has a low voice. Emotions are prosody (rate, pitch, pitch range, volume); repetitions
    vary it, and the onset in the clip. The defaults give 5,760 clips. The bytes depend on the arguments
    and the version of the engine only, not on the number of processes: each speaker in each emotion is
    rendered by a freshly loaded engine.

    Factors: word, speaker, emotion, voice ("low", "high"); further column: repetition. Each clip is a
    source of its own. Words beyond 1 s are cut; their `duration` says so.

    Args:
        words: what is said, in English; a text is split at its commas.
        emotions: how many of neutral, angry, happy, sad, from the first on.
        workers: processes; all cores if None. At least one, for this process never loads eSpeak NG (GPL-3).
        overwrite: replace an `out` that was rendered from other arguments.
        name, prefix: of the set and of its speakers (spk00, spk01 ...).

    Raises: AtlabError: eSpeak NG is missing (`pip install espeakng-loader`), an argument is out of range,
    or a word makes no sound.

    >>> import tempfile
    >>> out = tempfile.mkdtemp() + "/speech"
    >>> fs = synthetic_speech(out, words="yes,no", speakers=2, emotions=1, repetitions=1, workers=1)
    >>> fs.factors["id"].tolist()
    ['spk00-neutral-yes-0', 'spk00-neutral-no-0', 'spk01-neutral-yes-0', 'spk01-neutral-no-0']
    >>> fs.read([0]).shape, fs.card["factors"]
    ((1, 16000), {'word': 2, 'speaker': 2, 'emotion': 1, 'voice': 2})
    """
    words = _distinct(words)
    for option, value, least, most in (
        ("speakers", speakers, 1, 999),
        ("emotions", emotions, 1, len(EMOTIONS)),
        ("repetitions", repetitions, 1, 9999),
        ("seed", seed, 0, 2**32 - 1),
    ):
        if not isinstance(value, int) or not least <= value <= most:
            raise AtlabError(f"{option} is {value!r}; allowed: whole numbers from {least} to {most}")
    counts = {"speakers": speakers, "emotions": emotions, "repetitions": repetitions}
    card = {
        "name": name,
        "licence": "public domain (rendered on this machine by eSpeak NG, GPL-3)",
        "citation": "eSpeak NG",
        "recipe": name,
        "recipe_version": 1,
        "sample_rate": SAMPLE_RATE,
        "seed": seed,
        "parameters": {"words": words, **counts, "engine": f"espeakng-loader {installed_version()}"},
    }
    items = [(speaker, emotion) for speaker in range(speakers) for emotion in list(EMOTIONS)[:emotions]]
    return build(
        out,
        items,
        partial(_render, words=words, repetitions=repetitions, seed=seed),
        card=card,
        factors=["word", "speaker", "emotion", "voice"],
        workers=max(1, workers) if workers is not None else None,
        initializer=start_worker,
        initargs=(draw_voices(speakers, seed, prefix),),
        chunk=4,
        title="rendering speech",
        overwrite=overwrite,
    )


def _distinct(words: Sequence[str] | str) -> list[str]:
    words = [word.strip() for word in words.split(",")] if isinstance(words, str) else list(words)
    if not words or len(set(words)) < len(words) or not all(isinstance(word, str) and word for word in words):
        raise AtlabError(f"words are one or more different texts, found {words}")
    return words


def draw_voices(count: int, seed: int, prefix: str = "spk") -> list[Voice]:
    """Distinct speakers: low and high voices in turn, pitch and vocal-tract length spread evenly in each."""
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
        formants = tuple((round(f), round(s), round(w)) for f, s, w in zip(frequency, strength, width, strict=True))
        voices.append(
            Voice(
                name=f"{prefix}{n:02d}",
                accent=str(accents[n]),
                pitch=(round(pitches[n]), round(pitches[n] * rng.uniform(1.25, 1.6))),
                formants=formants,
                voicing=round(rng.uniform(85, 115)),
                consonants=round(rng.uniform(80, 120)),
                speed=round(rng.uniform(90, 110)),
                roughness=int(rng.integers(0, 5)),
                breath=int(rng.choice([0, 0, 2, 4])),
            )
        )
    return voices


_worker: dict = {}


def start_worker(voices: list[Voice]) -> None:
    """Once in each worker process: the engine's data folder with the voices in it."""
    opened = ExitStack()
    folder = opened.enter_context(scratch("espeak"))
    Finalize(None, opened.close, exitpriority=0)  # worker processes run no atexit
    _worker.update(data=data_folder(folder, voices), voices=voices)


class Said(NamedTuple):
    """One rendered word: its clip's name, word, repetition, clip int16 [16000], first sample, length and phonemes.

    Phonemes are (eSpeak NG's name, first sample in the clip); they are empty unless asked for.
    """

    name: str
    word: str
    repetition: int
    clip: np.ndarray
    onset: int
    length: int
    phonemes: list[tuple[str, int]]


def say_all(
    item: tuple[int, str], words: Sequence[str], repetitions: int, seed: int, phonemes: bool = False
) -> Iterator[Said]:
    """All words of one speaker in one emotion, in a fixed order from a fresh engine (in a worker of `start_worker`)."""
    speaker, emotion = item
    voice = _worker["voices"][speaker]
    with Engine(_worker["data"], phonemes) as engine:
        for word in words:
            for repetition in range(repetitions):
                numbers = [seed, speaker, list(EMOTIONS).index(emotion), repetition, *word.encode()]
                rng = np.random.default_rng(numbers)
                wave = _resample(engine.say(word, voice, *_prosody(emotion, rng)), engine.sample_rate)
                heard = _sounding(wave)
                wave = wave[heard]
                if not len(wave):
                    raise AtlabError(f"eSpeak NG makes no sound for the word {word!r} in the voice {voice.name}")
                clip, onset = _place(wave, rng)
                shift, rate = onset - heard.start, SAMPLE_RATE / engine.sample_rate
                starts = [(name, shift + round(sample * rate)) for name, sample in engine.phonemes]
                name = f"{voice.name}-{emotion}-{word}-{repetition}"
                yield Said(name, word, repetition, clip, onset, len(wave), starts)


def _render(item: tuple[int, str], words: Sequence[str], repetitions: int, seed: int) -> list[Clip]:
    speaker, emotion = item
    clips = []
    for said in say_all(item, words, repetitions, seed):
        row = {"id": said.name, "source": said.name, "duration": said.length / SAMPLE_RATE, "word": said.word}
        row |= {"speaker": _worker["voices"][speaker].name, "emotion": emotion, "voice": ("low", "high")[speaker % 2]}
        clips.append(Clip(said.clip, {**row, "repetition": said.repetition}))
    return clips


def _place(wave: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """At a random place in a clip of 1 s, and the place; a longer word is cut."""
    clip = np.zeros(int(SECONDS * SAMPLE_RATE), np.int16)
    wave = wave[: len(clip)]
    onset = int(rng.integers(0, len(clip) - len(wave) + 1))
    clip[onset : onset + len(wave)] = wave
    return clip, onset


def _prosody(emotion: str, rng: np.random.Generator) -> list[int]:
    neutral, own = np.array(EMOTIONS["neutral"]), np.array(EMOTIONS[emotion])
    return [round(v) for v in neutral + STRENGTH * (own - neutral) + rng.normal(0, JITTER)]


def _resample(wave: np.ndarray, rate: int) -> np.ndarray:
    from scipy.signal import resample_poly

    common = gcd(rate, SAMPLE_RATE)
    resampled = resample_poly(wave.astype(np.float64), SAMPLE_RATE // common, rate // common)
    return np.clip(np.round(resampled), -32768, 32767).astype(np.int16)


def _sounding(wave: np.ndarray, threshold: int = 100) -> slice:
    """The part without the silence before and after the word; nothing of a silent one."""
    loud = np.flatnonzero(np.abs(wave.astype(np.int32)) > threshold)
    return slice(max(0, int(loud[0]) - 80), int(loud[-1]) + 160) if len(loud) else slice(0, 0)
