"""What the recipes of torchvision's image sets share: class halves, official splits, from files to a set.

The folders are those of torchvision.datasets, but read here: torchvision unpickles CIFAR and ImageNet's
meta.bin, and no pickle is ever loaded. CIFAR therefore comes from its binary version, and any set from an
image folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from atlab.data.build import Clip, build
from atlab.data.classes import first_half
from atlab.errors import AtlabError, unknown
from data_recipes.corpus import compare
from data_recipes.images import image_folder, raw_folder, read_image, scratch_folder
from data_recipes.records import Records, cifar_records, exactly, find, idx_records, need

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

PER_ITEM = 256  # images that one work item reads from a file of records
DIGITS = tuple("0123456789")
Labels = Callable[[str], dict[str, str]]  # class -> further columns


class Block(NamedTuple):
    """Consecutive images of a file: what one work item says."""

    path: str
    split: str
    first: int
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    offset: int
    labels: int
    columns_first: bool


def halves(fs: FactorSet, seed: int = 0, factor: str = "class") -> np.ndarray:
    """A random division of the classes into A and B (Yosinski et al. 2014, section 4.1), per image: str [N].

    With an odd number of classes B gets one more. Raises AtlabError for a factor the data set lacks.
    """
    sides = assign_halves(fs.classes(factor), seed)
    return np.array([sides[label] for label in fs.labels(factor)], dtype=object)


def assign_halves(classes: Iterable[str], seed: int = 0) -> dict[str, str]:
    """Class -> "A" or "B", at random by the seed whatever the order of the classes.

    >>> assign_halves(["cat", "dog", "ship", "truck"], seed=0)
    {'cat': 'A', 'dog': 'B', 'ship': 'A', 'truck': 'B'}
    """
    first = first_half(classes, seed)
    return {name: "A" if name in first else "B" for name in sorted(set(classes))}


def image_card(name: str, licence: str, citation: str, **parameters: object) -> dict:
    """The part of a card that all image recipes fill in alike; seed is that of the stored halves."""
    return {
        "name": name,
        "kind": "image",
        "sample_rate": None,
        "licence": licence,
        "citation": citation,
        "recipe": name,
        "recipe_version": 1,
        "parameters": parameters,
        "seed": 0,
    }


def build_records(
    out: str | Path,
    root: Path,
    parts: Sequence[Records],
    *,
    card: dict,
    further: Labels,
    factors: list[str],
    published: dict[str, int],
    workers: int | None,
) -> FactorSet:
    """Build a FactorSet from files of records; `further` gives the columns that follow from a class."""
    items = [
        Block(
            part.path.relative_to(root).as_posix() if part.path.is_relative_to(root) else str(part.path),
            part.split,
            first,
            tuple(part.classes[first : first + PER_ITEM]),
            part.shape,
            part.offset,
            part.labels,
            part.columns_first,
        )
        for part in parts
        for first in range(0, len(part.classes), PER_ITEM)
    ]
    counts = count(card["name"], ((part.split, len(part.classes)) for part in parts), published)
    columns = {name: further(name) for name in sorted({c for part in parts for c in part.classes})}
    return build(
        out,
        items,
        partial(_read_block, root=str(root), columns=columns),
        card=card | counts,
        factors=factors,
        workers=workers,
        chunk=8,
        title=card["name"],
    )


def prepare_cifar(
    raw: str | Path,
    out: str | Path,
    *,
    files: Sequence[tuple[str, str]],
    pickled: str,
    folders: Sequence[str],
    archive: str,
    classes: Sequence[str],
    label_bytes: int,
    **options: object,
) -> FactorSet:
    """The recipe of both CIFAR sets: binary version or image folder; the pickled version is refused."""
    with raw_folder(raw, out) as root:
        if find(root, [name for name, _ in files], folders):
            parts = [cifar_records(need(root, [name], folders), split, classes, label_bytes) for name, split in files]
            return build_records(out, root, parts, **options)
        if find(root, [pickled], [folder.replace("binary", "python").replace("-bin", "-py") for folder in folders]):
            raise AtlabError(
                f"{root} holds the python version of CIFAR, pickles that atlab never loads: "
                f"get the binary version, {archive}"
            )
        pictures = next((f for f in (root, *(root / folder for folder in folders)) if (f / "train").is_dir()), None)
        if pictures is None:
            raise AtlabError(
                f"no CIFAR in {root}: expected {files[0][0]} ... {files[-1][0]} (of {archive}) "
                "or train/<class>/<picture>"
            )
        return build_folder(out, pictures, size=32, channels=3, allowed=classes, **options)


def prepare_idx(
    raw: str | Path,
    out: str | Path,
    *,
    folders: Sequence[str],
    classes: Sequence[str],
    card: dict,
    published: dict[str, int],
    workers: int | None,
) -> FactorSet:
    """The recipe of MNIST and Fashion-MNIST: four idx files or an image folder."""
    sides = assign_halves(classes)
    options = {
        "card": card,
        "further": lambda name: {"half": sides[name]},
        "factors": ["class", "half"],
        "published": published,
        "workers": workers,
    }
    with raw_folder(raw, out) as root, scratch_folder(f"{out}.idx") as scratch:
        if (root / "train").is_dir():
            return build_folder(out, root, size=28, channels=1, allowed=classes, **options)
        parts = [
            idx_records(root, scratch, folders, part, split, classes)
            for part, split in (("train", "train"), ("t10k", "test"))
        ]
        return build_records(out, root, parts, **options)


def count(name: str, sizes: Iterable[tuple[str, int]], published: dict[str, int]) -> dict:
    """The card's comparison of images found per split with published numbers; one line says what differs."""
    found: dict[str, int] = {}
    for split, size in sizes:
        found[split] = found.get(split, 0) + size
    return {"published_clips": compare(name, found, published)}


