"""PACS: 7 classes in 4 domains (photo, art painting, cartoon, sketch); class against domain.

Raw layout: `<domain>/<class>/<picture>.jpg`, 227 x 227 pixels; `raw` is the folder that holds the four domains
(often `kfold`), or an archive of it. Every class exists in every domain, in unequal numbers.

Splits: `atlab.data.splits.disjoint(fs, by="domain", test=["sketch"])` (leave one domain out, the usual protocol),
`atlab.data.splits.confounded(fs, "class", "domain")`.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from atlab.data.build import Clip, build
from atlab.errors import AtlabError, unknown
from data_recipes.corpus import compare, expect_folder, whole_number
from data_recipes.images import is_image, raw_folder, read_image
from data_recipes.torchvision_sets import image_card

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

NAME = "pacs"
LICENCE = "none stated by its authors; used for research"
CITATION = "Li et al. 2017, Deeper, broader and artier domain generalization, ICCV"
ACCESS = "free download: the PACS data set of Li et al. (ICCV 2017)"
SIZE = "9,991 pictures, 190 MB; prepared 123 MB at 64 x 64"
FACTORS = {
    "class": "dog, elephant, giraffe, guitar, horse, house, person",
    "domain": "photo, art_painting, cartoon, sketch",
}
CROSSED = ("class", "domain")

CLASSES = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
PUBLISHED = {"art_painting": 2048, "cartoon": 2344, "photo": 1670, "sketch": 3929}


def prepare(raw: str | Path, out: str | Path, *, size: int = 64, workers: int | None = None) -> FactorSet:
    """FactorSet of the pictures, uint8 [N, 3, size, size].

    size: side of the pictures, at least 32. Raises AtlabError for a missing domain, a folder that is no class, and
    where no picture is found.
    """
    size = whole_number("size", size, least=32)
    with raw_folder(raw, out) as root:
        items = [item for domain in PUBLISHED for item in _pictures(root, domain)]
        if not items:
            raise AtlabError(f"no pictures in {root}: expected photo/dog/<picture>.jpg and so on")
        found = Counter(item.split("/")[0] for item in items)
        card = image_card(NAME, LICENCE, CITATION, size=size)
        card |= {"published_clips": compare(NAME, found, PUBLISHED)}
        convert = partial(_read, root=str(root), size=size)
        return build(out, items, convert, card=card, factors=list(FACTORS), workers=workers, title=NAME)


def _pictures(root: Path, domain: str) -> list[str]:
    """Pictures of a domain by their path below `root`, sorted."""
    folders = sorted(p for p in expect_folder(root / domain, "domain").iterdir() if p.is_dir() and p.name[0] != ".")
    for folder in folders:
        if folder.name not in CLASSES:
            raise unknown(f"class folder in {root / domain}", folder.name, CLASSES)
    return [path.relative_to(root).as_posix() for f in folders for path in sorted(f.iterdir()) if is_image(path)]


def _read(path: str, root: str, size: int) -> list[Clip]:
    domain, name, _ = path.split("/")
    row = {"id": path, "source": path, "duration": 0.0, "class": name, "domain": domain}
    return [Clip(read_image(Path(root) / path, size), row)]
