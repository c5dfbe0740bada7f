"""The networks to measure, from run folders or as they are, and the clips to measure them on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from atlab.errors import AtlabError


@dataclass(frozen=True)
class Network:
    """A network with its seed and, of a run, its folder."""

    seed: int
    model: nn.Module
    folder: Path | None = None


def even_rows(fs, factors: Sequence[str], without: np.ndarray, most: int, seed: int = 0) -> np.ndarray:
    """Row numbers of equally many clips of every combination of the factors, none of a source in `without`: int64, sorted."""
    sources = fs.factors["source"].to_numpy()
    rows = np.flatnonzero(~np.isin(sources, sources[without]))
    if not len(rows):
        raise AtlabError("no clip is left to fit an eraser on: measure on fewer rows, or give fit_rows")
    cells = fs.factors.iloc[rows].groupby(list(factors), observed=True).ngroup().to_numpy()
    count = max(1, min(int(np.bincount(cells).min()), most // (cells.max() + 1)))
    rng = np.random.default_rng([seed, 13])
    chosen = [rng.permutation(rows[cells == cell])[:count] for cell in range(cells.max() + 1)]
    return np.sort(np.concatenate(chosen))


def class_numbers(fs, factor: str, classes: Sequence | None) -> np.ndarray:
    """Class number of every clip of a data set, int64 [N]; -1 for a class that is not among `classes`, a network's (all if None)."""
    values = {str(value): value for value in fs.classes(factor)}  # a model card may hold numbers as text
    return fs.codes(factor, None if classes is None else [values.get(str(c), c) for c in classes])


def open_network(item, position: int = 0) -> Network:
    """A network from a run folder (`runs.Run` or path), a (seed, network) pair or a bare network."""
    from atlab import runs

    if isinstance(item, tuple):
        return Network(int(item[0]), model_of(item[1]))
    if isinstance(item, nn.Module):
        return Network(position, item)
    run = item if isinstance(item, runs.Run) else runs.Run(item)
    return Network(int(run.parameters.get("seed", position)), model_of(run), run.path)


def model_of(item) -> nn.Module:
    """The network itself; AtlabError for a run that is unfinished."""
    from atlab import models, runs

    if isinstance(item, nn.Module):
        return item
    run = item if isinstance(item, runs.Run) else runs.Run(item)
    if not run.done:
        raise AtlabError(f"{run.path} is unfinished: there is no network to measure yet")
    return models.load(run.model_path)


def test_rows(fs, opened: Mapping[str, list[Network]]) -> np.ndarray:
    """The whole test part of the stored split that all runs share."""
    from atlab.data import Split

    folders = [network.folder for items in opened.values() for network in items]
    if any(folder is None for folder in folders):
        raise AtlabError("networks that are not run folders have no split: give the rows to measure on")
    tests = {tuple(Split.load(folder / "split.json", fs).whole_test.tolist()) for folder in folders}
    if len(tests) > 1:
        raise AtlabError(
            f"the runs have {len(tests)} different test parts: give the rows to measure on, or measure them separately"
        )
    return np.array(tests.pop(), dtype=np.int64)
