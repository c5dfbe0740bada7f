"""What a study found, computed from its table of runs: what varies, cells of two axes, differences to the baseline."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pandas as pd

from atlab import stats
from atlab.errors import AtlabError, unknown
from atlab.experiment.acting import ARM, arm_of
from atlab.experiment.settings import Settings
from atlab.labels import natural

PARAMETERS = tuple(field.name for field in fields(Settings))
NONE = "-"


def students(table: pd.DataFrame) -> pd.DataFrame:
    """The runs of students, with "-" where a strategy does not use a parameter; all runs if there is no student."""
    chosen = table[table["role"] == "student"] if "role" in table and (table["role"] == "student").any() else table
    chosen = chosen.reset_index(drop=True)
    if "strategy" not in chosen:
        return chosen
    if {"split", "split_by", "orthogonal"} <= set(chosen):  # a split without a factor goes by the first orthogonal one
        unnamed = (chosen["split"] != "random") & (chosen["split_by"] == "")
        chosen["split_by"] = chosen["split_by"].mask(unnamed, chosen["orthogonal"].str.partition(",")[0].str.strip())
    for strategy in chosen["strategy"].unique():
        rows = chosen["strategy"] == strategy
        for name in set(ARM) - set(arm_of(strategy)):
            if name in chosen:
                chosen[name] = chosen[name].astype(object).mask(rows, NONE)
    return chosen


def axes(table: pd.DataFrame) -> list[str]:
    """The parameters that runs differ in, the arm's first, the seed last."""
    results = {"id", "path", *metrics(table)}
    names = [name for name in table if name not in results and len(set(table[name].astype(str)) - {NONE}) > 1]
    if "uses" in names and "strategy" in table and (table.groupby("strategy")["uses"].nunique() < 2).all():
        names.remove("uses")  # follows from the strategy
    known = [*ARM, "split_seed", *PARAMETERS]
    own = [name for name in names if name in PARAMETERS or _is_kind(table[name])]
    return sorted(own, key=lambda n: (n == "seed", known.index(n) if n in known else len(known)))


def _is_kind(column: pd.Series) -> bool:
    """Whether a column that is no setting of atlab's tells kinds of runs apart: texts that repeat."""
    return column.nunique() < len(column) and column.map(lambda value: isinstance(value, str | bool)).all()


def metrics(table: pd.DataFrame) -> list[str]:
    """Results that are numbers, accuracies first."""
    numbers = [
        n
        for n in table
        if n not in PARAMETERS
        and n not in ("id", "path")
        and pd.api.types.is_numeric_dtype(table[n])
        and not pd.api.types.is_bool_dtype(table[n])
    ]
    first = ["test_accuracy", "validation_accuracy", "train_accuracy", "test_unweighted_average_recall"]
    return [n for n in first if n in numbers] + [n for n in numbers if n not in first]


def values_of(table: pd.DataFrame, name: str) -> list[str]:
    """Values of a parameter as texts, numbers and layers in their order."""
    if name not in table:
        raise unknown("parameter", name, axes(table))
    return sorted(set(table[name].astype(str)), key=natural)


def filtered(table: pd.DataFrame, where: Sequence[tuple[str, Sequence[str]]]) -> pd.DataFrame:
    """Rows that have one of the given values (as texts) of every parameter; AtlabError if none is left."""
    for name, values in where:
        offered = values_of(table, name)
        for value in values:
            if value not in offered:
                raise unknown(f"value of {name!r} among the runs left", value, offered)
        table = table[table[name].astype(str).isin(list(values))]
    if table.empty:
        raise AtlabError("no run is left by these filters")
    return table


def above_baseline(table: pd.DataFrame, metric: str) -> pd.Series:
    """The metric minus that of the baseline of the same seed, data, split and size; nan for baselines and without one.

    Several baselines that agree in all that is not the arm's are averaged. AtlabError if the table has no baseline.
    """
    if "strategy" not in table or not (table["strategy"] == "baseline").any():
        raise AtlabError("the runs shown have no baseline to subtract: leave the difference off, or filter less")
    keys = table.apply(_context, axis=1)
    baselines = table["strategy"] == "baseline"
    level = table.loc[baselines, metric].groupby(keys[baselines]).mean()
    difference = table[metric] - keys.map(level).astype(float)
    return difference.mask(baselines)


def _context(row: pd.Series) -> tuple:
    """What a run shares with its baseline."""
    return tuple(str(row[name]) for name in PARAMETERS if name in row and name not in ARM)


def bounds(metric: str, difference: bool = False) -> tuple[float, float]:
    """What a mean of this result, or of its difference to the baseline's, can be."""
    if not is_share(metric):
        return -np.inf, np.inf
    return (-1.0, 1.0) if difference else (0.0, 1.0)


