"""A teacher whose targets are computed once per clip and then read from a memory map."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from atlab.errors import AtlabError, unknown
from atlab.functional.aggregations import AGGREGATIONS
from atlab.functional.anti_transfer import describe
from atlab.functional.descriptors import Descriptor, flat
from atlab.system.files import allocated, locked, new_folder
from atlab.taps import tensors
from atlab.teachers.live import Teacher

KERNELS = ("gram", "position_gram")
FEATURES = ("clip_kernel", "none", "pairwise", "stochastic_pairwise")
RESIDENT_BYTES = 1 << 30
DISK_SHARE = 0.5  # of the free space that one cache may take: others want theirs


class Clips(Protocol):
    """What is used of `atlab.data.Batches`: the clips in batches (x, y, index), how many, and what tells them from others."""

    clips: int
    augmented: bool

    @property
    def identity(self) -> str:
        """Which clips these are, and how they are prepared."""

    def epoch(self, number: int) -> Iterator[Any]:
        """The batches of an epoch."""


class CachedTeacher:
    """Aggregated teacher features of every clip, float16 on disk: training then costs no teacher forward.

    The paper names this remedy but did not build it (section 5.7). Each clip's target is divided by its largest
    entry (kept in float32) before rounding. Grams are stored as their upper triangle, or as the features
    themselves where those are smaller. A cache that fits (1 GiB) is held on the device. Targets belong to the
    clip as it is stored: random augmentation needs a live `Teacher`.

    Args:
        teacher: the live teacher; used to build and to identify the cache, then no longer run.
        batches: `atlab.data.Batches`, or several (training and validation), whose clips are cached.
        folder: where the cache lives; made if absent, reused if it belongs to this teacher, data, layers and
            aggregation, refused otherwise.
        aggregation: a name in `functional.AGGREGATIONS`.
        channels_last: run the teacher in channels_last, as training does.

    Raises:
        AtlabError: augmented batches; a folder that holds the cache of another teacher or other data; too
            little disk space; at use: a clip that was not cached.

    >>> import atlab, tempfile
    >>> teacher = Teacher(atlab.models.vgg16(num_classes=4, width=1 / 16), layers="conv5")
    >>> clips = atlab.data.InMemory(torch.randn(6, 1, 32, 32), torch.zeros(6, dtype=torch.long))
    >>> cached = CachedTeacher(teacher, clips, tempfile.mkdtemp() + "/cache")
    >>> cached.targets(index=torch.tensor([0, 5]))["conv5"].shape
    torch.Size([2, 16, 16])
    """

    def __init__(
        self,
        teacher: Teacher,
        batches: Clips | Sequence[Clips],
        folder: str | Path,
        aggregation: str = "gram",
        channels_last: bool = False,
    ) -> None:
        if aggregation not in AGGREGATIONS:
            raise unknown("aggregation of a cached teacher", aggregation, AGGREGATIONS)
        parts: list[Clips] = [*batches] if isinstance(batches, Sequence) else [batches]
        if any(part.augmented for part in parts):
            raise AtlabError(
                "a cached teacher cannot follow augmented inputs: use atlab.Teacher, or turn augmentation off"
            )
        self.layers, self.aggregation, self.folder = teacher.layers, aggregation, Path(folder)
        self._network = type(teacher.model).__name__
        key = _key(teacher, parts, aggregation)
        with locked(self.folder):  # runs that start together build it once
            if not self.folder.exists():
                _build(self.folder, key, teacher, parts, aggregation, channels_last)
        self.card = _open(self.folder, key)
        rows = np.load(self.folder / "rows.npy")
        self._position = torch.full((int(rows.max()) + 1,), -1)
        self._position[torch.from_numpy(rows)] = torch.arange(len(rows))
        self._stored = {layer: self._read(layer) for layer in self.layers}

    def targets(
        self, *inputs: object, index: Tensor | None = None, channels_last: bool = False, **keywords: object
    ) -> dict[str, Descriptor]:
        """The descriptor of each layer for the clips of `index` [B] (row numbers); the first input only names the device."""
        if index is None:
            raise AtlabError("a cached teacher needs the clips' row numbers: call at(x, index=batch.index)")
        index, given = torch.as_tensor(index).cpu(), tensors((inputs, keywords))
        if len(given) > 1:
            raise AtlabError(
                f"cached targets were computed from one input per clip, got {len(given)}: use atlab.Teacher"
            )
        x = given[0] if given else None
        if x is not None and len(index) != len(x):
            raise AtlabError(f"expected one row number per clip, got {len(index)} for {len(x)} clips")
        known = (index >= 0) & (index < len(self._position))
        position = self._position[index.clamp(0, len(self._position) - 1)]
        if not bool((known & (position >= 0)).all()):
            missing = index[~known | (position < 0)][:5].tolist()
            raise AtlabError(
                f"clips in rows {missing} are not in the cache {self.folder}; it holds {self.card['clips']} clips"
            )
        device = x.device if x is not None else torch.device("cpu")
        return {layer: self._restore(layer, position, device) for layer in self.layers}

    @property
    def identity(self) -> str:
        """The live teacher's: hash of the weights, and the layers."""
        return self.card["teacher"]

    def check_use(self, aggregation: object, wants_features: bool) -> None:
        """AtlabError unless a loss with this aggregation can be computed from what is stored."""
        if aggregation != self.aggregation:
            raise AtlabError(
                f"the cache {self.folder} was built for {self.aggregation!r}, the loss asks for {aggregation!r}"
            )
        if wants_features:
            raise AtlabError(
                "published=True and similarities of your own need the teacher's features: use atlab.Teacher"
            )

    def describe(self, layer: str) -> str:
        """The network and one of its layers, in words."""
        return f"{self._network} {layer} (cached)"

    def close(self) -> None:
        """Let go of the memory map."""
        self._stored = {}

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "_stored"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._stored = {layer: self._read(layer) for layer in self.layers}

    def _read(self, layer: str) -> list:
        values, scales = (np.load(self.folder / f"{layer}.{part}.npy", mmap_mode="r") for part in ("values", "scales"))
        if self.card["bytes"] <= RESIDENT_BYTES:
            return [torch.from_numpy(np.array(stored)) for stored in (values, scales)]
        return [values, scales]

    def _restore(self, layer: str, position: Tensor, device: torch.device) -> Descriptor:
        values, scales = self._stored[layer]
        if isinstance(values, Tensor):
            if values.device != device:
                values, scales = self._stored[layer] = [values.to(device), scales.to(device)]
            position = position.to(device)
            batch, scale = values[position], scales[position]
        else:
            rows = position.numpy()
            batch, scale = (torch.from_numpy(stored[rows]).to(device, non_blocking=True) for stored in (values, scales))
        batch = batch.float() * scale.reshape(-1, *[1] * (batch.ndim - 1))
        form = self.card["forms"][layer]
        if form == "features":
            return describe(batch, self.aggregation)
        return _unpack(batch, self.card["sizes"][layer]) if form == "triangle" else batch


