"""EmoDB, the Berlin Database of Emotional Speech: 10 German sentences by 10 actors in 7 emotions.

Raw layout: `wav/<speaker><sentence><emotion><version>.wav` (16 kHz), e.g. `03a01Fa.wav`: speaker 03, sentence
a01, F for Freude (happiness), version a; `raw` is the folder that holds `wav/`, `wav` itself, or an archive.
Only utterances that listeners recognised are part of the corpus: emotion and speaker are not fully crossed.

Splits: `atlab.data.splits.disjoint(fs, by="speaker")`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from data_recipes.images import raw_folder
from data_recipes.named_sounds import Labels, build_sounds, find_sounds

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

NAME = "emodb"
LICENCE = "free to use with a citation (TU Berlin)"
CITATION = "Burkhardt et al. 2005, A database of German emotional speech, Interspeech"
ACCESS = "free download: the Berlin Database of Emotional Speech, TU Berlin"
SIZE = "535 recordings, 25 minutes, 46 MB; prepared 68 MB"
FACTORS = {
    "emotion": "anger, boredom, disgust, fear, happiness, neutral, sadness",
    "speaker": "actor, 03 and 08 to 16 (10)",
    "sentence": "code of the sentence (10)",
    "sex": "male (5 actors) or female (5)",
}
STANDS_IN_FOR = ("iemocap",)

EMOTIONS = {  # the initial of the German word
    **{"W": "anger", "L": "boredom", "E": "disgust", "A": "fear"},
    **{"F": "happiness", "N": "neutral", "T": "sadness"},
}
MALE = ("03", "10", "11", "12", "15")
PUBLISHED = {
    **{"recordings": 535, "speaker": 10, "sentence": 10, "emotion anger": 127, "emotion boredom": 81},
    **{"emotion disgust": 46, "emotion fear": 69, "emotion happiness": 71, "emotion neutral": 79},
    "emotion sadness": 62,
}


def prepare(
    raw: str | Path, out: str | Path, *, seconds: float = 4.0, segments: bool = False, workers: int | None = None
) -> FactorSet:
    """FactorSet of the recordings, int16 [N, 16000 * seconds] at 16 kHz.

    seconds: clip length (recordings last 1.2 to 9 s, most under 4); segments: cut a recording into clips of this
    length instead of keeping its beginning. Raises AtlabError where no recording is found or an option is out
    of range.
    """
    with raw_folder(raw, out) as root:
        name = rf"(\d\d)([ab]\d\d)([{''.join(EMOTIONS)}])([a-z]?)"
        sounds, dropped = find_sounds(root, name, _labels, "wav/03a01Fa.wav")
        recipe = sys.modules[__name__]
        return build_sounds(
            recipe, out, root, sounds, dropped, PUBLISHED, seconds=seconds, segments=segments, workers=workers
        )


def _labels(match: re.Match) -> Labels:
    speaker, sentence, emotion, _ = match.groups()
    sex = "male" if speaker in MALE else "female"
    return {"emotion": EMOTIONS[emotion], "speaker": speaker, "sentence": sentence, "sex": sex}
