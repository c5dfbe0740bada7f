"""Tiny image sets in the official on-disk layouts; the pixels are random."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_cifar(path: Path, labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """A CIFAR binary file; labels [N, 1 or 2] (the last is the class). Returns the images [N, 3, 32, 32]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = pixels(len(labels), 3, 32, 32, seed=seed)
    path.write_bytes(np.concatenate([labels.astype(np.uint8), images.reshape(len(labels), -1)], axis=1).tobytes())
    return images


def cifar10(root: Path, per_batch: int = 20, tested: int = 10) -> tuple[np.ndarray, list[int]]:
    """cifar-10-batches-bin with all six batches; returns images and labels in the order of the files."""
    images, labels = [], []
    files = [(f"data_batch_{n}.bin", per_batch) for n in range(1, 6)] + [("test_batch.bin", tested)]
    for seed, (name, size) in enumerate(files):
        numbers = np.arange(size) % 10
        images.append(write_cifar(root / "cifar-10-batches-bin" / name, numbers[:, None], seed))
        labels += numbers.tolist()
    return np.concatenate(images), labels


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def idx_set(folder: Path, sizes: tuple[int, int] = (30, 12), suffix: str = ".gz") -> dict[str, np.ndarray]:
    """The four idx files of MNIST; returns images by part."""
    images = {}
    for part, size in zip(("train", "t10k"), sizes, strict=False):
        images[part] = pixels(size, 28, 28, seed=size)
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", images[part])
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", np.arange(size) % 10)
    return images


def svhn(root: Path, sizes: dict[str, int], compressed: bool = True) -> dict[str, np.ndarray]:
    """The .mat files; returns the images [32, 32, 3, N] by part. The digit 0 has the label 10."""
    images = {}
    root.mkdir(parents=True, exist_ok=True)
    for part, size in sizes.items():
        images[part] = pixels(32, 32, 3, size, seed=size)
        labels = (np.arange(size) % 10 + 1).astype(np.uint8)[:, None]
        savemat(root / f"{part}_32x32.mat", {"X": images[part], "y": labels}, do_compression=compressed)
    return images


def picture(path: Path, width: int = 32, height: int = 32, mode: str = "RGB", seed: int = 0) -> np.ndarray:
    """A picture in the format of its suffix; returns its pixels as PIL has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = pixels(height, width, *(() if mode == "L" else (3,)), seed=seed)
    Image.fromarray(array).save(path)
    return array


def morpho_mnist(root: Path, sizes: tuple[int, int] = (30, 12), missing: int = 0) -> dict[str, np.ndarray]:
    """The set `original` of Morpho-MNIST; the last `missing` images of each part have no row in the csv."""
    images = idx_set(root / "original", sizes)
    for part, size in zip(("train", "t10k"), sizes, strict=False):
        rng = np.random.default_rng(size)
        rows = ["index,area,length,thickness,slant,width,height"]
        rows += [
            ",".join([str(n), *(f"{value:.6f}" for value in rng.uniform(1, 20, 6))]) for n in range(size - missing)
        ]
        (root / "original" / f"{part}-morpho.csv").write_text("\n".join(rows) + "\n")
    return images