def is_share(metric: str) -> bool:
    """Whether a result is a share, from 0 to 1."""
    return metric.endswith(("accuracy", "recall"))


def applicable(table: pd.DataFrame, *axes: str) -> pd.DataFrame:
    """The runs that have a value on every axis: a baseline has no layer. All runs if there is none."""
    found = table
    for axis in filter(None, axes):
        found = found[found[axis].astype(str) != NONE]
    return found if len(found) else table


def pooled(table: pd.DataFrame, x: str, y: str) -> dict[str, list[str]]:
    """What runs in one cell differ in: {parameter: values} in the order of `axes`."""
    shared = [name for name in (x, y) if name]
    groups = table.groupby([table[name].astype(str) for name in shared])
    mixed = [n for n in axes(table) if n not in shared and groups[n].agg(lambda c: c.astype(str).nunique()).max() > 1]
    return {name: values_of(table, name) for name in mixed}


def cells(
    table: pd.DataFrame, x: str, y: str, values: pd.Series, ends: tuple[float, float] = (-np.inf, np.inf)
) -> pd.DataFrame:
    """Mean, 95 % t interval and number of the runs at every pair of axis values: columns x, y (texts), mean, low, high, n.

    Intervals are cut to the possible range `ends`. One run has no interval (nan). Without `y` its column holds "". Runs without a value are
    left out.
    """
    frame = pd.DataFrame(
        {"x": table[x].astype(str), "y": table[y].astype(str) if y else "", "value": values.astype(float)}
    )
    frame = frame.dropna(subset="value")
    rows = []
    for (one, other), part in frame.groupby(["x", "y"], sort=False):
        low = high = np.nan
        if len(part) > 1:
            _, low, high, _ = stats.mean_interval(part["value"], ends=ends)
        rows.append((one, other, float(part["value"].mean()), low, high, len(part)))
    found = pd.DataFrame(rows, columns=["x", "y", "mean", "low", "high", "n"])
    return found.sort_values(["y", "x"], key=lambda c: c.map(natural), ignore_index=True)


def effect_by_layer(
    table: pd.DataFrame, parts: Sequence[str] = ("train", "test"), strategy: str = "at"
) -> pd.DataFrame:
    """AT's accuracy above the baseline, paired by seed, by AT layer and part: cells with x the layer and y the part."""
    found = []
    for part in parts:
        difference = above_baseline(table, f"{part}_accuracy")[table["strategy"] == strategy]
        chosen = table.loc[difference.index]
        found.append(cells(chosen, "layers", "", difference, (-1.0, 1.0)).assign(y=part))
    together = pd.concat(found, ignore_index=True)
    if together.empty:
        raise AtlabError(f"this study has no run of strategy {strategy!r} with a baseline of its seed")
    return together


def in_cell(table: pd.DataFrame, x: str, y: str, cell: tuple[str, str]) -> pd.DataFrame:
    """The runs at a pair of axis values; AtlabError if there is none."""
    chosen = table[(table[x].astype(str) == cell[0]) & ((table[y].astype(str) == cell[1]) if y else True)]
    if chosen.empty:
        place = f"{x} {cell[0]}" + (f", {y} {cell[1]}" if y else "")
        raise AtlabError(f"no run has {place}: choose another cell")
    return chosen


def csv(frame: pd.DataFrame) -> str:
    """The rows as comma-separated values."""
    return frame.to_csv(index=False)


def latex(found: pd.DataFrame, x: str, y: str, metric: str, percent: bool = True) -> str:
    """Cells as a LaTeX table (booktabs): one row per value of y, one column per value of x, mean and 95 % t interval."""

    def escape(text: str) -> str:
        return re.sub(r"([_%&#$])", r"\\\1", text)

    columns = sorted(set(found["x"]), key=natural)
    scale = 100 if percent else 1
    lines = [
        f"% {metric}: mean and 95 % t interval over runs" + (", percent" if percent else ""),
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        " & ".join([escape(f"{y} / {x}" if y else x), *map(escape, columns)]) + r" \\",
        r"\midrule",
    ]
    for value in sorted(set(found["y"]), key=natural):
        row = [escape(value) if y else escape(metric)]
        for column in columns:
            cell = found[(found["x"] == column) & (found["y"] == value)]
            if cell.empty:
                row.append("--")
            else:
                mean, low, high = cell.iloc[0][["mean", "low", "high"]]
                interval = "" if np.isnan(low) else f" [{scale * low:.1f}, {scale * high:.1f}]"
                row.append(f"{scale * mean:.1f}{interval}")
        lines.append(" & ".join(row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
