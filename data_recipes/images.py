"""Helpers of the image recipes: pictures as arrays, image folders, idx files, archives unpacked safely."""

from __future__ import annotations

import gzip
import math
import shutil
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from atlab.data.build import BrokenInput
from atlab.errors import AtlabError
from data_recipes.corpus import files_below

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
UNPACKED, BLOWN_UP = 1 << 30, 100  # bytes that any archive may unpack to; times its own size that a larger one may
HEAD = 512  # bytes that a member counts beyond its content: millions of empty files fill a disk, too
LARGEST_IDX = 1 << 30  # bytes; MNIST's images are 47 million
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def read_image(path: str | Path, size: int | None = None, channels: int = 3) -> np.ndarray:
    """A picture as uint8 [channels, height, width]; 3 channels are RGB, 1 is grey.

    With `size` it is scaled so that its shorter side fits and cropped about the centre to [channels, size,
    size]. Raises BrokenInput if it cannot be decoded.

    >>> import tempfile; from PIL import Image
    >>> path = Path(tempfile.mkdtemp()) / "a.png"
    >>> Image.new("RGB", (60, 40), (255, 0, 0)).save(path)
    >>> read_image(path, size=32).shape, read_image(path, channels=1).shape
    ((3, 32, 32), (1, 40, 60))
    """
    from PIL import Image, ImageOps

    mode = "L" if channels == 1 else "RGB"
    if not Path(path).is_file():  # a named pipe would wait for ever
        raise BrokenInput(f"{path}: is not a regular file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if size:
                    image.draft(mode, (2 * size, 2 * size))  # JPEGs decode at a fraction of their size: 3 times faster
                image = image.convert(mode)
    except (
        OSError,
        SyntaxError,
        ValueError,
        struct.error,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise BrokenInput(f"{path}: {error}") from error
    if size and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), method=Image.Resampling.BICUBIC)
    array = np.asarray(image)
    return np.ascontiguousarray(array[None] if channels == 1 else array.transpose(2, 0, 1))


