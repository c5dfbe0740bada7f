"""Embedded speech commands: ten other words by other speakers than synthetic_speech, with the same emotions.

Protocol: that of synthetic_speech. Networks trained on one of the two sets can teach the other: a speaker or emotion
network that never heard the target's words or voices.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from atlab.data.synthetic.commands import COMMANDS, synthetic_commands
from data_recipes import synthetic_speech
from data_recipes.corpus import refuse_raw
from data_recipes.synthetic_speech import ACCESS, CITATION, CROSSED, LICENCE, SIZE

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

NAME = "synthetic_commands"
FACTORS = {**synthetic_speech.FACTORS, "word": ", ".join(COMMANDS)}

__all__ = ["ACCESS", "CITATION", "CROSSED", "LICENCE", "SIZE", "prepare"]


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
    refuse_raw(NAME, raw)
    return synthetic_commands(
        out, words=words, speakers=speakers, emotions=emotions, repetitions=repetitions, seed=seed, workers=workers
    )
