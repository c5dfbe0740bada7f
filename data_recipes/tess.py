"""TESS, the Toronto Emotional Speech Set: 200 words by two actresses in 7 emotions; emotion against word.

Raw layout: `<OAF|YAF>_<word>_<emotion>.wav` (24.4 kHz) in any folders; `raw` is their folder, or an archive. OAF
is the older actress (64 years), YAF the younger (26); each says "Say the word <word>". Speaker, word and
emotion are fully crossed. One file is named OA_bite_neutral instead of OAF_bite_neutral; some copies of
the corpus hold every file twice: the second one is left out and counted.

Splits: `atlab.data.splits.disjoint(fs, by="word")`, `atlab.data.splits.confounded(fs, "emotion", "speaker")`.
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

NAME = "tess"
LICENCE = "CC BY-NC-ND 4.0"
CITATION = "Pichora-Fuller & Dupuis 2020, Toronto emotional speech set (TESS), doi:10.5683/SP2/E8H2MF"
ACCESS = "free download: Borealis dataverse, doi:10.5683/SP2/E8H2MF"
SIZE = "2,800 recordings, 1.6 hours, 280 MB; prepared 224 MB"
FACTORS = {
    "emotion": "anger, disgust, fear, happiness, neutral, sadness, surprise",
    "word": "the last word of the sentence (200)",
    "speaker": "OAF (64 years) or YAF (26 years)",
}
CROSSED = ("emotion", "word", "speaker")
STANDS_IN_FOR = ("iemocap",)

EMOTIONS = {
    **{"angry": "anger", "disgust": "disgust", "fear": "fear", "happy": "happiness"},
    **{"neutral": "neutral", "sad": "sadness", "ps": "surprise"},
}
PUBLISHED = {
    **{"recordings": 2800, "speaker": 2, "word": 200},
    **{f"emotion {emotion}": 400 for emotion in EMOTIONS.values()},
}


def prepare(
    raw: str | Path, out: str | Path, *, seconds: float = 2.5, segments: bool = False, workers: int | None = None
) -> FactorSet:
    """FactorSet of the recordings, int16 [N, 16000 * seconds] at 16 kHz.

    seconds: clip length (recordings last 1.3 to 3 s); segments: cut a recording into clips of this length instead
    of keeping its beginning. Raises AtlabError where no recording is found or an option is out of range.
    """
    with raw_folder(raw, out) as root:
        name = rf"(OA|YA)F?_([A-Za-z]+)_({'|'.join(EMOTIONS)})"
        sounds, dropped = find_sounds(root, name, _labels, "OAF_back_angry.wav")
        recipe = sys.modules[__name__]
        return build_sounds(
            recipe, out, root, sounds, dropped, PUBLISHED, seconds=seconds, segments=segments, workers=workers
        )


def _labels(match: re.Match) -> Labels:
    speaker, word, emotion = match.groups()
    return {"emotion": EMOTIONS[emotion], "word": word.lower(), "speaker": f"{speaker}F"}
