"""A second embedded speech set, other words by other speakers than synthetic_speech: cross-corpus without a download."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from atlab.data.synthetic.speech import synthetic_speech

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


def synthetic_commands(
    out: str | Path,
    *,
    words: Sequence[str] | str = COMMANDS,
    speakers: int = 24,
    emotions: int = 4,
    repetitions: int = 6,
    seed: int = 1,
    workers: int | None = None,
) -> FactorSet:
    """Render `words` as `atlab.data.synthetic_speech` does, by speakers cmd00, cmd01 ...: int16 clips of 1 s at 16 kHz.

    The emotions are the same. The voices follow from the seed: with another one than synthetic_speech's (0 by
    default) no speaker is in both sets. Raises the AtlabErrors of `synthetic_speech`.

    >>> import tempfile
    >>> fs = synthetic_commands(tempfile.mkdtemp() + "/set", words="go", speakers=2, emotions=1, repetitions=1, workers=1)
    >>> fs.factors["id"].tolist(), fs.card["name"]
    (['cmd00-neutral-go-0', 'cmd01-neutral-go-0'], 'synthetic_commands')
    """
    return synthetic_speech(
        out,
        words=words,
        speakers=speakers,
        emotions=emotions,
        repetitions=repetitions,
        seed=seed,
        workers=workers,
        name="synthetic_commands",
        prefix="cmd",
    )
