"""Similarity of the features of two networks on the same clips: unbiased linear CKA, and the anti-transfer similarity.

CKA (Kornblith et al. 2019) asks whether two layers give the clips the same similarity structure; its terms, unbiased estimates of HSIC
(Song et al. 2012), are averaged over minibatches before the ratio (Nguyen, Raghu & Kornblith 2021), so memory holds one
batch. AT similarity is what anti-transfer makes small (Guizzo et al. 2021, eq. 2).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from scipy import stats as scipy_stats
from torch import Tensor, nn
from tqdm.auto import tqdm

from atlab import functional
from atlab.errors import AtlabError
from atlab.functional.descriptors import u_centre
from atlab.invariance.features import layers_of
from atlab.stats import mean_interval
from atlab.system import devices
from atlab.taps import Taps, unwrap

FLOORS = 3  # networks with random weights


@torch.no_grad()
def similarity(
    model: nn.Module,
    other: nn.Module,
    batches,
    layers: str | Iterable[str] | None = None,
    other_layers: str | Iterable[str] | None = None,
    *,
    floor: bool = False,
    precision: str = "fp32",
    progress: bool = True,
) -> pd.DataFrame:
    """Compare every layer of a network with every layer of another on the same clips: -> one row per pair of layers.

    cka: 1 if both layers give the clips the same similarity structure, 0 for unrelated features. Range: at most
    1, a little below 0 by chance. Invariant to orthogonal maps (so to the order of channels) and isotropic scaling of either
    layer, not to other linear maps. low, high: 95 % jackknife interval over minibatches.
    at: the squared cosine of channel Gram matrices, mean over clips, for layers of the same name and shape. Range 0 to 1,
    far above 0 for any features that are not negative. Invariant to scaling of a whole map, not to the order of channels.
    at_low, at_high: 95 % interval over clips.

    Args:
        batches: clips in order or shuffled; at least 4 a batch (a shorter last batch is left out); better 32 or more.
        layers, other_layers: names as in `atlab.Taps`; all convolutions, and the same as `layers`, if None.
        floor: also compare `other` with networks of `model`'s form with random weights (three, averaged): columns
            cka_floor and at_floor. Similarity that is not above its floor does not come from training.

    Raises:
        AtlabError: unknown layer; batches of fewer than 4 clips.

    >>> import atlab
    >>> clips = atlab.data.InMemory(torch.randn(24, 1, 32, 32), torch.zeros(24, dtype=torch.int64), batch_size=8)
    >>> net = atlab.models.vgg16(3, width=1 / 16)
    >>> table = similarity(net, net, clips, ["conv1", "conv5"])
    >>> table[["layer", "other"]].values.tolist(), table.cka[[0, 3]].round(4).tolist(), table["at"].round(4).tolist()
    ([['conv1', 'conv1'], ['conv1', 'conv5'], ['conv5', 'conv1'], ['conv5', 'conv5']], [1.0, 1.0], [1.0, nan, nan, 1.0])
    """
    layers = layers_of(model) if layers is None else layers
    layers = [layers] if isinstance(layers, str) else list(layers)
    other_layers = layers if other_layers is None else other_layers
    other_layers = [other_layers] if isinstance(other_layers, str) else list(other_layers)
    table = _compare(model, other, batches, layers, other_layers, precision, progress)
    if floor:
        found = [
            _compare(random_weights(model, seed), other, batches, layers, other_layers, precision, progress)
            for seed in range(FLOORS)
        ]
        for column in ("cka", "at"):
            table[f"{column}_floor"] = np.mean([f[column] for f in found], axis=0)
    return table


def random_weights(model: nn.Module, seed: int = 0) -> nn.Module:
    """A network of the same form with random weights, in evaluation mode; input normalisation and model card are kept.

    >>> import atlab
    >>> net = atlab.models.vgg16(3, width=1 / 16)
    >>> bool((random_weights(net).features[0].weight == net.features[0].weight).any())
    False
    """
    from atlab import models

    model = unwrap(model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if getattr(model, "architecture", None) in models.ARCHITECTURES:
            fresh = models.ARCHITECTURES[model.architecture](**model.arguments)
            fresh.load_state_dict(dict(model.named_buffers()), strict=False)
            if hasattr(model, "card"):
                vars(fresh)["card"] = model.card  # which classes its outputs are
        else:
            fresh = copy.deepcopy(model)
            for module in fresh.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
    return fresh.to(next(model.parameters()).device).eval()


def _compare(
    model, other, batches, layers: list[str], other_layers: list[str], precision: str, progress: bool
) -> pd.DataFrame:
    if min(batches.batch_size, batches.clips) < 4:
        raise AtlabError(
            f"CKA compares clips within a batch: at least 4, found {min(batches.batch_size, batches.clips)}"
        )
    mode = devices.precision(precision, next(model.parameters()).device)
    were = model.training, other.training
    for network in (model, other):
        mode.place(network).eval()
    cka, sizes, likeness = [], [], {layer: [] for layer in layers if layer in other_layers}
    try:
        with mode.settings(), Taps(model, layers) as mine, Taps(other, other_layers) as theirs:
            bar = tqdm(
                batches.epoch(0), total=len(batches), desc="similarity", delay=2, leave=False, disable=not progress
            )
            for x, _, _ in bar:
                if len(x) < 4:
                    continue
                with mode.autocast():
                    model(x.to(mode.device)), other(x.to(mode.device))
                one, two = (
                    {layer: mine.pop(layer) for layer in layers},
                    {layer: theirs.pop(layer) for layer in other_layers},
                )
                cka.append(hsic(list(one.values()), list(two.values())))
                sizes.append(len(x))
                for layer, values in likeness.items():
                    if one[layer].shape == two[layer].shape and one[layer].ndim > 2:
                        values.append(
                            functional.anti_transfer_loss(one[layer], two[layer], reduction="none").double().cpu()
                        )
    finally:
        model.train(were[0]), other.train(were[1])
    rows = _cka_rows(cka, np.array(sizes), layers, other_layers)
    for row in rows:
        values = likeness.get(row["layer"]) if row["layer"] == row["other"] else None
        found = mean_interval(torch.cat(values).numpy(), ends=(0, 1)) if values else (np.nan,) * 3
        row |= dict(zip(("at", "at_low", "at_high"), found[:3], strict=True)) | {"n": int(sum(sizes))}
    return pd.DataFrame(rows)


def hsic(one: Sequence[Tensor], two: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unbiased HSIC (linear kernels) of one batch: [A], [B] features [n, ...] -> of each pair [A, B], of each layer with itself [A], [B].

    >>> x, y = torch.randn(8, 3, 4, 4), torch.randn(8, 5)
    >>> [part.shape for part in hsic([x, x], [y])]
    [(2, 1), (2,), (1,)]
    """
    kernels = [torch.stack([_kernel(x).flatten() for x in side]) for side in (one, two)]
    n = len(one[0])
    scale = 1 / (n * (n - 3))
    cross = kernels[0] @ kernels[1].T * scale
    own = [k.square().sum(1) * scale for k in kernels]
    return cross.cpu().numpy(), own[0].cpu().numpy(), own[1].cpu().numpy()


