"""Features of all requested layers of a network in one pass over the data, in fixed memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from atlab.errors import AtlabError, unknown
from atlab.system import devices
from atlab.system.files import allocated, scratch
from atlab.taps import Taps, unwrap
from atlab.training.evaluation import outputs

IN_MEMORY = 256 << 20  # bytes; more goes to files
BLOCK = 1 << 19  # numbers pooled at a time


def mean(maps: Tensor) -> Tensor:
    """Mean over positions: [B, C, ...] -> [B, C] float32.

    >>> mean(torch.ones(2, 3, 4, 5)).shape
    torch.Size([2, 3])
    """
    return torch.cat([x.mean(1) for x in _blocks(maps)])


def mean_std(maps: Tensor) -> Tensor:
    """Mean and standard deviation over positions, side by side: [B, C, ...] -> [B, 2 C] float32.

    >>> mean_std(torch.ones(2, 3, 4, 5))[0]
    tensor([1., 1., 1., 0., 0., 0.])
    """
    return torch.cat([torch.cat([m, _spread(x, m)], 1) for x in _blocks(maps) for m in [x.mean(1)]])


def _spread(x: Tensor, centre: Tensor) -> Tensor:
    # Ten times faster than torch.std_mean, and as exact: the deviations are squared, not the values.
    return (x - centre[:, None]).square_().mean(1).sqrt_()


def _blocks(maps: Tensor) -> Iterator[Tensor]:
    """[B, C, ...] in parts [b, N, C], float32 (float64 stays), each small enough for the processor's cache."""
    x = maps.flatten(2).mT
    if maps.ndim == 4 and maps.is_contiguous(memory_format=torch.channels_last):
        x = maps.permute(0, 2, 3, 1).flatten(1, 2)
    clips = len(x) if x.is_cuda else max(1, BLOCK // max(1, x[0].numel()))
    return (part if part.dtype == torch.float64 else part.float() for part in x.split(clips))


POOLS: dict[str, Callable[[Tensor], Tensor]] = {"mean_std": mean_std, "mean": mean}


def pooled(maps: Tensor, pool: str = "mean_std") -> Tensor:
    """One vector per clip by the named rule; features without positions [B, C] are taken as they are.

    Raises AtlabError for an unknown rule, and for features that are not [B, C, ...].
    """
    if pool not in POOLS:
        raise unknown("pooling rule", pool, POOLS)
    if maps.ndim < 2:
        raise AtlabError(f"features must be [B, C, ...], found shape {tuple(maps.shape)}")
    if maps.ndim == 2:
        return maps if maps.dtype == torch.float64 else maps.float()
    return POOLS[pool](maps)


class Features(Mapping[str, np.ndarray]):
    """What `extract` found: layer name -> float32 [N, D], clips in the order of `rows`.

    Attributes:
        rows: row numbers of the clips in their data set, int64 [N].
        logits: the network's outputs, float32 [N, K].
        pool: the rule that made vectors of feature maps.
        folder: where the arrays lie if they are memory-mapped, else None; a temporary one goes with this object.
    """

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        logits: np.ndarray,
        rows: np.ndarray,
        pool: str,
        folder: Path | None = None,
        temporary: ExitStack | None = None,
    ) -> None:
        self._arrays, self.logits, self.rows, self.pool, self.folder = arrays, logits, rows, pool, folder
        if temporary is not None:
            weakref.finalize(self, temporary.close)

    def __getitem__(self, layer: str) -> np.ndarray:
        if layer not in self._arrays:
            raise unknown("layer", layer, self._arrays)
        return self._arrays[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{layer} {array.shape[1]}" for layer, array in self._arrays.items())
        return f"Features({len(self.rows)} clips, pool {self.pool!r}: {shapes})"


def layers_of(model: nn.Module) -> list[str]:
    """The layers that are measured if none is named: the activations of all convolutions.

    >>> import atlab
    >>> layers_of(atlab.models.vgg16(2, width=1 / 16))[:3]
    ['conv1', 'conv2', 'conv3']
    """
    names = [name for name in getattr(unwrap(model), "tap_points", {}) if not name.endswith(".pre")]
    if not names:
        raise AtlabError(f"{type(unwrap(model)).__name__} has no tap_points: name the layers to measure")
    return names


@torch.no_grad()
def extract(
    model: nn.Module,
    batches,
    layers: str | Iterable[str] | None = None,
    pool: str = "mean_std",
    *,
    folder: str | Path | None = None,
    precision: str = "auto",
    progress: bool = True,
) -> Features:
    """Tap all layers in one pass over the clips and pool each feature map to one vector per clip.

    Memory holds one batch of feature maps; the vectors go to memory-mapped files in `folder`, or, up to 256 MiB in all,
    stay in memory if no folder is given (beyond that, into a temporary folder).

    Args:
        model: any network; evaluated on the device where its parameters are, without dropout.
        batches: `atlab.data.Batches` or `InMemory`, not shuffled.
        layers: names as in `atlab.Taps`; all convolutions if None.
        pool: "mean_std" (2 C numbers), or "mean" (C).

    Raises:
        AtlabError: unknown layer or rule, shuffled batches, no clips.

    >>> import atlab
    >>> clips = atlab.data.InMemory(torch.randn(6, 1, 32, 32), torch.zeros(6, dtype=torch.int64), batch_size=4)
    >>> extract(atlab.models.vgg16(3, width=1 / 16), clips, ["conv1", "conv5"])
    Features(6 clips, pool 'mean_std': conv1 8, conv5 32)
    """
    if batches.shuffle:
        raise AtlabError("features are extracted in the clips' order: the batches must not be shuffled")
    layers = layers_of(model) if layers is None else layers
    mode = devices.precision(precision, next(model.parameters()).device)
    n, start, store, rows, logits, temporary = batches.clips, 0, None, [], [], ExitStack()
    with Taps(model, layers) as taps:
        for batch, found in outputs(model, batches, mode, title="features", progress=progress):
            logits.append(found.float().cpu())
            vectors = {layer: pooled(taps.pop(layer), pool).cpu().numpy() for layer in taps.layers}
            if store is None:
                store, place = _allocate({k: v.shape[1] for k, v in vectors.items()}, n, folder, temporary)
            for layer, part in vectors.items():
                store[layer][start : start + len(part)] = part
            rows.append(batch.index)
            start += len(batch.index)
    return Features(store, torch.cat(logits).numpy(), torch.cat(rows).numpy(), pool, place, temporary)


def _allocate(
    sizes: dict[str, int], n: int, folder: str | Path | None, temporary: ExitStack
) -> tuple[dict[str, np.ndarray], Path | None]:
    if folder is None and 4 * n * sum(sizes.values()) <= IN_MEMORY:
        return {layer: np.empty((n, d), np.float32) for layer, d in sizes.items()}, None
    place = temporary.enter_context(scratch("features")) if folder is None else Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    files = {layer: place / f"{layer}.npy" for layer in sizes}
    return {layer: allocated(file, np.float32, (n, sizes[layer])) for layer, file in files.items()}, place


def batches_of(fs, rows=None, *, device: str | torch.device = "cpu", batch_size: int = 64):
    """All clips of `rows` (all if None) in order, without class numbers: -> `atlab.data.Batches`."""
    from atlab.data import Batches

    rows = np.arange(len(fs)) if rows is None else rows
    return Batches(fs, rows, np.zeros(len(fs), np.int64), batch_size=batch_size, device=device)
