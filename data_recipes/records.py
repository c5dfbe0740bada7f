"""Files of images of one size, one after another, as work items read them in parts: CIFAR, MNIST, SVHN."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from atlab.errors import AtlabError
from data_recipes.images import read_idx

LARGEST = 2 << 30  # bytes of images in one file; SVHN's extra_32x32.mat has 1.6e9


class Records(NamedTuple):
    """A file of images of one size, one after another, and the class of each."""

    path: Path
    split: str
    classes: Sequence[str]
    shape: tuple[int, int, int]  # channels, height, width
    offset: int = 0  # bytes before the first record
    labels: int = 0  # bytes before the pixels of each record
    columns_first: bool = False  # pixels run down the columns, as MATLAB stores them


def find(raw: Path, names: Sequence[str], folders: Sequence[str] = ()) -> Path | None:
    """The first of the files `names` in `raw` or in one of its folders."""
    places = [raw / folder for folder in ("", *folders)]
    return next((place / name for place in places for name in names if (place / name).is_file()), None)


def need(raw: Path, names: Sequence[str], folders: Sequence[str] = ()) -> Path:
    """`find`, or AtlabError naming what was looked for and where."""
    path = find(raw, names, folders)
    if path is None:
        places = ", ".join(str(raw / folder) for folder in ("", *folders))
        raise AtlabError(f"{' or '.join(names)} not found; looked in {places}")
    return path


def idx_records(
    raw: Path, scratch: Path, folders: Sequence[str], part: str, split: str, classes: Sequence[str]
) -> Records:
    """Records of `<part>-images-idx3-ubyte` and its labels, plain or .gz (unpacked to `scratch`)."""
    images, labels = (
        need(raw, (f"{part}-{kind}-ubyte", f"{part}-{kind}-ubyte.gz"), folders)
        for kind in ("images-idx3", "labels-idx1")
    )
    pixels, numbers = read_idx(images), read_idx(labels)
    if pixels.ndim != 3 or numbers.shape != pixels.shape[:1]:
        raise AtlabError(f"{labels} has labels of shape {numbers.shape} for images of shape {pixels.shape} in {images}")
    if numbers.max(initial=0) >= len(classes):
        raise AtlabError(f"{labels} has class number {numbers.max()}; allowed: 0 to {len(classes) - 1}")
    if images.suffix == ".gz":
        images = scratch / f"{part}-images-idx3-ubyte"
        images.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, *pixels.shape) + pixels.tobytes())
    return Records(images, split, [classes[n] for n in numbers], (1, *pixels.shape[1:]), offset=16)


def cifar_records(path: Path, split: str, names: Sequence[str], labels: int = 1) -> Records:
    """Records of a CIFAR binary file: `labels` bytes, the last of them the class, then 3 x 32 x 32 pixels."""
    stride = labels + 3072
    size = path.stat().st_size
    if size == 0 or size % stride:
        raise AtlabError(f"{path} is truncated: its {size:,} bytes are not a multiple of {stride:,}")
    numbers = np.memmap(path, np.uint8, "r").reshape(-1, stride)[:, labels - 1]
    if numbers.max() >= len(names):
        raise AtlabError(f"{path} has class number {numbers.max()}; allowed: 0 to {len(names) - 1}")
    return Records(path, split, [names[n] for n in numbers], (3, 32, 32), labels=labels)


def mat_records(path: Path, scratch: Path, split: str) -> Records:
    """Records of an SVHN file: `X` uint8 [32, 32, 3, N], written to `scratch`; `y`, where 10 is digit 0.

    Shapes are checked before anything is read; the images of one file are in memory while they are written (1.6 GB of
    extra_32x32.mat).
    """
    from scipy.io import loadmat, whosmat

    try:
        found = {name: (shape, kind) for name, shape, kind in whosmat(path)}
        shape, count = _svhn_shape(*(found.get(name) for name in ("X", "y")))
        arrays = loadmat(path, variable_names=["X", "y"])
    except Exception as error:  # a damaged file makes scipy's reader stumble in many ways
        raise AtlabError(f"{path} is no complete SVHN file: {error}") from error
    if arrays["X"].dtype != np.uint8 or arrays["X"].shape != shape:
        raise AtlabError(f"{path} is no complete SVHN file: X is {arrays['X'].dtype} {arrays['X'].shape}")
    pixels = scratch / f"{path.stem}.u8"
    arrays["X"].T.tofile(pixels)  # MATLAB's order: the first dimension runs fastest
    names = [str(int(n) % 10) for n in arrays["y"].reshape(count)]
    return Records(pixels, split, names, (3, shape[0], shape[1]), columns_first=True)


def _svhn_shape(images: tuple | None, labels: tuple | None) -> tuple[tuple[int, ...], int]:
    """Shape of X and number of labels, from the file's list of variables; AtlabError unless they are SVHN's."""
    for name, found in (("X", images), ("y", labels)):
        if found is None:
            raise AtlabError(f"no variable {name}")
    (shape, kind), (of_labels, _) = images, labels
    if kind != "uint8":
        raise AtlabError(f"X is not an array of uint8 but of {kind}")
    count = math.prod(of_labels)
    if len(shape) != 4 or shape[2] != 3 or shape[3] != count:
        raise AtlabError(f"X has shape {shape} for {count} labels y; expected (height, width, 3, labels)")
    if math.prod(shape) > LARGEST:
        raise AtlabError(f"X has shape {shape}, {math.prod(shape):,} bytes; allowed are {LARGEST:,}")
    return shape, count


def exactly(source: BinaryIO, size: int) -> bytes:
    """The next `size` bytes; EOFError if the file ends before them."""
    data = source.read(size)
    if len(data) < size:
        raise EOFError("the file ends early")
    return data
