"""RAVDESS, the speech recordings: 8 emotions by 24 actors, two sentences; emotion against speaker.

Raw layout: `Actor_<nn>/03-01-<emotion>-<intensity>-<statement>-<repetition>-<actor>.wav` (48 kHz), where 03 is
audio only and 01 is speech; `raw` is the folder that holds the actors, or the archive
`Audio_Speech_Actors_01-24.zip`. Other modalities and the songs are left out and counted. Emotion, speaker,
sentence and repetition are fully crossed, but neutral has only one of the two intensities.

The two repetitions of 03-01-03-01-02 by actor 07 are the same sound: they share a source, so that no split
separates them. Recordings last 3 to 5.3 s with about a second of silence at both ends: the default clip of
4 s keeps the words. With segments=True and seconds=1 the silent clips fall away.

Splits: `atlab.data.splits.disjoint(fs, by="speaker")`, `atlab.data.splits.confounded(fs, "emotion", "sentence")`.
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

NAME = "ravdess"
LICENCE = "CC BY-NC-SA 4.0"
CITATION = "Livingstone & Russo 2018, The Ryerson Audio-Visual Database of Emotional Speech and Song, PLoS ONE 13(5)"
ACCESS = "free download: Audio_Speech_Actors_01-24.zip of Zenodo record 1188976"
SIZE = "1,440 recordings, 1.5 hours, 215 MB; prepared 184 MB"
FACTORS = {
    "emotion": "neutral, calm, happy, sad, angry, fearful, disgust, surprised",
    "speaker": "actor, 01 to 24",
    "sentence": "kids (are talking by the door) or dogs (are sitting by the door)",
    "intensity": "normal or strong (neutral: normal only)",
    "sex": "male (odd actors) or female",
    "repetition": "1 or 2",
}
CROSSED = ("emotion", "speaker", "sentence")
STANDS_IN_FOR = ("iemocap",)

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
PUBLISHED = {
    **{"recordings": 1440, "speaker": 24, "emotion neutral": 96},
    **{f"emotion {emotion}": 192 for emotion in EMOTIONS[1:]},
}
SAME_SOUND = ("03-01-03-01-02-01-07", "03-01-03-01-02-02-07")


def prepare(
    raw: str | Path, out: str | Path, *, seconds: float = 4.0, segments: bool = False, workers: int | None = None
) -> FactorSet:
    """FactorSet of the speech recordings, int16 [N, 16000 * seconds] at 16 kHz.

    seconds: clip length; segments: cut a recording into clips of this length instead of keeping its beginning.
    Raises AtlabError where no recording is found or an option is out of range.
    """
    with raw_folder(raw, out) as root:
        name = r"(0[1-3])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(\d\d)"
        sounds, dropped = find_sounds(root, name, _labels, "Actor_01/03-01-01-01-01-01-01.wav")
        recipe = sys.modules[__name__]
        return build_sounds(
            recipe, out, root, sounds, dropped, PUBLISHED, seconds=seconds, segments=segments, workers=workers
        )


def _labels(match: re.Match) -> Labels | str:
    modality, channel, emotion, intensity, sentence, repetition, actor = match.groups()
    if modality != "03" or channel != "01":
        return "not audio-only speech"
    name = "-".join(match.groups())
    return {
        "source": SAME_SOUND[0] if name in SAME_SOUND else name,
        "emotion": EMOTIONS[int(emotion) - 1],
        "speaker": actor,
        "sentence": ("kids", "dogs")[int(sentence) - 1],
        "intensity": ("normal", "strong")[int(intensity) - 1],
        "sex": "male" if int(actor) % 2 else "female",
        "repetition": int(repetition),
    }