def cached_or_live(
    teacher: Teacher,
    batches: Sequence[Clips],
    folder: str | Path,
    aggregation: str = "gram",
    channels_last: bool = False,
) -> Teacher | CachedTeacher:
    """The teacher behind a cache in `folder`, or live, with a warning, if the disk has no room for it.

    A cache is made in one teacher pass and saves one in every epoch after that: where it fits it was the faster choice at
    all layers and widths that were measured (docs/performance.md). Room is half of the free space; a cache that is there
    is used. Arguments are those of `CachedTeacher`.
    """
    folder = Path(folder)
    if not folder.exists():
        need, free = _bytes(teacher, batches, aggregation, channels_last), _free(folder)
        if need > DISK_SHARE * free:
            warnings.warn(
                f"the teacher runs live: a cache of {','.join(teacher.layers)} takes {need / 1e9:.1f} GB, more than half of the "
                f"{free / 1e9:.1f} GB that are free",
                stacklevel=2,
            )
            return teacher
    return CachedTeacher(teacher, batches, folder, aggregation, channels_last)


@torch.no_grad()
def _bytes(teacher: Teacher, parts: Sequence, aggregation: str, channels_last: bool) -> int:
    """What a cache of these clips takes on disk, known from the first of them."""
    batch = next(iter(parts[0].epoch(0)))
    features = teacher.targets(batch.x[:1], index=batch.index[:1], channels_last=channels_last)
    values = (_pack(maps, aggregation)[2] for maps in features.values())
    return sum(2 * stored[0].numel() + 4 for stored in values) * sum(part.clips for part in parts)


