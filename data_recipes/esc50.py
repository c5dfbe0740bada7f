"""ESC-50 and ESC-10: environmental sounds of 5 s in 50 or 10 classes and 5 folds; also a source of noise.

Raw layout: ESC-50 has `audio/<fold>-<recording>-<take>-<class number>.wav` and `meta/esc50.csv`; ESC-10, and the
first edition of ESC-50, have `<nnn> - <Class name>/<fold>-<recording>-<take>.ogg`. `raw` is the folder that
holds them, or an archive; sounds are 44.1 kHz. The class is the factor noise, so that a prepared set can serve
as recorded noise. Clips cut from one recording share their source, and the official folds keep them together.

Splits: `atlab.data.splits.disjoint(fs, by="fold", test=[5])` and so on (the official cross-validation).
"""

from __future__ import annotations

import csv
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

NAME = "esc50"
LICENCE = "CC BY-NC 3.0 (ESC-10: CC BY 3.0)"
CITATION = "Piczak 2015, ESC: dataset for environmental sound classification, ACM Multimedia"
ACCESS = "free: the GitHub repository karolpiczak/ESC-50; ESC-10 from Harvard Dataverse, doi:10.7910/DVN/YDEPUT"
SIZE = "2,000 recordings of 5 s (ESC-10: 400), 600 MB; prepared 320 MB"
FACTORS = {"noise": "class of the sound (50 or 10)", "fold": "fold of the official cross-validation, 1 to 5"}
CROSSED = ("noise", "fold")
STANDS_IN_FOR = ("ms_snsd",)

PUBLISHED = {  # by number of classes
    classes: {"recordings": 40 * classes, "noise": classes, **{f"fold {fold}": 8 * classes for fold in range(1, 6)}}
    for classes in (10, 50)
}
IN_FOLDER = r"\d{3} - (?P<name>[^/]+)/([1-5])-(\d+)-([A-Z]\d?)"
NUMBERED = r"([1-5])-(\d+)-([A-Z]\d?)-(\d+)"


def prepare(
    raw: str | Path, out: str | Path, *, seconds: float = 5.0, segments: bool = False, workers: int | None = None
) -> FactorSet:
    """FactorSet of the recordings, int16 [N, 16000 * seconds] at 16 kHz.

    seconds: clip length; segments: cut a recording into clips of this length instead of keeping its beginning.
    Raises AtlabError where no recording is found, the list of classes is missing, corrupt or lacks a file, or an
    option is out of range.
    """
    with raw_folder(raw, out) as root:
        numbered = (root / "audio").is_dir()
        classes = _classes(root) if numbered else {}

        def labels(match: re.Match) -> Labels:
            fold, recording, take, *rest = match.groups()[0 if numbered else 1 :]
            if not numbered:
                noise = match["name"].strip().lower().replace(" ", "_")
            elif (name := f"{fold}-{recording}-{take}-{rest[0]}.wav") in classes:
                noise = classes[name]
            else:
                raise AtlabError(f"{name} is not listed in {root / 'meta' / 'esc50.csv'}")
            return {"source": recording, "noise": noise, "fold": int(fold)}

        example = "audio/1-100032-A-0.wav or 001 - Dog bark/1-30226-A.ogg"
        sounds, dropped = find_sounds(root, NUMBERED if numbered else IN_FOLDER, labels, example)
        published = PUBLISHED[50 if len({sound.labels["noise"] for sound in sounds}) > 10 else 10]
        recipe = sys.modules[__name__]
        return build_sounds(
            recipe, out, root, sounds, dropped, published, seconds=seconds, segments=segments, workers=workers
        )


def _classes(root: Path) -> dict[str, str]:
    """Class of a file by its name."""
    path = expect(root / "meta" / "esc50.csv", "list of classes")
    table = csv.DictReader(read_text(path).splitlines(), strict=True)
    try:
        if not {"filename", "category"} <= set(table.fieldnames or ()):
            raise AtlabError(f"{path} has the columns {table.fieldnames}; expected filename and category among them")
        return {row["filename"]: row["category"] for row in table}
    except csv.Error as error:
        raise AtlabError(f"{path} is no CSV: {error}") from None
