"""CREMA-D: 12 sentences by 91 actors in 6 emotions; emotion against speaker or sentence.

Raw layout: `AudioWAV/<actor>_<sentence>_<emotion>_<level>.wav` (16 kHz), e.g. `1001_IEO_ANG_HI.wav`; `raw` is
the repository's folder, `AudioWAV` itself, or an archive. The emotion is the one the actor was asked for, not
what the raters heard. Every actor speaks every sentence in every emotion but for a few lost recordings; one
sentence (IEO) has three levels.

Left out and counted: 1064_IEO_DIS_MD, which holds all emotions one after the other. 1076_MTI_SAD_XX is silent and
falls under the rule for silent recordings.

Splits: `atlab.data.splits.disjoint(fs, by="speaker")`, `atlab.data.splits.confounded(fs, "emotion", "speaker")`.
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

NAME = "crema_d"
LICENCE = "Open Database License (ODbL) 1.0"
CITATION = (
    "Cao et al. 2014, CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset, IEEE Trans. Affective Comp. 5(4)"
)
ACCESS = "free: the folder AudioWAV of the GitHub repository CheyneyComputerScience/CREMA-D (git-lfs)"
SIZE = "7,442 recordings, 5.3 hours, 600 MB; prepared 714 MB"
FACTORS = {
    "emotion": "anger, disgust, fear, happiness, neutral, sadness",
    "speaker": "actor, 1001 to 1091",
    "sentence": "code of the sentence (12)",
    "level": "low, medium, high or unspecified",
}
CROSSED = ("emotion", "speaker")
STANDS_IN_FOR = ("iemocap",)

EMOTIONS = {
    **{"ANG": "anger", "DIS": "disgust", "FEA": "fear"},
    **{"HAP": "happiness", "NEU": "neutral", "SAD": "sadness"},
}
LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified", "X": "unspecified"}
PUBLISHED = {  # without the recording of all emotions
    **{"recordings": 7441, "speaker": 91, "sentence": 12, "emotion anger": 1271, "emotion disgust": 1270},
    **{"emotion fear": 1271, "emotion happiness": 1271, "emotion neutral": 1087, "emotion sadness": 1271},
}
ALL_EMOTIONS = ("1064", "IEO", "DIS", "MD")


def prepare(
    raw: str | Path, out: str | Path, *, seconds: float = 3.0, segments: bool = False, workers: int | None = None
) -> FactorSet:
    """FactorSet of the recordings, int16 [N, 16000 * seconds] at 16 kHz.

    seconds: clip length (recordings last 1.3 to 5 s, most under 3); segments: cut a recording into clips of this
    length instead of keeping its beginning. Raises AtlabError where no recording is found or an option is out
    of range.
    """
    with raw_folder(raw, out) as root:
        name = rf"(1\d{{3}})_([A-Z]{{3}})_({'|'.join(EMOTIONS)})_({'|'.join(LEVELS)})"
        sounds, dropped = find_sounds(root, name, _labels, "AudioWAV/1001_IEO_ANG_HI.wav")
        recipe = sys.modules[__name__]
        return build_sounds(
            recipe, out, root, sounds, dropped, PUBLISHED, seconds=seconds, segments=segments, workers=workers
        )


def _labels(match: re.Match) -> Labels | str:
    if match.groups() == ALL_EMOTIONS:
        return "all emotions in one recording"
    actor, sentence, emotion, level = match.groups()
    return {"emotion": EMOTIONS[emotion], "speaker": actor, "sentence": sentence, "level": LEVELS[level]}
