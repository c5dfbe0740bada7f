"""How two networks resemble each other, layer by layer: anti-transfer similarity, CKA, Gram matrices, channel maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from atlab import functional, stats
from atlab.data import Split
from atlab.errors import AtlabError
from atlab.explore import studies
from atlab.explore.cache import RESULTS
from atlab.explore.compute.maps import Sample, inputs, network_key
from atlab.explore.widgets.background import Step
from atlab.system.home import find
from atlab.taps import Taps, find_layer, run_up_to

TOGETHER = 4  # layers read in one pass: memory against time
LARGEST_GRAM = 64  # channels of a Gram matrix that can be told apart in a picture


class Likeness(NamedTuple):
    """Anti-transfer similarity at the layers both networks have [L] (mean, 95 % t interval over clips), CKA [La, Lb]."""

    layers: list[str]
    similarity: np.ndarray
    low: np.ndarray
    high: np.ndarray
    cka: np.ndarray
    problems: list[str]


def batch_rows(fs, path, part: str, count: int, seed: int) -> np.ndarray:
    """Rows of `count` clips drawn from a part of the split that the network at `path` was trained on, or from "all"."""
    if count < 4:
        raise AtlabError(f"CKA needs at least 4 clips, found {count}")
    rows = np.arange(len(fs))
    if part != "all":
        split = Split.load(path.parent / "split.json", fs)
        rows = getattr(split, part)
    return np.sort(np.random.default_rng([seed, 11]).permutation(rows)[:count])


def likeness(
    one,
    other,
    fs,
    samples: Sequence[Sample],
    layers: tuple[Sequence[str], Sequence[str]],
    aggregation: str,
    similarity: str,
) -> Iterator[Step | Likeness]:
    """Compare two networks on a batch in steps of a few layers; the last thing it yields is the `Likeness`.

    `one` is the teacher of the anti-transfer similarity, `other` the student. CKA is linear and unbiased (Kornblith et al.
    2019, Song et al. 2012); its kernels are kept, so another aggregation or similarity costs one comparison a layer.
    """
    batch = tuple(s.key for s in samples)
    kernel_key = {
        (n, layer): ("kernel", network_key(net), batch, layer)
        for n, net in enumerate((one, other))
        for layer in layers[n]
    }
    shared = [layer for layer in layers[0] if layer in layers[1]]
    at_key = {
        layer: ("at", network_key(one), network_key(other), batch, layer, aggregation, similarity) for layer in shared
    }
    every = list(dict.fromkeys([*layers[0], *layers[1]]))
    groups = [every[i : i + TOGETHER] for i in range(0, len(every), TOGETHER)]
    kernels: dict[tuple[int, str], Tensor] = {}
    values: dict[str, Tensor | AtlabError] = {}
    for g, group in enumerate(groups):
        yield Step(g, len(groups), f"comparing {group[0]} to {group[-1]}")
        wanted = [(n, layer) for n in (0, 1) for layer in group if layer in layers[n]]
        group_keys = [kernel_key[k] for k in wanted] + [at_key[layer] for layer in group if layer in at_key]
        kept = {key: RESULTS.find(key) for key in group_keys}
        if any(value is None for value in kept.values()):
            read = [
                _features(net, fs, samples, [la for la in group if la in layers[n]])
                for n, net in enumerate((one, other))
            ]
            for n, layer in wanted:
                if kept[kernel_key[n, layer]] is None:
                    kept[kernel_key[n, layer]] = functional.clip_kernel(read[n][layer])[0]
            for layer in group:
                if layer in at_key and kept[at_key[layer]] is None:
                    kept[at_key[layer]] = _at(read[1][layer], read[0][layer], aggregation, similarity)
            for key, value in kept.items():
                RESULTS.get(key, lambda value=value: value)
        kernels |= {(n, layer): kept[kernel_key[n, layer]] for n, layer in wanted}
        values |= {layer: kept[at_key[layer]] for layer in group if layer in at_key}
    found = [_interval(values[layer]) for layer in shared]
    problems = list(dict.fromkeys(str(v) for v in values.values() if isinstance(v, AtlabError)))
    stacked = [torch.stack([kernels[n, layer] for layer in layers[n]]).double().flatten(1) for n in (0, 1)]
    units = [k / k.norm(dim=1, keepdim=True).clamp_min(1e-30) for k in stacked]
    mean, low, high = (np.array([f[i] for f in found]) for i in range(3))
    yield Likeness(shared, mean, low, high, (units[0] @ units[1].T).numpy(), problems)


def _features(net, fs, samples: Sequence[Sample], layers: list[str]) -> dict[str, Tensor]:
    if not layers:
        return {}
    with torch.no_grad(), Taps(net, layers) as taps:
        return run_up_to(net, taps, inputs(fs, samples))


def _at(student: Tensor, teacher: Tensor, aggregation: str, similarity: str) -> Tensor | AtlabError:
    """One value a clip (or one a batch), or why there is none."""
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of the aggregation that draws channel pairs
        try:
            how = "mean" if aggregation == "clip_kernel" else "none"
            return functional.anti_transfer_loss(student, teacher, aggregation, similarity, reduction=how).reshape(-1)
        except AtlabError as error:
            return error


def _interval(values: Tensor | AtlabError) -> tuple[float, float, float]:
    if isinstance(values, AtlabError):
        return (float("nan"),) * 3
    if len(values) < 2:
        return float(values[0]), float("nan"), float("nan")
    return tuple(stats.mean_interval(values.numpy())[:3])


def layer_features(net, fs, sample: Sample, layer: str) -> np.ndarray:
    """One clip's maps at a layer: float32 [C, H, W]. AtlabError for an unknown layer or one without maps."""
    find_layer(net, layer)
    key = ("features", network_key(net), sample.key, layer)
    found = RESULTS.get(key, lambda: _features(net, fs, [sample], [layer])[layer][0].float().numpy())
    if found.ndim != 3:
        raise AtlabError(f"layer {layer!r} has no channel maps [C, H, W] but values of shape {list(found.shape)}")
    return found


