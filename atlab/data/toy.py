"""A data set of tones for tests and examples: word = pitch, speaker = timbre; written in a moment."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from atlab.data.build import Clip, build
from atlab.data.factorset import FactorSet


def toy(
    out: str | Path,
    words: int = 4,
    speakers: int = 4,
    repetitions: int = 5,
    samples: int = 4000,
    seed: int = 0,
) -> FactorSet:
    """Tones of `samples` at 16 kHz: the word sets the pitch, the speaker the strength of the third harmonic.

    >>> import tempfile
    >>> toy(tempfile.mkdtemp() + "/toy", words=2, speakers=2, repetitions=1).factors["id"].tolist()
    ['word0-speaker0-0', 'word0-speaker1-0', 'word1-speaker0-0', 'word1-speaker1-0']
    """
    items = [(w, s, r) for w in range(words) for s in range(speakers) for r in range(repetitions)]
    card = {
        **{
            "name": "toy",
            "sample_rate": 16000,
            "licence": "public domain",
            "recipe": "toy",
            "recipe_version": 1,
        },
        **{"seed": seed, "parameters": {"samples": samples}},
    }
    convert = partial(_tone, samples=samples, seed=seed)
    return build(out, items, convert, card=card, factors=["word", "speaker"], workers=0)


def _tone(item: tuple[int, int, int], samples: int, seed: int) -> list[Clip]:
    word, speaker, repetition = item
    rng = np.random.default_rng([seed, *item])
    phase = 2 * np.pi * 400 * 1.4**word * rng.uniform(0.98, 1.02) * np.arange(samples) / 16000 + rng.uniform(
        0, 6
    )
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
