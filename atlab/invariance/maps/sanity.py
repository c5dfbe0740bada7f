"""Do class activation maps deserve belief? Deletion, insertion, ROAD, and the map of the network with random weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from atlab import stats
from atlab.errors import AtlabError
from atlab.invariance.maps.agreement import progress_bar, ranks
from atlab.invariance.maps.gradcam import class_activation_map, map_agreement
from atlab.taps import unwrap

SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
ROAD_SHARES = (0.05, 0.2, 0.5)


def perturbation_curve(
    model: nn.Module,
    x: Tensor,
    maps: np.ndarray,
    classes: Sequence[int],
    insert: bool = False,
    shares: Sequence[float] = SHARES,
) -> np.ndarray:
    """Probability of each clip's class while its most relevant positions are deleted (or inserted): -> [B, len(shares)].

    Deletion and insertion of Petsiuk, Das & Saenko (2018, "RISE"). What is deleted takes the clip's mean, by channel;
    insertion starts from a clip that is its mean everywhere. A map that tells where the network looks lets the
    probability fall early by deletion and rise early by insertion. Depends on the order of a map's values only.

    >>> import atlab
    >>> net, x = atlab.models.vgg16(4, width=1 / 16), torch.rand(2, 1, 32, 32)
    >>> perturbation_curve(net, x, np.random.default_rng(0).random((2, 32, 32)), [0, 1]).shape
    (2, 8)
    """
    _check_maps(x, maps, classes)
    order = torch.from_numpy(ranks(maps)).to(x.device)[:, None]
    blank = x.mean((2, 3), keepdim=True).expand_as(x)
    found = []
    for share in shares:
        top = order < round(share * order[0].numel())
        found.append(_probability(model, torch.where(top, x, blank) if insert else torch.where(top, blank, x), classes))
    return np.stack(found, 1)


def road(
    model: nn.Module,
    x: Tensor,
    maps: np.ndarray,
    classes: Sequence[int],
    shares: Sequence[float] = ROAD_SHARES,
    seed: int = 0,
) -> np.ndarray:
    """Remove and debias (Rong et al. 2022), by pytorch-grad-cam: -> float64 [B], more is a better map, 0 none at all.

    Half of how much more the probability of the class falls when the most relevant `shares` are imputed from their neighbours
    than when the least relevant are, averaged over shares. Imputed positions do not give away where they were, as blanks do.
    Depends on the order of a map's values only. About one second per clip of 126 x 129: use few clips.

    >>> import atlab
    >>> net, x = atlab.models.vgg16(4, width=1 / 16), torch.rand(1, 1, 32, 32)
    >>> road(net, x, np.random.default_rng(0).random((1, 32, 32)), [0]).shape
    (1,)
    """
    from pytorch_grad_cam.metrics.road import ROADCombined
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    _check_maps(x, maps, classes)
    # The library's threshold needs distinct values, and its noise inputs of unit variance.
    order = 1 - ranks(maps) / maps[0].size
    mean, spread = x.mean(), x.std().clamp_min(1e-12)
    targets = [ClassifierOutputSoftmaxTarget(int(k)) for k in classes]
    was_training = model.training
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        found = ROADCombined([100 * (1 - share) for share in shares])(
            ((x - mean) / spread).float(), order, targets, lambda z: model.eval()(z * spread + mean)
        )
    model.train(was_training)
    return np.asarray(found, float)


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """A copy whose weights are shuffled, each tensor within itself: the same values, nothing of what was learned.

    >>> import atlab
    >>> net = atlab.models.vgg16(4, width=1 / 16)
    >>> before, after = (m.features[0].weight.flatten().sort().values for m in (net, randomised(net)))
    >>> torch.equal(before, after)
    True
    """
    model, generator = copy.deepcopy(unwrap(model)), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            order = torch.randperm(p.numel(), generator=generator).to(p.device)
            p.copy_(p.flatten()[order].view_as(p))
    return model.requires_grad_(True)


def sanity(
    model: nn.Module,
    batches,
    layer: str = "conv13",
    *,
    method: str = "GradCAM",
    with_road: bool = True,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Do the maps tell where the network looks? A row per clip, of the maps for the true class; read it with `summary`.

    Columns: row; deletion, insertion (areas under `perturbation_curve`, 0 to 1), road; the same with the prefix "moved_" for
    the map moved by half its height and width, which is as large and as smooth but elsewhere; weights: correlation with the
    map of the randomised network (Adebayo et al. 2018: a map that stays the same does not depend on what was learned).

    >>> import atlab
    >>> net, clips = atlab.models.vgg16(4, width=1 / 16), atlab.data.InMemory(torch.rand(2, 1, 32, 32), torch.tensor([0, 1]))
    >>> table = sanity(net, clips, "conv3", with_road=False)
    >>> list(table)
    ['row', 'deletion', 'insertion', 'moved_deletion', 'moved_insertion', 'weights']
    """
    found, shuffled = [], randomised(model, seed)
    for x, y, index in progress_bar(batches, "checking maps", progress):
        classes = y.tolist()
        maps = class_activation_map(model, x, layer, classes, method)
        moved = np.roll(maps, (maps.shape[1] // 2, maps.shape[2] // 2), (1, 2))
        table = pd.DataFrame({"row": index.cpu().numpy()})
        for prefix, some in (("", maps), ("moved_", moved)):
            for name, insert in (("deletion", False), ("insertion", True)):
                curve = perturbation_curve(model, x, some, classes, insert)
                table[prefix + name] = np.trapezoid(curve, SHARES, axis=1)
            if with_road:
                table[prefix + "road"] = road(model, x, some, classes, seed=seed)
        table["weights"] = map_agreement(maps, class_activation_map(shuffled, x, layer, classes, method))
        found.append(table)
    return pd.concat(found, ignore_index=True)


def of_run(run, fs, rows: Sequence[int], layer: str = "conv13", **options) -> pd.DataFrame:
    """`sanity` of a run folder's network (or of a network with a model card) on these clips of a data set."""
    from atlab.data import Batches
    from atlab.invariance.networks import open_network

    model = open_network(run).model
    return sanity(model, Batches(fs, rows, fs.codes(model.card["task"]), batch_size=4), layer, **options)


def summary(table: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """What `sanity` found, by check, with an interval over clips: deletion, insertion, road, weights.

    deletion: how much lower its area is than the moved map's; insertion, road: how much higher: above 0 the map is better than
    the same map elsewhere. weights: mean correlation with the map of the randomised network, near 0 for maps that depend on
    what was learned. Clips with a constant map are left out; n counts the others.

    >>> table = pd.DataFrame({"row": [0, 1], "deletion": [0.1, 0.2], "insertion": [0.8, 0.9],
    ...     "moved_deletion": [0.4, 0.3], "moved_insertion": [0.5, 0.4], "weights": [0.1, -0.1]})
    >>> summary(table)[["check", "value", "n"]].round(6).values.tolist()
    [['deletion', 0.2, 2], ['insertion', 0.4, 2], ['weights', 0.0, 2]]
    """
    checks = {
        name: (table[name] - table[f"moved_{name}"]) * (-1 if name == "deletion" else 1)
        for name in ("deletion", "insertion", "road")
        if name in table
    }
    rows = []
    for name, values in {**checks, "weights": table["weights"]}.items():
        values = values[np.isfinite(values)]
        few = stats.Interval(values.mean(), np.nan, np.nan, len(values))  # no interval of a single clip
        i = few if len(values) < 2 else stats.cluster_bootstrap(values, level=level)
        rows.append({"check": name, "value": i.mean, "low": i.low, "high": i.high, "n": i.n})
    return pd.DataFrame(rows)


@torch.no_grad()
def _probability(model: nn.Module, x: Tensor, classes: Sequence[int]) -> np.ndarray:
    was_training = model.training
    probabilities = model.eval()(x).double().softmax(1).cpu().numpy()
    model.train(was_training)
    return probabilities[np.arange(len(x)), list(classes)]


def _check_maps(x: Tensor, maps: np.ndarray, classes: Sequence[int]) -> None:
    if x.ndim != 4 or maps.shape != (len(x), *x.shape[2:]) or len(classes) != len(x):
        raise AtlabError(
            f"expected one map and one class per clip, got inputs {tuple(x.shape)}, maps {maps.shape}, {len(classes)} classes; "
            "maps must be [B, H, W] of inputs [B, C, H, W]"
        )
