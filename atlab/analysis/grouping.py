"""Which runs are one arm, and what it is called."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from atlab.experiment.acting import read_by
from atlab.experiment.settings import Settings
from atlab.labels import NAMES, shown

CONDITIONS = ("data", "split", "noise")
PLAIN = ("orthogonal", "layers", "aggregation", "similarity")  # columns whose values speak for themselves


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


def arms(table: pd.DataFrame) -> pd.DataFrame:
    """The runs with a column `arm`, a name for people, and what an arm does not use blanked.

    A baseline uses neither orthogonal task nor layer; WI no layer; only losses have aggregation, similarity and beta.
    The name tells strategy, task and layer: runs that differ in something else share it.
    """
    runs = table.astype({"orthogonal": object, "layers": object, "aggregation": object, "similarity": object}).copy()
    runs.loc[runs["strategy"] == "baseline", "orthogonal"] = ""
    for setting, unused in (("layers", ""), ("aggregation", ""), ("similarity", ""), ("beta", 0.0)):
        runs.loc[[setting not in read_by(strategy) for strategy in runs["strategy"]], setting] = unused
    runs["arm"] = [
        label(("strategy", "orthogonal", "layers"), r[["strategy", "orthogonal", "layers"]]) for _, r in runs.iterrows()
    ]
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
