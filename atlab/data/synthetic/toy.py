"""A data set of tones for tests and examples: word = pitch, speaker = timbre; written in a moment."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from atlab.data.build import Clip, build
from atlab.data.factorset import FactorSet
from atlab.system.files import new_folder

SPEAKERS = ("ann", "bob", "cid", "dee", "eve", "fay")
WORDS = ("down", "left", "right", "up")
MICROPHONES = {"eve": ("far", "far", "far"), "fay": ("far", "far", "near")}  # the others: near, far, near


def toy(
    out: str | Path, words: int = 4, speakers: int = 4, repetitions: int = 5, samples: int = 4000, seed: int = 0
) -> FactorSet:
    """Tones of `samples` at 16 kHz: the word sets the pitch, the speaker the strength of the third harmonic.

    >>> import tempfile
    >>> toy(tempfile.mkdtemp() + "/toy", words=2, speakers=2, repetitions=1).factors["id"].tolist()
    ['word0-speaker0-0', 'word0-speaker1-0', 'word1-speaker0-0', 'word1-speaker1-0']
    """
    items = [(w, s, r) for w in range(words) for s in range(speakers) for r in range(repetitions)]
    card = {
        **{"name": "toy", "sample_rate": 16000, "licence": "public domain", "recipe": "toy", "recipe_version": 1},
        **{"seed": seed, "parameters": {"samples": samples}},
    }
    convert = partial(_tone, samples=samples, seed=seed)
    return build(out, items, convert, card=card, factors=["word", "speaker"], workers=0)


def _tone(item: tuple[int, int, int], samples: int, seed: int) -> list[Clip]:
    word, speaker, repetition = item
    rng = np.random.default_rng([seed, *item])
    phase = 2 * np.pi * 400 * 1.4**word * rng.uniform(0.98, 1.02) * np.arange(samples) / 16000 + rng.uniform(0, 6)
    wave = np.sin(phase) + 0.3 * speaker * np.sin(3 * phase) + 0.05 * rng.standard_normal(samples)
    name = f"word{word}-speaker{speaker}-{repetition}"
    row = {
        "id": name,
        "source": name,
        "duration": samples / 16000,
        "word": f"word{word}",
        "speaker": f"speaker{speaker}",
    }
    return [Clip((8000 * wave / np.abs(wave).max()).astype(np.int16), row)]


def toy_recordings(folder: str | Path) -> list[str]:
    """A folder as a user might have it, of tones as in `toy`: -> paths of its 145 sound files.

    Six speakers made three recordings each, and every recording was cut into eight files:
    `ann/r01_left_1.wav` is the first "left" of recording r01. The recordings of dee are stereo at 22,050 Hz.
    `factors.csv` has one row per file, with the recording as its source and a microphone that no path names. As
    in real folders, something is wrong: one file is cut off (fay/r18_up_2.wav), one has no row
    (ann/r01_up_2.wav), one is not a clip (test.wav). An existing folder is left as it is.

    >>> import tempfile
    >>> paths = toy_recordings(tempfile.mkdtemp() + "/sounds")
    >>> len(paths), paths[0], paths[-1]
    (145, 'ann/r01_down_1.wav', 'test.wav')
    """
    if not Path(folder).exists():
        with new_folder(folder) as new:
            _write_recordings(new)
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.wav"))


def _write_recordings(folder: Path) -> None:
    import soundfile

    lines = ["file,word,speaker,source,microphone"]
    for s, speaker in enumerate(SPEAKERS):
        (folder / speaker).mkdir()
        for r, microphone in enumerate(MICROPHONES.get(speaker, ("near", "far", "near"))):
            recording = f"r{3 * s + r + 1:02d}"
            for w, word in enumerate(WORDS):
                for take in (1, 2):
                    name = f"{speaker}/{recording}_{word}_{take}.wav"
                    rate = 22_050 if speaker == "dee" else 16_000
                    wave = _spoken(w, s, (3 * s + r, take), microphone, rate)
                    wave = np.stack([wave, wave], axis=1) if speaker == "dee" else wave
                    soundfile.write(folder / name, wave, rate)
                    if name != "ann/r01_up_2.wav":
                        lines.append(f"{name},{word},{speaker},{recording},{microphone}")
    cut = folder / "fay/r18_up_2.wav"
    cut.write_bytes(cut.read_bytes()[:2000])
    soundfile.write(folder / "test.wav", np.zeros(800), 16_000)
    (folder / "factors.csv").write_text("\n".join(lines) + "\n")


def _spoken(word: int, speaker: int, take: tuple[int, int], microphone: str, rate: int) -> np.ndarray:
    """float64 [T] of 0.25 to 0.35 s: the recording has a hum of its own, far microphones more noise."""
    room, rng = np.random.default_rng(take[0]), np.random.default_rng([word, speaker, *take])
    time = np.arange(int(rng.uniform(0.25, 0.35) * rate)) / rate
    phase = 2 * np.pi * 400 * 1.4**word * rng.uniform(0.98, 1.02) * time + rng.uniform(0, 6)
    tone = np.sin(phase) + 0.2 * speaker * np.sin(3 * phase)
    hum = 0.3 * np.sin(2 * np.pi * room.uniform(2000, 7000) * time)
    wave = tone + hum + {"near": 0.02, "far": 0.1}[microphone] * rng.standard_normal(len(time))
    return 0.3 * wave / np.abs(wave).max()
