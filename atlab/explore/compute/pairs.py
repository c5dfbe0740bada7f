"""Pairs of clips that differ in one factor, and how far a network's maps of the two agree."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from atlab import plots
from atlab.data.noise import KINDS
from atlab.errors import AtlabError, unknown
from atlab.explore.cache import FIGURES
from atlab.explore.compute import uploads
from atlab.explore.compute.maps import Sample, class_maps, picture, sample, target_classes
from atlab.explore.widgets.background import Step
from atlab.explore.widgets.shown import Shown
from atlab.invariance.maps.gradcam import map_agreement
from atlab.stats import mean_interval

NOISE = "noise"  # pairs a clip with itself in noise, where it is no factor of the data


def counterparts(fs, row: int, factor: str, target: str = "") -> dict[str, int]:
    """The crossed design's other clips: for each other value of `factor`, the row most like this one in all else.

    The target's class is the same (unless `factor` is the target); of the other factors as many as possible are, then the
    source (the recording or picture that both are made from), then the repetition, if the data set has such a column. "noise",
    where it is no factor, gives the same row for each kind of noise, and "own sound" for each sound of the user's.
    AtlabError for an unknown factor, or if there is no such clip.
    """
    if factor == uploads.OWN:
        if not (files := uploads.kept()):
            raise AtlabError("there is no sound of your own yet: choose a file or record one")
        return dict.fromkeys(files, row)
    if factor == NOISE and NOISE not in fs.factor_names:
        return dict.fromkeys(KINDS, row)
    if factor not in fs.factor_names:
        raise unknown("factor", factor, [*fs.factor_names, NOISE])
    table, others = fs.factors, [name for name in fs.factor_names if name != factor]
    alike = {
        name: (table[name] == table[name].iloc[row]).to_numpy()
        for name in [*others, "source", "repetition"]
        if name in table
    }
    score = 4 * sum((alike[name].astype(int) for name in others), np.zeros(len(table), int))
    score += 2 * alike.get("source", np.zeros(len(table), bool)) + alike.get("repetition", np.zeros(len(table), bool))
    allowed = alike[target] if target in others else np.ones(len(table), bool)
    found = {}
    for value in fs.classes(factor):
        rows = np.flatnonzero((table[factor] == value).to_numpy() & allowed)
        if value != table[factor].iloc[row] and len(rows):
            found[str(value)] = int(rows[np.argmax(score[rows])])
    if not found:
        raise AtlabError(
            f"no {word_of(fs)} differs from this one in {factor!r} alone: there is nothing to pair it with"
        )
    return found


def also(fs, row: int, other: int, factor: str) -> list[str]:
    """What two clips differ in besides `factor`: other factors, and "source" where clips of the data set share their original."""
    if row == other:
        return []
    table = fs.factors
    shared = ["source"] if "source" in table and table["source"].nunique() < len(table) else []
    names = [name for name in [*fs.factor_names, *shared] if name != factor]
    return [name for name in names if table[name].iloc[row] != table[name].iloc[other]]


def closest(fs, row: int, values: Mapping[str, int], factor: str) -> list[str]:
    """Those values of `counterparts` whose clip differs in least besides `factor`: a factor may go with others, as a speaker with the sex."""
    differ = {value: len(also(fs, row, other_row, factor)) for value, other_row in values.items()}
    return [value for value in values if differ[value] == min(differ.values())]


def told(fs, one: Sample, two: Sample, factor: str) -> str:
    """What the two clips of a pair differ in, as a sentence."""
    differ = also(fs, one.row, two.row, factor)
    if not differ:
        return ""
    words = [f"{name} ({fs.factors[name].iloc[one.row]} / {fs.factors[name].iloc[two.row]})" for name in differ]
    word = word_of(fs)
    said = f"The other {word} differs in more than {factor}: in {', '.join(words)}."
    return said + " Two sources are two originals: what they show differs in its form too." * ("source" in differ)


def word_of(fs) -> str:
    """What one row of a data set is called."""
    return "picture" if getattr(fs, "kind", "") == "image" else "clip"


def other(fs, values: Mapping[str, int], value: str, factor: str, snr_db: float) -> Sample:
    """The clip of a value among `counterparts`."""
    if factor == uploads.OWN:
        return uploads.sample(fs, value, sample(fs, next(iter(values.values()))))
    if value not in values:
        raise unknown(f"value of {factor!r} for the pair", value, values)
    if factor == NOISE and NOISE not in fs.factor_names:
        return sample(fs, values[value], value, snr_db)
    return sample(fs, values[value])


def drawn(fs, rows: Sequence[int], factor: str, target: str, count: int, snr_db: float) -> list[tuple[Sample, Sample]]:
    """As many of these clips as have a counterpart, `count` at most, in an order that is always the same, each with one of them.

    The values of the factor whose clips are most alike take turns.
    """
    pairs: list[tuple[Sample, Sample]] = []
    for row in np.random.default_rng(5).permutation(np.sort(rows)):
        if len(pairs) == count:
            break
        try:
            values = counterparts(fs, int(row), factor, target)
        except AtlabError:
            continue  # a clip that differs from none in this factor alone
        near = closest(fs, int(row), values, factor)
        value = near[len(pairs) % len(near)]
        pairs.append((sample(fs, int(row)), other(fs, values, value, factor, snr_db)))
    return pairs


def agreements(
    fs,
    nets: Mapping[str, object],
    pairs: Sequence[tuple[Sample, Sample]],
    layer: str,
    method: str,
    target: str,
    align: bool,
) -> Iterator[Step | pd.DataFrame]:
    """The agreement of the two maps of every pair, network by network; last comes a table of network, pair, agreement."""
    shifts = [lag(fs, *pair) if align else 0 for pair in pairs]
    rows = []
    for n, (label, net) in enumerate(nets.items()):
        yield Step(n, len(nets), f"{len(pairs)} pairs of {label}")
        maps = []
        for side in (0, 1):
            clips = [pair[side] for pair in pairs]
            maps.append(class_maps(net, fs, clips, layer, method, target_classes(net, fs, clips, target)))
        rows += [
            (label, f"{one.caption} / {two.caption}", agreement(a, b, shift))
            for (one, two), a, b, shift in zip(pairs, *maps, shifts, strict=True)
        ]
    yield pd.DataFrame(rows, columns=["network", "pair", "agreement"])


def averaged(s, fs, rows: Sequence[int], target: str, nets: Mapping[str, object]) -> Iterator[Step | Shown]:
    """How far maps agree over many pairs of clips that differ in the factor of a `MapsState`, as a sentence and as points."""
    chosen = drawn(fs, rows, s.pair_by, target, s.pairs, s.snr_db)
    if len(chosen) < 2:
        yield Shown(
            notes=[
                f"Too few test {word_of(fs)}s have another one that differs in {s.pair_by} alone: agreement is not averaged."
            ]
        )
        return
    table = pd.DataFrame()
    for item in agreements(fs, nets, chosen, s.layer, s.method, s.target, s.align):
        if isinstance(item, Step):
            yield item
        else:
            table = item
    said = f"Agreement (r) of the maps over {len(chosen)} pairs of {word_of(fs)}s that differ in {s.pair_by}, mean and 95 % t interval: "
    said += ", ".join(f"{name} {_mean(part['agreement'])}" for name, part in table.groupby("network", sort=False)) + "."
    said += _also_of_pairs(fs, chosen, s.pair_by)
    title = f"{s.method} of {s.layer}: agreement over {len(chosen)} pairs that differ in {s.pair_by} (mean, 95 % t interval)"
    key = (
        "agreement",
        title,
        tuple(table["network"]),
        tuple(table["pair"]),
        tuple(np.round(table["agreement"], 9).fillna(9)),
    )
    figure = FIGURES.get(key, lambda: plots.map_agreements(table, title))
    yield Shown(figures={"agreement": figure}, texts={"agreement": html.escape(said)})


def _also_of_pairs(fs, chosen: Sequence[tuple[Sample, Sample]], factor: str) -> str:
    """In what else the clips of pairs differ, and of how many, as a sentence."""
    found = Counter(name for one, two in chosen for name in also(fs, one.row, two.row, factor))
    if not found:
        return ""
    return f" They also differ in {', '.join(f'{name} ({n} of {len(chosen)} pairs)' for name, n in found.items())}."


def _mean(values: pd.Series) -> str:
    """Mean and interval, within what a correlation can be, and how many pairs have none."""
    found = values.dropna()
    missing = f" ({len(values) - len(found)} without a map)" if len(found) < len(values) else ""
    if len(found) < 2:
        return f"undefined{missing}"
    mean, low, high, _ = mean_interval(found, ends=(-1, 1))
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]{missing}"


def lag(fs, one: Sample, other: Sample) -> int:
    """By how many columns of its picture `other` comes later than `one`: the best match of their loudness over time."""
    if fs.kind != "audio" or one.key[:2] == other.key[:2]:  # the same clip, with noise or without
        return 0
    loud = [10 ** (picture(fs, s).values / 20) for s in (one, other)]
    a, b = (z.sum(0) - z.sum(0).mean() for z in loud)
    return int(np.argmax(np.correlate(b, a, mode="full"))) - (len(a) - 1)


def agreement(one: np.ndarray, other: np.ndarray, shift: int = 0) -> float:
    """Pearson correlation of two maps [height, width], the second moved back by `shift` columns; nan if one is constant."""
    width = one.shape[1] - abs(shift)
    if width < 2:
        return float("nan")
    a, b = one[:, max(0, -shift) :][:, :width], other[:, max(0, shift) :][:, :width]
    return float(map_agreement(a[None], b[None])[0])