def _read_block(block: Block, root: str, columns: dict[str, dict[str, str]]) -> list[Clip]:
    channels, height, width = block.shape
    stride = block.labels + channels * height * width
    with open(Path(root) / block.path, "rb") as file:
        file.seek(block.offset + block.first * stride)
        data = np.frombuffer(exactly(file, len(block.classes) * stride), np.uint8).reshape(-1, stride)
    pixels = data[:, block.labels :]
    images = (
        pixels.reshape(-1, channels, width, height).swapaxes(2, 3)
        if block.columns_first
        else pixels.reshape(-1, channels, height, width)
    )
    clips = []
    for number, (image, name) in enumerate(zip(images, block.classes, strict=False), block.first):
        identity = f"{Path(block.path).stem}_{number:06d}"
        clips.append(
            Clip(
                np.ascontiguousarray(image),
                {
                    "id": identity,
                    "source": identity,
                    "duration": 0.0,
                    "class": name,
                    **columns[name],
                    "official": block.split,
                },
            )
        )
    return clips


def build_folder(
    out: str | Path,
    root: Path,
    *,
    size: int,
    channels: int,
    card: dict,
    factors: list[str],
    published: dict[str, int],
    workers: int | None,
    further: Labels | None = None,
    allowed: Sequence[str] | None = None,
) -> FactorSet:
    """Build a FactorSet from an image folder <split>/<class>/*; class folders outside `allowed` are refused.

    `further` gives columns that follow from a class, in addition to its random half.
    """
    found = image_folder(root)
    names = sorted({name for _, _, name in found})
    for name in names if allowed else ():
        if name not in allowed:
            raise unknown(f"class folder in {root}", name, allowed)
    sides = assign_halves(names)
    columns = {name: {"half": sides[name], **(further(name) if further else {})} for name in names}
    counts = count(card["name"], ((split, 1) for _, split, _ in found), published)
    return build(
        out,
        found,
        partial(_read_picture, root=str(root), size=size, channels=channels, columns=columns),
        card=card | counts,
        factors=factors,
        workers=workers,
        title=card["name"],
    )


def _read_picture(
    item: tuple[str, str, str], root: str, size: int, channels: int, columns: dict[str, dict[str, str]]
) -> list[Clip]:
    path, split, name = item
    return [
        Clip(
            read_image(Path(root) / path, size, channels),
            {"id": path, "source": path, "duration": 0.0, "class": name, **columns[name], "official": split},
        )
    ]
