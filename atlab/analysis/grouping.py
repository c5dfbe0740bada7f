"""Which runs are one arm, and what it is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pandas as pd

from atlab.experiment.acting import ARM, arm_of
from atlab.experiment.settings import Settings
from atlab.labels import NAMES, shown

CONDITIONS = ("data", "split", "noise")
PLAIN = ("orthogonal", "layers", "aggregation", "similarity")  # columns whose values speak for themselves
# What stands where a strategy does not read a setting.
EMPTY = {field.name: field.default for field in fields(Settings)} | dict.fromkeys(PLAIN, "") | {"beta": 0.0}


def conditions(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The parts of a study whose runs are tested alike: {name: runs}. Runs of one condition only are named "".

    >>> list(conditions(pd.DataFrame({"split": ["random", "disjoint"], "noise": ["low", "low"]})))
    ['disjoint split', 'random split']
    """
    varied = [name for name in CONDITIONS if name in table and table[name].nunique() > 1]
    if not varied:
        return {"": table}
    titles = {"data": "{}", "split": "{} split", "noise": "{} noise"}
    parts = {}
    for values, part in table.groupby(varied, sort=True):
        name = ", ".join(titles[v].format(value) for v, value in zip(varied, values, strict=True))
        parts[name.replace("none noise", "no noise")] = part
    return parts


def blanked(table: pd.DataFrame) -> pd.DataFrame:
    """The runs with what their strategy does not read (`acting.arm_of`) left empty, or at its default: such runs compute the same.

    >>> runs = pd.DataFrame({"strategy": ["baseline", "at"], "layers": ["conv1", "conv5"], "warm_up": [3, 3]})
    >>> blanked(runs)[["layers", "warm_up"]].values.tolist()
    [['', 0], ['conv5', 3]]
    """
    runs = table.copy()
    for name in (name for name in ARM if name in runs):
        unread = [name not in arm_of(strategy) for strategy in runs["strategy"]]
        if any(unread):
            runs[name] = runs[name].astype(object) if EMPTY[name] == "" else runs[name]
            runs.loc[unread, name] = EMPTY[name]
    return runs


def arms(table: pd.DataFrame) -> pd.DataFrame:
    """The runs with a column `arm`, a name for people, and what an arm does not read `blanked`.

    The name tells strategy, task and layer: runs that differ in something else share it.
    """
    runs, named = blanked(table), ["strategy", "orthogonal", "layers"]
    runs["arm"] = [label(named, values) for values in runs[named].to_numpy()]
    return runs


def label(by: Sequence[str], values: Sequence) -> str:
    """The name of an arm, of the values of the columns that tell arms apart; what is at its default goes unsaid.

    >>> label(["strategy", "layers", "beta", "residual", "batch_size"], ["at", "conv5", 1.0, True, 13])
    'AT conv5 beta 1 residual'
    """
    words = []
    for column, value in zip(by, values, strict=True):
        if column == "strategy":
            words.append(NAMES.get(value, value))
        elif isinstance(value, bool | np.bool_):
            words += [column] * bool(value)
        elif column == "beta":
            words += [f"beta {value:g}"] * bool(value)
        elif column in PLAIN:
            words += [str(value)] * bool(value)
        elif value != shown(getattr(Settings, column, None)):
            words.append(f"{column} {value}")
    return " ".join(words)
