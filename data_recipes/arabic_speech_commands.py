"""Arabic Speech Commands: 40 words x 30 speakers x 10 takes, each clip 1 s at 16 kHz; word against speaker.

Raw layout: `dataset/<word>/<8-digit speaker>_NO_<take>.wav`, the official split in `train.csv`, `val.csv` and
`test.csv`; `raw` is the folder that holds them, or an archive of it. The folders' names are the words in
English; what is spoken is Arabic. Each of 12,000 cells has one clip: word, speaker and take are fully crossed.
`background_noise/` is not part of the set.

Splits: column official (18, 6 and 6 speakers; the set has no such column where all three lists are missing),
`atlab.data.splits.disjoint(fs, by="speaker")`, `atlab.data.splits.confounded(fs, "word", "speaker")`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from atlab.errors import AtlabError
from atlab.system.foreign import read_text
from data_recipes.corpus import expect
from data_recipes.images import raw_folder
from data_recipes.named_sounds import Labels, build_sounds, find_sounds

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

NAME = "arabic_speech_commands"
LICENCE = "CC BY 4.0"
CITATION = "Ghandoura, Hjabo, Al Dakkak 2021, Building and benchmarking an Arabic Speech Commands dataset, EAAI 102"
ACCESS = "free download: the GitHub repository abdulkaderghandoura/arabic-speech-commands-dataset"
SIZE = "12,000 clips of 1 s, 384 MB"
FACTORS = {
    "word": "the word spoken, by its English name (40)",
    "speaker": "8-digit number of the speaker (30)",
    "take": "number of the recording, 1 to 10",
}
CROSSED = ("word", "speaker", "take")
STANDS_IN_FOR = ("gsc",)

PUBLISHED = {"recordings": 12_000, "word": 40, "speaker": 30, "take": 10}
LISTS = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}


def prepare(raw: str | Path, out: str | Path, *, workers: int | None = None) -> FactorSet:
    """FactorSet of all clips, int16 [N, 16000] at 16 kHz.

    Raises AtlabError where no recording is found, some but not all of the lists are missing, two lists share a
    speaker, or a speaker is in none.
    """
    with raw_folder(raw, out) as root:
        official = _official(root)

        def labels(match: re.Match) -> Labels:
            word, speaker, take = match.groups()
            if official and speaker not in official:
                raise AtlabError(f"speaker {speaker} of {root} is in none of {', '.join(LISTS.values())}")
            part = {"official": official[speaker]} if official else {}
            return {"word": word, "speaker": speaker, "take": int(take), **part}

        sounds, dropped = find_sounds(root, r"([^/]+)/(\d{8})_NO_(\d+)", labels, "dataset/one/00000001_NO_01.wav")
        return build_sounds(sys.modules[__name__], out, root, sounds, dropped, PUBLISHED, seconds=1.0, workers=workers)


def _official(root: Path) -> dict[str, str]:
    """Part of the official split by speaker; empty where no list is there."""
    if not any((root / name).exists() for name in LISTS.values()):
        return {}
    part_of: dict[str, str] = {}
    for part, name in LISTS.items():
        text = read_text(expect(root / name, "list of the official split"))
        for speaker in sorted(set(re.findall(r"(\d{8})_NO_\d+", text))):
            if part_of.setdefault(speaker, part) != part:
                raise AtlabError(f"speaker {speaker} is in {LISTS[part_of[speaker]]} and in {name}; expected in one")
    return part_of
