"""AudioMNIST: 10 digits x 60 speakers x 50 takes at 48 kHz; word against speaker, sex or accent.

Raw layout: `data/<speaker>/<digit>_<speaker>_<take>.wav` and `data/audioMNIST_meta.txt`, a JSON object that
gives every speaker's gender, accent and more; `raw` is the repository's folder, `data` itself, or an archive.
Digit, speaker and take are fully crossed. Recordings are shorter than 1 s and zero-padded at their end.

Splits: `atlab.data.splits.disjoint(fs, by="speaker")`, `atlab.data.splits.confounded(fs, "word", "speaker")`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from atlab.errors import AtlabError
from atlab.system.foreign import read_json
from data_recipes.images import raw_folder
from data_recipes.named_sounds import Labels, build_sounds, find_sounds

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

NAME = "audiomnist"
LICENCE = "MIT"
CITATION = "Becker et al. 2024, AudioMNIST: exploring explainable artificial intelligence for audio analysis, J. Franklin Inst. 361(1)"
ACCESS = "free: the GitHub repository soerenab/AudioMNIST"
SIZE = "30,000 recordings, 5.4 hours, 1.9 GB; prepared 960 MB"
FACTORS = {
    "word": "the digit spoken, zero to nine (10)",
    "speaker": "number of the speaker, 01 to 60",
    "sex": "male (48) or female (12)",
    "accent": "the speaker's accent, in lower case",
    "take": "number of the recording, 0 to 49",
}
CROSSED = ("word", "speaker", "take")
STANDS_IN_FOR = ("gsc",)

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PUBLISHED = {"recordings": 30_000, "word": 10, "speaker": 60, "take": 50, "sex female": 6000, "sex male": 24_000}
META = "audioMNIST_meta.txt"


def prepare(raw: str | Path, out: str | Path, *, workers: int | None = None) -> FactorSet:
    """FactorSet of all recordings, int16 [N, 16000] at 16 kHz.

    Raises AtlabError where no recording is found, or the list of speakers is missing, corrupt or lacks one.
    """
    with raw_folder(raw, out) as root:
        speakers = _speakers(root)

        def labels(match: re.Match) -> Labels:
            digit, speaker, take = match.groups()
            if speaker not in speakers:
                raise AtlabError(f"speaker {speaker} of {root} is not in {META}; it has {', '.join(sorted(speakers))}")
            return {"word": WORDS[int(digit)], "speaker": speaker, **speakers[speaker], "take": int(take)}

        sounds, dropped = find_sounds(root, r"(\d)_(\d\d)_(\d+)", labels, "data/01/0_01_0.wav")
        return build_sounds(sys.modules[__name__], out, root, sounds, dropped, PUBLISHED, seconds=1.0, workers=workers)


def _speakers(root: Path) -> dict[str, Labels]:
    """Sex and accent by speaker."""
    path = next((path for path in (root / "data" / META, root / META) if path.is_file()), None)
    if path is None:
        raise AtlabError(f"list of speakers not found: expected {root / 'data' / META}")
    try:
        meta = read_json(path)
        return {
            name: {"sex": str(of["gender"]).strip().lower(), "accent": str(of["accent"]).strip().lower()}
            for name, of in meta.items()
        }
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise AtlabError(
            f"{path} is not the list of speakers: expected a JSON object such as "
            f'{{"01": {{"gender": "male", "accent": "german"}}}} ({type(error).__name__}: {error})'
        ) from None