def grams(teacher: np.ndarray, student: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, np.ndarray]:
    """Gram matrices of two feature maps [C, H, W] at unit length, their product entry by entry, and their cosine.

    -> (teacher [k, k], student [k, k], product [k, k], cosine, channels [k]). The entries of the whole product add up to
    the cosine of eq. 2. Shown are the (at most 64) channels with the largest share in it. AtlabError for different C.
    """
    if len(teacher) != len(student):
        raise AtlabError(
            f"Gram matrices of {len(teacher)} and {len(student)} channels cannot be multiplied: the networks differ in width"
        )
    flat = [z.reshape(len(z), -1).astype(float) for z in (teacher, student)]
    both = [f @ f.T for f in flat]
    both = [g / max(np.linalg.norm(g), 1e-30) for g in both]
    product = both[0] * both[1]
    channels = np.sort(np.argsort(-np.abs(product).sum(1), kind="stable")[:LARGEST_GRAM])
    chosen = np.ix_(channels, channels)
    return both[0][chosen], both[1][chosen], product[chosen], float(product.sum()), channels


def strongest(features: np.ndarray, count: int) -> np.ndarray:
    """Numbers of the channels with the most energy, strongest first: [C, H, W] -> int64 [count]."""
    return np.argsort(-np.square(features, dtype=float).sum((1, 2)), kind="stable")[:count]


def clip_samples(fs, rows: np.ndarray) -> list[Sample]:
    """The clips of a batch, read at once."""
    key = ("samples", fs.content_hash, rows.tobytes())

    def make() -> list[Sample]:
        table = fs.factors.iloc[rows]
        captions = [", ".join(str(clip[name]) for name in fs.factor_names) for _, clip in table.iterrows()]
        return [
            Sample((fs.content_hash, int(r)), a, int(r), c)
            for r, a, c in zip(rows, fs.read(rows), captions, strict=True)
        ]

    return RESULTS.get(key, make)


def study_path(study: str, label: str):
    """The model file of a network of a study."""
    known = studies.networks(study)
    return known[label].path if label in known else find(label)
