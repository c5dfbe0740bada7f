"""Embedded speech: words x speakers x emotions x repetitions, rendered on this machine, without a download.

Protocol: a fully crossed design, 24 speakers x 10 digits x 4 emotions x 6 repetitions = 5,760 clips of 1
s at 16 kHz by default, rendered by eSpeak NG in processes of its own (atlab.data.synthetic.speech). Every clip is a
source of its own; hold speakers out with splits.disjoint(fs, "speaker"). Noise is mixed in as clips are
read, by atlab.data.Noisy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from atlab.data.synthetic.speech import DIGITS, synthetic_speech
from data_recipes.corpus import refuse_raw

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

NAME = "synthetic_speech"
LICENCE = "public domain (rendered on this machine; eSpeak NG itself is GPL-3)"
CITATION = "eSpeak NG, github.com/espeak-ng/espeak-ng"
ACCESS = "embedded: needs the espeakng-loader wheel, no raw data and no network"
SIZE = "5,760 clips, 184 MB"
FACTORS = {
    "word": "spoken word",
    "speaker": "one of 24 voices",
    "emotion": "neutral, angry, happy, sad",
    "voice": "low or high",
}
CROSSED = ("word", "speaker", "emotion")


def prepare(
    raw: str | Path | None,
    out: str | Path,
    *,
    words: Sequence[str] | str = DIGITS,
    speakers: int = 24,
    emotions: int = 4,
    repetitions: int = 6,
    seed: int = 0,
    workers: int | None = None,
) -> FactorSet:
    """Render into `out`; options are those of `atlab.data.synthetic_speech`. AtlabError if `raw` is given."""
    refuse_raw(NAME, raw)
    return synthetic_speech(
        out, words=words, speakers=speakers, emotions=emotions, repetitions=repetitions, seed=seed, workers=workers
    )
