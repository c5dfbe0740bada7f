"""Embedded speech commands: ten other words by other speakers than synthetic_speech, with the same emotions.

Protocol: a fully crossed design, 24 speakers x 10 commands x 4 emotions x 6 repetitions = 5,760 clips of 1 s at 16
kHz, rendered as synthetic_speech is. Networks trained on one of the two sets can teach the other: a speaker or
emotion network that never heard the target's words or voices. Every clip is a source of its own; hold speakers out
with splits.disjoint(fs, "speaker").
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from atlab.data.synthetic.commands import COMMANDS, synthetic_commands
from atlab.errors import AtlabError

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

NAME = "synthetic_commands"
LICENCE = "public domain (rendered on this machine; eSpeak NG itself is GPL-3)"
CITATION = "eSpeak NG, github.com/espeak-ng/espeak-ng"
ACCESS = "embedded: needs the espeakng-loader wheel, no raw data and no network"
SIZE = "5,760 clips, 184 MB"
FACTORS = {
    "word": "yes, no, up, down, left, right, on, off, stop, go",
    "speaker": "one of 24 voices",
    "emotion": "neutral, angry, happy, sad",
    "voice": "low or high",
}
CROSSED = ("word", "speaker", "emotion")


def prepare(
    raw: str | Path | None,
    out: str | Path,
    *,
    words: Sequence[str] | str = COMMANDS,
    speakers: int = 24,
    emotions: int = 4,
    repetitions: int = 6,
    seed: int = 1,
    workers: int | None = None,
) -> FactorSet:
    """Render into `out`; options are those of `atlab.data.synthetic_commands`. AtlabError if `raw` is given."""
    if raw is not None:
        raise AtlabError(f"{NAME} is rendered, it takes no raw folder; found {raw}")
    return synthetic_commands(
        out, words=words, speakers=speakers, emotions=emotions, repetitions=repetitions, seed=seed, workers=workers
    )
