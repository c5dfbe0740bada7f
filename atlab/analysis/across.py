"""What the paper says over tasks and conditions: figure 3's averages and the claims of sections 4.3 and 5.8."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from atlab.analysis.choice import picked, shared_layers
from atlab.analysis.claims import claim
from atlab.analysis.figures import kind
from atlab.analysis.grouping import arms, conditions
from atlab.analysis.paired import difference
from atlab.errors import AtlabError
from atlab.labels import listed
from atlab.stats import Interval

Studies = Mapping[str, pd.DataFrame]
CLASS_SPLITS = ("official", "disjoint")  # by the class of an orthogonal task


def averages(studies: Studies) -> pd.DataFrame:
    """Figure 3: mean gains of groups of cells, one row per group, as `plots.improvement_by_arm` takes it.

    Args:
        studies: {name: runs}, such as those of tables 3 to 5.

    A cell is a condition with an orthogonal task, at a layer chosen before the test (`picked`). Tasks average the best AT or dual AT
    of each condition, chosen in the same way (in the paper: by its test accuracy). Returns columns arm (the group), cells, n,
    difference, d_low, d_high: 95 % t interval of the mean over cells, over the seeds that test all of them.
    """
    groups: dict[str, list[pd.Series]] = {"all three tasks": []}
    for name, runs in _parts(studies):
        best = _gain(runs, picked(runs, "at, dual_at"))
        for group in ("all three tasks", name):
            groups.setdefault(group, []).append(best)
    for _, runs in _parts(studies):
        own, other, dual = _tasks(runs, elsewhere=False), _tasks(runs, elsewhere=True), _tasks(runs, "dual_at")
        for group, tasks, there in (
            ("AT, another corpus", other, own and other),
            ("AT, the same corpus", own, own and other),
            ("single AT", [*own, *other], dual),
            ("dual AT", dual, dual),
        ):
            strategy = "dual_at" if group == "dual AT" else "at"
            found = [_gain(runs, picked(runs, strategy, task)) for task in (tasks if there else [])]
            groups.setdefault(group, []).extend(found)
    rows = []
    for group, cells in groups.items():
        if cells:
            mean = _mean(cells)
            row = {"arm": group, "cells": len(cells), "n": mean.n, "difference": mean.mean}
            rows.append(row | {"d_low": mean.low, "d_high": mean.high})
    return pd.DataFrame(rows)


def of_averages(studies: Studies) -> list[str]:
    """The paper's claims over tasks and conditions, each decided by an interval over seeds of a mean over conditions."""
    return [
        _said("AT against a network of the same corpus is above AT against one of another corpus", _same(studies)),
        _said("dual AT is above AT against one of its two tasks alone", _dual(studies)),
        _said("AT against the factor that a split holds out gains more than on a random split", _held_out(studies)),
        _said(
            "AT gains more where the baseline is lower (points more for a baseline 10 points lower; each seed's gains are set "
            "against the baselines of the other seeds)",
            _lower(studies),
        ),
    ]


def _said(sentence: str, difference: Interval | None) -> str:
    if difference is None:
        return f"- {sentence}: the runs of this scale have nothing to compare."
    return claim(sentence, difference)


def _same(studies: Studies) -> Interval | None:
    """Section 4.3, figure 3: own corpus against another one, among the layers that both were tried at."""
    return _pairs(
        studies,
        lambda runs: [
            (("at", own), ("at", other))
            for own in _tasks(runs, elsewhere=False)
            for other in _tasks(runs, elsewhere=True)
        ],
    )


def _dual(studies: Studies) -> Interval | None:
    """Section 4.3: dual AT against AT on each of its tasks, among the layers that both were tried at."""
    return _pairs(
        studies,
        lambda runs: [
            (("dual_at", both), ("at", one))
            for both in _tasks(runs, "dual_at")
            for one in listed(both)
            if one in _tasks(runs)
        ],
    )


def _pairs(studies: Studies, pairs: Callable[[pd.DataFrame], Sequence]) -> Interval | None:
    found = []
    for _, runs in _parts(studies):
        for one, other in pairs(runs):
            if shared := shared_layers(runs, one, other):
                first, second = picked(runs, *one, shared), picked(runs, *other, shared)
                found.append((first["test_accuracy"] - second["test_accuracy"]).dropna())
    return _mean(found) if found else None


def _held_out(studies: Studies) -> Interval | None:
    """Section 5.8: gains of AT against tasks of the own corpus, class split minus random split."""
    found = []
    for table in studies.values():
        if "split" not in table:
            continue
        by_split = {split: arms(part) for split, part in table.groupby("split")}
        for name in set(CLASS_SPLITS) & set(by_split) if "random" in by_split else ():
            held, drawn = by_split[name], by_split["random"]
            for task in _tasks(held, elsewhere=False):
                found.append(_gain(held, picked(held, "at", task)) - _gain(drawn, picked(drawn, "at", task)))
    return _mean(found) if found else None


def _lower(studies: Studies) -> Interval | None:
    """Section 5.8: slope of the gain over the baseline's accuracy, across conditions, for every seed.

    A baseline that is low by chance makes its own seed's gain large: so accuracies are means over the other seeds.
    """
    gains, bases = [], []
    for _, runs in _parts(studies):
        base = _baseline(runs)
        gains.append(pd.concat([_gain(runs, picked(runs, "at", task)) for task in _tasks(runs)], axis=1).mean(axis=1))
        bases.append((base.sum() - base) / (len(base) - 1))
    if len(gains) < 2:
        return None
    y, x = _aligned(gains), _aligned(bases)
    if (x.loc[y.index].nunique(axis=1) < 2).any():  # all baselines alike: no slope
        return None
    return _interval([-0.1 * np.polyfit(x.loc[seed], y.loc[seed], 1)[0] for seed in y.index])


def _parts(studies: Studies) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every condition of every study that has anti-transfer: name of the study, runs as arms."""
    for name, table in studies.items():
        for part in conditions(table).values():
            if (part["strategy"] == "at").any():
                yield name, arms(part)


def _tasks(runs: pd.DataFrame, strategy: str = "at", elsewhere: bool | None = None) -> list[str]:
    """The orthogonal tasks of a strategy, those with networks of another corpus (or of the target's own) only."""
    tasks = runs.loc[runs["strategy"] == strategy, "orthogonal"].unique()
    return [task for task in tasks if elsewhere is None or kind(task)[1] == elsewhere]


def _gain(runs: pd.DataFrame, chosen: pd.DataFrame) -> pd.Series:
    return chosen["test_accuracy"] - _baseline(runs)[chosen.index]


def _baseline(runs: pd.DataFrame) -> pd.Series:
    return runs[runs["strategy"] == "baseline"].set_index("seed")["test_accuracy"].sort_index()


def _mean(cells: Sequence[pd.Series]) -> Interval:
    return _interval(_aligned(cells).mean(axis=1))


def _interval(values: Sequence[float]) -> Interval:
    return difference(values, np.zeros(len(values)))


def _aligned(cells: Sequence[pd.Series]) -> pd.DataFrame:
    """Seeds x cells, for the seeds that all cells have; AtlabError if there is none."""
    table = pd.concat(cells, axis=1, join="inner")
    if table.empty:
        raise AtlabError("an average over conditions needs seeds that all of them have, found none")
    return table
