"""An arm chosen before the test: the layer that validation picks on some seeds, tested on the others."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from atlab import stats
from atlab.errors import AtlabError
from atlab.labels import listed, natural


def picked(runs: pd.DataFrame, strategy: str, orthogonal: str = "", layers: Collection[str] = ()) -> pd.DataFrame:
    """The runs that test the arm with the best mean validation accuracy on the first half of the seeds (`stats.best_of`).

    The best of 13 layers by a run's own validation is the luckiest of 13 runs, and a baseline with one run is not. Here the
    seeds that test have no part in the choice. A single arm is tested on all seeds.

    Args:
        runs: runs of one condition, as `arms` gives them, with validation_accuracy.
        strategy: "at", or several with commas between them.
        orthogonal: arms of this task only; of all tasks if empty.
        layers: arms at these layers only; at all layers if empty.

    Returns rows of one arm, by seed, with a column `tries`: the number of arms to choose from. AtlabError if an arm lacks a
    seed, or if there is none.

    >>> rows = [("conv1", 0, 0.6), ("conv1", 1, 0.9), ("conv5", 0, 0.7), ("conv5", 1, 0.5)]
    >>> runs = pd.DataFrame(rows, columns=["layers", "seed", "validation_accuracy"])
    >>> picked(runs.assign(strategy="at", orthogonal="speaker", arm=runs["layers"]), "at")[["layers", "seed", "tries"]].values.tolist()
    [['conv5', 1, 2]]
    """
    of = runs[runs["strategy"].isin(listed(strategy)) & ((runs["orthogonal"] == orthogonal) | (orthogonal == ""))]
    of = of[of["layers"].isin(layers)] if layers else of
    validation = of.pivot(index="arm", columns="seed", values="validation_accuracy")
    validation = validation.sort_index(key=lambda names: names.map(natural))
    if validation.empty or validation.isna().any(axis=None):
        raise AtlabError(f"choosing a layer needs every layer and seed of {strategy!r} ({orthogonal or 'any task'})")
    best = stats.best_of(validation.to_numpy(), validation.to_numpy())
    chosen = of[(of["arm"] == validation.index[best.choice]) & of["seed"].isin(validation.columns[best.tested])]
    return chosen.set_index("seed", drop=False).sort_index().assign(tries=best.budget)


def shared_layers(runs: pd.DataFrame, *of: tuple[str, str]) -> set[str]:
    """The layers at which each of several (strategy, orthogonal task) was tried: a choice among these is a fair one.

    >>> runs = pd.DataFrame({"strategy": ["at", "at", "dual_at"], "orthogonal": ["a", "a", "a, b"], "layers": ["conv1", "conv5", "conv5"]})
    >>> shared_layers(runs, ("at", "a"), ("dual_at", "a, b"))
    {'conv5'}
    """
    tried = (set(runs.loc[(runs["strategy"] == s) & (runs["orthogonal"] == task), "layers"]) for s, task in of)
    return set.intersection(*tried)


def layer_of(chosen: pd.DataFrame) -> str:
    """The layer that was picked, in words.

    >>> layer_of(pd.DataFrame({"layers": ["conv5", "conv5"], "tries": 4}))
    'conv5, chosen among 4 by validation on other seeds'
    """
    layer, tries = chosen.iloc[0][["layers", "tries"]]
    return f"{layer}, chosen among {tries} by validation on other seeds" if tries > 1 else str(layer)