def _free(folder: Path) -> int:
    """Free bytes of the disk that a folder, not yet made, will be on."""
    return shutil.disk_usage(next(parent for parent in folder.absolute().parents if parent.exists())).free


def _key(teacher: Teacher, parts: list, aggregation: str) -> dict:
    return {
        "format": "atlab-targets-2",
        "layers": list(teacher.layers),
        "teacher": teacher.identity,
        "data": [part.identity for part in parts],
        "aggregation": aggregation,
    }


def _open(folder: Path, key: dict) -> dict:
    try:
        card = json.loads((folder / "card.json").read_text())
    except (OSError, json.JSONDecodeError):
        raise AtlabError(f"{folder} is not a cache of teacher targets (no readable card.json)") from None
    for part, wanted in key.items():
        if card.get(part) != wanted:
            raise AtlabError(
                f"{folder} is the cache of another {part}: expected {wanted!r}, found {card.get(part)!r}; name another folder"
            )
    return card


@torch.no_grad()
def _build(folder: Path, key: dict, teacher: Teacher, parts: list, aggregation: str, channels_last: bool) -> None:
    """One teacher pass over all clips fills every layer; the folder appears only when it is complete."""
    clips = sum(part.clips for part in parts)
    rows, files, forms, sizes = np.empty(clips, np.int64), {}, {}, {}
    with new_folder(folder) as new:
        done = 0
        for batch in (batch for part in parts for batch in part.epoch(0)):
            features = teacher.targets(batch.x, index=batch.index, channels_last=channels_last)
            end = done + len(batch.index)
            rows[done:end] = batch.index.cpu().numpy()
            for layer, maps in features.items():
                with torch.autocast(maps.device.type, enabled=False):
                    forms[layer], sizes[layer], values = _pack(maps, aggregation)
                scales = values.abs().flatten(1).amax(1)
                values = (
                    values / scales.clamp_min(torch.finfo(torch.float32).tiny).reshape(-1, *[1] * (values.ndim - 1))
                ).half()
                if layer not in files:
                    files[layer] = _create(new, layer, clips, values.shape[1:])
                for file, stored in zip(files[layer], (values, scales), strict=True):
                    file[done:end] = stored.cpu().numpy()
            done = end
        size = sum(file.nbytes for pair in files.values() for file in pair)
        for pair in files.values():
            for file in pair:
                file.flush()
        np.save(new / "rows.npy", rows)
        card = key | {"clips": clips, "bytes": size, "forms": forms, "sizes": sizes}
        (new / "card.json").write_text(json.dumps(card, indent=1))


def _create(folder: Path, layer: str, clips: int, shape: tuple) -> tuple[np.memmap, np.memmap]:
    need, free = 2 * clips * int(np.prod(shape)), shutil.disk_usage(folder).free
    if need > free:
        raise AtlabError(
            f"the cache of layer {layer!r} needs {need / 1e9:.1f} GB, {folder.parent} has {free / 1e9:.1f} GB free"
        )
    values = allocated(folder / f"{layer}.values.npy", np.float16, (clips, *shape))
    return values, allocated(folder / f"{layer}.scales.npy", np.float32, (clips,))


def _pack(features: Tensor, aggregation: str) -> tuple[str, int, Tensor]:
    """What to store of feature maps [B, C, H, W]: (form, size of the kernel or 0, values [B, ...])."""
    maps = flat(features)
    if aggregation in FEATURES:
        return "features", 0, maps
    if aggregation in KERNELS:
        n = maps.shape[1] if aggregation == "gram" else maps.shape[2]
        if maps[0].numel() < n * (n + 1) // 2:
            return "features", 0, maps
        kernel = cast(Tensor, AGGREGATIONS[aggregation](features))
        upper = torch.triu_indices(n, n, device=kernel.device)
        return "triangle", n, kernel[:, upper[0], upper[1]]
    return "vector", 0, cast(Tensor, AGGREGATIONS[aggregation](features))


def _unpack(triangle: Tensor, n: int) -> Tensor:
    """[B, n (n + 1) / 2] -> symmetric [B, n, n]."""
    upper = torch.triu_indices(n, n, device=triangle.device)
    kernel = triangle.new_empty(len(triangle), n, n)
    kernel[:, upper[0], upper[1]] = triangle
    kernel[:, upper[1], upper[0]] = triangle
    return kernel
