"""How two networks resemble each other, layer by layer: anti-transfer similarity, CKA, Gram matrices, channel maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
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

MEMORY = 2**28  # bytes of one network's features that are held at once
LARGEST_GRAM = 64  # channels of a Gram matrix that can be told apart in a picture


class Likeness(NamedTuple):
    """Anti-transfer similarity of S students at the layers of the teacher that all have [S, L] (means over clips, nan where there
    is none), CKA of teacher and first student [La, Lb], and what stands in the way.
    """

    layers: list[str]
    similarity: np.ndarray
    cka: np.ndarray
    problems: list[str]


def batch_rows(fs, path, part: str, count: int, seed: int) -> np.ndarray:
    """Rows of `count` clips drawn from a part of the split that the network at `path` was trained on, or from "all"."""
    if count < 4:
        raise AtlabError(f"CKA needs at least 4 clips, found {count}")
    rows = np.arange(len(fs)) if part == "all" else getattr(Split.load(path.parent / "split.json", fs), part)
    return np.sort(np.random.default_rng([seed, 11]).permutation(rows)[:count])


def likeness(
    teacher, students: Sequence, fs, samples: Sequence[Sample], aggregation: str, similarity: str
) -> Iterator[Step | Likeness]:
    """Compare students with their teacher on a batch, one network at a time; the last thing it yields is the `Likeness`.

    CKA is linear and unbiased (Kornblith et al. 2019, Song et al. 2012), of the teacher and the first student. What was compared
    before is kept.
    """
    nets = [teacher, *students]
    batch, keys = tuple(s.key for s in samples), [network_key(net) for net in nets]
    layers = [studies.layers_of(net) for net in nets]
    shared = [layer for layer in layers[0] if all(layer in known for known in layers)]
    every = list(dict.fromkeys(layer for known in layers for layer in known))
    groups = _groups(nets[:2], fs, samples, layers, every)
    found: dict[tuple, Any] = {}
    for g, group in enumerate(groups):
        kept = {("kernel", n, la): ("kernel", keys[n], batch, la) for n in (0, 1) for la in group if la in layers[n]}
        kept |= {
            ("at", n, la): ("at", keys[0], keys[n], batch, la, aggregation, similarity)
            for n in range(1, len(nets))
            for la in group
            if la in shared
        }
        found |= {name: RESULTS.find(key) for name, key in kept.items()}
        missing = [name for name in kept if found[name] is None]
        of_teacher: dict[str, Tensor] = {}
        for n in sorted({n for _, n, _ in missing} | ({0} if missing else set())):
            yield Step(g * len(nets) + n, len(groups) * len(nets), f"comparing {group[0]} to {group[-1]}")
            read = _features(nets[n], fs, samples, [la for la in group if la in layers[n]])
            of_teacher = of_teacher or read
            for name in [name for name in missing if name[1] == n]:
                kind, _, layer = name
                made = (
                    functional.clip_kernel(read[layer])[0]
                    if kind == "kernel"
                    else _at(read[layer], of_teacher[layer], aggregation, similarity)
                )
                found[name] = RESULTS.get(kept[name], lambda made=made: made)
    values = [[found["at", n, layer] for layer in shared] for n in range(1, len(nets))]
    problems = list(dict.fromkeys(str(v) for of_net in values for v in of_net if isinstance(v, AtlabError)))
    means = [[np.nan if isinstance(v, AtlabError) else float(v.mean()) for v in of_net] for of_net in values]
    stacked = [torch.stack([found["kernel", n, layer] for layer in layers[n]]).double().flatten(1) for n in (0, 1)]
    units = [k / k.norm(dim=1, keepdim=True).clamp_min(1e-30) for k in stacked]
    yield Likeness(shared, np.array(means), (units[0] @ units[1].T).numpy(), problems)


def _groups(
    nets: Sequence, fs, samples: Sequence[Sample], layers: Sequence[list[str]], every: list[str]
) -> list[list[str]]:
    """Layers to read in one pass, as many as fit in `MEMORY`: every pass begins at the input, whose layers cost most."""
    sizes = dict.fromkeys(every, 0)
    for net, known in zip(nets, layers, strict=False):
        key = ("sizes", network_key(net), samples[0].array.shape)
        one = RESULTS.get(
            key, lambda n=net, k=known: {la: z.nbytes for la, z in _features(n, fs, samples[:1], k).items()}
        )
        sizes |= {layer: max(sizes[layer], size) for layer, size in one.items()}
    groups: list[list[str]] = [[]]
    held = 0
    for layer in every:
        held += len(samples) * sizes[layer]
        if groups[-1] and held > MEMORY:
            groups.append([])
            held = len(samples) * sizes[layer]
        groups[-1].append(layer)
    return groups


def over_seeds(
    layers: Sequence[str], similarity: np.ndarray, arms: Sequence[str], ends: tuple[float, float]
) -> pd.DataFrame:
    """Mean and 95 % t interval over the networks of an arm: [S, L], S arms -> columns arm, layer, mean, low, high, n.

    Intervals are cut to the possible range `ends`.
    """
    rows = []
    for arm in dict.fromkeys(arms):
        own = similarity[[name == arm for name in arms]]
        for layer, values in zip(layers, own.T, strict=True):
            low = high = np.nan
            if len(values) > 1 and np.isfinite(values).all():
                _, low, high, _ = stats.mean_interval(values, ends=ends)
            rows.append((arm, layer, values.mean(), low, high, len(values)))
    return pd.DataFrame(rows, columns=["arm", "layer", "mean", "low", "high", "n"])


def _features(net, fs, samples: Sequence[Sample], layers: list[str]) -> dict[str, Tensor]:
    if not layers:
        return {}
    with torch.no_grad(), Taps(net, layers) as taps:
        return run_up_to(net, taps, inputs(fs, samples))


def _at(student: Tensor, teacher: Tensor, aggregation: str, similarity: str) -> Tensor | AtlabError:
    """One value per clip (or one per batch), or why there is none."""
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of the aggregation that draws channel pairs
        try:
            how = "mean" if aggregation == "clip_kernel" else "none"
            return functional.anti_transfer_loss(student, teacher, aggregation, similarity, reduction=how).reshape(-1)
        except AtlabError as error:
            return error


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

    def make() -> list[Sample]:
        return [Sample((fs.content_hash, int(r)), a, int(r), "") for r, a in zip(rows, fs.read(rows), strict=True)]

    return RESULTS.get(("samples", fs.content_hash, rows.tobytes()), make)


def study_path(study: str, label: str):
    """The model file of a network of a study."""
    known = studies.networks(study)
    return known[label].path if label in known else find(label)