def _kernel(features: Tensor) -> Tensor:
    """U-centred linear kernel of the clips, float64 [n, n]; centred features lose nothing in float32."""
    x = features.flatten(1)
    x = x if x.dtype == torch.float64 else x.float()
    x = x - x.mean(0)
    scale = x.abs().amax().clamp_min(1e-30)
    return u_centre(((x / scale) @ (x / scale).T).double()) * scale.double().square()


def _cka_rows(terms: list[tuple], sizes: np.ndarray, layers: list[str], other_layers: list[str]) -> list[dict]:
    cross, one, two = (np.stack([term[i] for term in terms]) for i in range(3))
    found = _ratio(cross, one, two, sizes)
    batches = len(sizes)
    low = high = np.full_like(found, np.nan)
    if batches > 2:
        without = np.stack(
            [_ratio(*(np.delete(part, b, 0) for part in (cross, one, two, sizes))) for b in range(batches)]
        )
        pseudo = batches * found - (batches - 1) * without
        half = scipy_stats.t.ppf(0.975, batches - 1) * pseudo.std(0, ddof=1) / np.sqrt(batches)
        low, high = found - half, np.minimum(found + half, 1.0)
    return [
        {"layer": a, "other": b, "cka": found[i, j], "low": low[i, j], "high": high[i, j], "batches": batches}
        for i, a in enumerate(layers)
        for j, b in enumerate(other_layers)
    ]


def _ratio(cross: np.ndarray, one: np.ndarray, two: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """CKA [A, B] of terms averaged over batches, weighted by their clips; nan where a layer's own term is not positive."""
    cross, one, two = (np.average(part, axis=0, weights=sizes) for part in (cross, one, two))
    product = one[:, None] * two[None, :]
    alive = (one[:, None] > 0) & (two[None, :] > 0)
    return np.where(alive, cross / np.sqrt(np.where(alive, product, 1)), np.nan)