def header(path: str | Path) -> tuple[tuple[int, int], bool] | None:
    """(width, height) and whether a picture is grey, from its header alone; None if that cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.size, image.mode in ("1", "L", "I;16", "I", "F")
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError):
        return None


def is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def image_folder(root: Path) -> list[tuple[str, str, str]]:
    """Pictures of a folder <split>/<class>/*, sorted: (path relative to root, split, class).

    Split folders are named train, val, valid, validation, test; "train" is meant where classes come directly.
    Raises AtlabError where there are no pictures, or split folders next to others.
    """
    folders = sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))
    splits = {f: SPLIT_NAMES[f.name.lower()] for f in folders if f.name.lower() in SPLIT_NAMES} or {root: "train"}
    if root not in splits and (strange := [f.name for f in folders if f not in splits]):
        raise AtlabError(
            f"{root} has the folder {strange[0]!r} next to its splits; allowed: {', '.join(sorted(SPLIT_NAMES))}"
        )
    found = []
    for folder, split in splits.items():
        for group in sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith(".")):
            found += [
                (path.relative_to(root).as_posix(), split, group.name) for path in files_below(group) if is_image(path)
            ]
    if not found:
        raise AtlabError(
            f"no pictures in {root}: expected <split>/<class>/<picture> with split "
            f"{', '.join(sorted(SPLIT_NAMES))} and picture {', '.join(sorted(SUFFIXES))}"
        )
    return found


def read_idx(path: str | Path) -> np.ndarray:
    """The uint8 array of an idx file (the format of MNIST), plain or .gz.

    Raises AtlabError if the file is no idx file of bytes or its length is not what its header says.
    """
    path = Path(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            content = file.read(LARGEST_IDX + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise AtlabError(f"{path} cannot be read: {error}") from None
    if len(content) > LARGEST_IDX:
        raise AtlabError(f"{path} holds more than {LARGEST_IDX:,} bytes, which no set of this kind does")
    if len(content) < 4 or content[:3] != b"\0\0\x08" or not 1 <= content[3] <= 4 or len(content) < 4 + 4 * content[3]:
        raise AtlabError(f"{path} is no idx file of bytes (it begins with {content[:4]!r})")
    shape = struct.unpack_from(f">{content[3]}I", content, 4)
    data = np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape))
    if data.size != math.prod(shape):
        raise AtlabError(f"{path} is truncated or padded: its header says {shape}, it holds {data.size} bytes")
    return data.reshape(shape)


def quantile_classes(values: np.ndarray, reference: np.ndarray, classes: int) -> tuple[np.ndarray, list[float]]:
    """Class names q1 (lowest) .. qK by the quantiles of `reference` (training values), and the K - 1 edges.

    Raises AtlabError if the values take too few levels for that many classes.

    >>> quantile_classes(np.array([0.0, 5.0, 9.0]), np.arange(10.0), 2)
    (array(['q1', 'q2', 'q2'], dtype=object), [4.5])
    """
    edges = np.quantile(np.asarray(reference, np.float64), np.arange(1, classes) / classes)
    if len(np.unique(edges)) < len(edges):
        raise AtlabError(f"{classes} quantile classes need {classes - 1} different edges; found {edges.tolist()}")
    numbers = np.searchsorted(edges, values, side="right")
    return np.array([f"q{n + 1}" for n in numbers], dtype=object), edges.tolist()


def is_archive(path: str | Path) -> bool:
    return Path(path).is_file() and str(path).lower().endswith(ARCHIVES)


@contextmanager
def scratch_folder(out: str | Path) -> Iterator[Path]:
    """An empty folder next to `out`, removed at the end: nothing is ever unpacked into the raw folder."""
    out = Path(out)
    scratch = out.parent / f".{out.name}.unpacked"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def raw_folder(raw: str | Path, out: str | Path) -> Iterator[Path]:
    """`raw` itself if it is a folder; a .zip or .tar(.gz, .bz2, .xz) is unpacked next to `out` meanwhile.

    Raises AtlabError if `raw` is neither, or holds a member that would leave the folder.
    """
    raw = Path(raw)
    if raw.is_dir():
        yield raw
    elif is_archive(raw):
        with scratch_folder(out) as scratch:
            unpack(raw, scratch)
            inside = [p for p in scratch.iterdir() if not p.name.startswith((".", "__MACOSX"))]
            yield inside[0] if len(inside) == 1 and inside[0].is_dir() else scratch
    else:
        raise AtlabError(f"raw data not found: {raw} is no folder and no archive ({', '.join(ARCHIVES)})")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a .zip or .tar.

    Raises AtlabError for a broken one, a member that points outside the folder, and one that would not fit on the disk or
    unpacks to more than a gigabyte and 100 times its own size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size, most = 0, min(shutil.disk_usage(folder).free, max(UNPACKED, BLOWN_UP * archive.stat().st_size))

    def fits(more: int) -> None:
        nonlocal size
        size += more + HEAD
        if size > most:
            raise AtlabError(
                f"{archive} unpacks to more than {most / 1e9:,.1f} GB, {BLOWN_UP} times its size or what the disk has free: refused"
            )

    def fitting(members: Iterable[tarfile.TarInfo]) -> Iterator[tarfile.TarInfo]:
        for member in members:
            fits(member.size)
            yield member

    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as file:
                for member in file.infolist():
                    fits(member.file_size)
                for name in file.namelist():
                    if not (folder / name).resolve().is_relative_to(folder.resolve()):
                        raise AtlabError(f"{archive} holds {name!r}, which points outside its folder: refused")
                file.extractall(folder)
        else:
            with tarfile.open(archive) as file:
                file.extractall(folder, fitting(file), filter="data")
                while block := file.fileobj.read(1 << 20):  # to the very end, where checksums are compared
                    fits(len(block))
    except tarfile.FilterError as error:
        raise AtlabError(f"{archive} holds {error.tarinfo.name!r}, which points outside its folder: refused") from error
    except AtlabError:
        raise
    except Exception as error:  # zipfile, tarfile and their decompressors raise a dozen types for a corrupt archive
        raise AtlabError(f"{archive} cannot be unpacked: {error}") from error
