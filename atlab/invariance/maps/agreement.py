"""Where networks look: agreement of class activation maps between networks and across counterfactual pairs.

Everything streams over batches and keeps numbers only, so memory is that of one batch. Whether the maps deserve belief:
`cam_checks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from atlab.errors import AtlabError
from atlab.invariance import use
from atlab.invariance.maps.gradcam import class_activation_map, map_agreement

SHARE = 0.1


def top_overlap(a: np.ndarray, b: np.ndarray, share: float = SHARE) -> np.ndarray:
    """Intersection over union of the most relevant `share` of the positions: [B, H, W] twice -> float64 [B].

    Direction: 1 is the same places. Range 0 to 1; two maps that have nothing to do with each other have share / (2 - share) on
    average. Invariant to increasing functions of a map. nan where a map is constant: it has no most relevant positions. Of
    equal values the first position counts first.

    >>> a = np.arange(12.0).reshape(1, 3, 4)
    >>> top_overlap(a, a, 0.5), top_overlap(a, -a, 0.5), top_overlap(a, 0 * a)
    (array([1.]), array([0.]), array([nan]))
    """
    if a.shape != b.shape or a.ndim != 3:
        raise AtlabError(f"maps [B, H, W] of the same clips and size can be compared, found {a.shape} and {b.shape}")
    if not 0 < share < 1:
        raise AtlabError(f"the share of most relevant positions lies between 0 and 1, found {share}")
    top = [ranks(m) < max(1, round(share * m[0].size)) for m in (a, b)]
    both, either = (top[0] & top[1]).sum((1, 2)), (top[0] | top[1]).sum((1, 2))
    return np.where(_constant(a) | _constant(b), np.nan, both / either)


def ranks(maps: np.ndarray) -> np.ndarray:
    """Rank of every position by relevance, 0 for the most relevant: [B, H, W] -> int64 [B, H, W].

    >>> ranks(np.array([[[0.1, 0.9], [0.0, 0.1]]])).tolist()
    [[[1, 0], [3, 2]]]
    """
    order = np.argsort(-maps.reshape(len(maps), -1), axis=1, kind="stable")
    found = np.empty_like(order)
    np.put_along_axis(found, order, np.arange(order.shape[1])[None], 1)
    return found.reshape(maps.shape)


def between_models(
    model: nn.Module,
    other: nn.Module,
    batches,
    layer: str = "conv13",
    other_layer: str | None = None,
    *,
    method: str = "GradCAM",
    share: float = SHARE,
    progress: bool = True,
) -> pd.DataFrame:
    """Do two networks look at the same places? Each map is for what its network predicts; a row per clip.

    Direction: a student that does not use what the orthogonal network (`other`) looks at agrees less with it. Compare
    with the agreement of a network trained without anti-transfer: sounds have places where every network looks.

    Returns columns: row (of the data set), correlation (Pearson, -1 to 1), overlap (`top_overlap` of `share`). nan where a
    map is constant.

    >>> import atlab
    >>> net, clips = atlab.models.vgg16(4, width=1 / 16), atlab.data.InMemory(torch.rand(2, 1, 32, 32), torch.tensor([0, 1]))
    >>> between_models(net, net, clips, "conv3").round(3).values.tolist()
    [[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    found = []
    for x, _, index in progress_bar(batches, "maps", progress):
        a = class_activation_map(model, x, layer, None, method)
        b = class_activation_map(other, x, other_layer or layer, None, method)
        found.append(compared(index.cpu().numpy(), a, b, share))
    return pd.concat(found, ignore_index=True)


def across_pairs(
    model: nn.Module,
    fs,
    codes: np.ndarray,
    pairs: pd.DataFrame,
    layer: str = "conv13",
    *,
    method: str = "GradCAM",
    share: float = SHARE,
    batch_size: int = 8,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> pd.DataFrame:
    """Does the network look at the same places when only a factor changes? `pairs` with correlation and overlap.

    Maps are for the true class. Positions are compared as they are: two recordings of a word are not aligned in time, so
    look at what is below the agreement between repetitions (kind "repetition"), not at the numbers alone.

    Args:
        fs: the data set.
        codes: class number of every clip of it [N].
        pairs: from `use.pairs`, with row numbers of `fs`; a sample of them is enough.
        batch_size: pairs at a time.

    >>> import atlab, tempfile
    >>> from atlab.invariance import use
    >>> fs = atlab.data.toy(tempfile.mkdtemp() + "/toy", words=2, speakers=2, repetitions=1)
    >>> net = atlab.models.vgg16(2, width=1 / 16)
    >>> across_pairs(net, fs, fs.codes("word"), use.pairs(fs.factors, "speaker", ["word"]), "conv3").shape
    (2, 6)
    """
    from atlab.data import Batches

    if not len(pairs):
        raise AtlabError("no pair of clips to compare maps of")
    rows = pairs[["a", "b"]].to_numpy().ravel()
    found = []
    for x, y, index in progress_bar(
        Batches(fs, rows, codes, batch_size=2 * batch_size, device=device), "maps", progress
    ):
        maps = class_activation_map(model, x, layer, y.tolist(), method)
        found.append(compared(index.numpy()[::2], maps[::2], maps[1::2], share))
    found = pd.concat(found, ignore_index=True)
    return pairs.reset_index(drop=True).assign(correlation=found["correlation"], overlap=found["overlap"])


def agreement(
    models: Mapping[str, Sequence],
    fs,
    rows: np.ndarray,
    factor: str,
    layer: str = "conv13",
    *,
    teacher=None,
    most: int = 24,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Where networks look, on at most `most` pairs of each kind drawn from `rows`: a row per network.

    Columns: name, seed, counterfactual and repetition (mean correlation of the maps of a pair, `across_pairs`, for pairs with
    another value of `factor` and with the same), teacher (with the factor's network, `between_models`, if it is given).

    Args:
        models: name -> networks (run folders or modules with a model card), in the order of their seeds.
        teacher: the factor's network.
    """
    from atlab.data import Batches
    from atlab.invariance.networks import open_network

    found, networks = (
        [],
        [(name, open_network(item, i)) for name, items in models.items() for i, item in enumerate(items)],
    )
    task = networks[0][1].model.card["task"]
    codes, clips = fs.codes(task), fs.factors.iloc[rows].reset_index(drop=True)
    pairs = _drawn(use.pairs(clips, factor, [task]), most, seed)
    pairs = pairs.assign(a=rows[pairs["a"]], b=rows[pairs["b"]])
    other = None if teacher is None else open_network(teacher).model
    for name, network in tqdm(networks, desc="maps", delay=2, leave=False, disable=not progress):
        table = across_pairs(network.model, fs, codes, pairs, layer, progress=False)
        row = {"name": name, "seed": network.seed} | table.groupby("kind")["correlation"].mean().to_dict()
        if other is not None:
            batches = Batches(fs, np.unique(pairs["a"])[:most], codes, batch_size=16)
            row["teacher"] = between_models(network.model, other, batches, layer, progress=False)["correlation"].mean()
        found.append(row)
    return pd.DataFrame(found)


def _drawn(pairs: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    parts = [part.sample(min(most, len(part)), random_state=seed) for _, part in pairs.groupby("kind")]
    return pd.concat(parts, ignore_index=True)


def compared(rows: np.ndarray, a: np.ndarray, b: np.ndarray, share: float = SHARE) -> pd.DataFrame:
    """Correlation and overlap of two stacks of maps [B, H, W], one row per clip: columns row, correlation, overlap.

    >>> compared(np.array([7]), np.eye(3)[None], np.eye(3)[None]).round(3).values.tolist()
    [[7.0, 1.0, 1.0]]
    """
    return pd.DataFrame({"row": rows, "correlation": map_agreement(a, b), "overlap": top_overlap(a, b, share)})


def _constant(maps: np.ndarray) -> np.ndarray:
    return np.ptp(maps.reshape(len(maps), -1), axis=1) == 0


def progress_bar(batches, title: str, progress: bool) -> tqdm:
    """An epoch of batches under a bar that shows after 2 s."""
    return tqdm(batches.epoch(0), total=len(batches), desc=title, delay=2, leave=False, disable=not progress)
