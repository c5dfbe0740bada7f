"""From runs to the arguments of plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from atlab import stats
from atlab.analysis.grouping import arms, conditions
from atlab.analysis.paired import _interval, best_layer, comparison
from atlab.data.orthogonal import OrthogonalTask
from atlab.errors import AtlabError
from atlab.labels import NAMES, listed, natural, shown
from atlab.paper import tables


def pretraining(networks: pd.DataFrame) -> pd.DataFrame:
    """Table 2: networks of orthogonal tasks, a row a task: data, task, n, train and test accuracy (means), extremes."""
    rows = []
    networks = networks[networks["role"] == "teacher"]  # first stages of dual AT are there, too
    for (data, task), part in networks.groupby(["data", "orthogonal"], sort=True):
        rows.append(
            {
                "data": data,
                "task": task,
                "n": len(part),
                "train": part["train_accuracy"].mean(),
                "test": part["test_accuracy"].mean(),
                "lowest": part["test_accuracy"].min(),
                "highest": part["test_accuracy"].max(),
            }
        )
    return pd.DataFrame(rows)


def beside(table: pd.DataFrame, compared: pd.DataFrame, printed: pd.DataFrame) -> pd.DataFrame:
    """The paper's improvements (`tables.improvements`) next to those here, in points.

    Of one condition, for the tasks that are in both with a network of the same kind: of the target's own corpus, or of
    another one. AT is shown at a layer chosen before the test (`best_layer`); the paper's is the best of 13.
    """
    rows, kinds = [], compared["orthogonal"].map(_kind)
    for _, row in printed.iterrows():
        wanted = (shown(row["task"].split("+")), row["elsewhere"])
        ours = compared[(compared["strategy"] == row["strategy"]) & (kinds == wanted)]
        if ours.empty:
            continue
        task = ours.iloc[0]["orthogonal"]
        if row["strategy"] == "at":
            best, difference, layer = best_layer(table, "at", task)
            how = f"{layer}, chosen among {best.budget} by validation on other seeds" if best.budget > 1 else layer
        else:
            difference, how = _interval(ours.iloc[0]), ours.iloc[0]["layers"]
        rows.append(
            {
                "strategy": NAMES.get(row["strategy"], row["strategy"]),
                "task": task,
                "paper's corpus": row["data"],
                "paper": round(row["improvement"], 2),
                "here": difference.percent(),
                "layer": how,
            }
        )
    return pd.DataFrame(rows, columns=["strategy", "task", "paper's corpus", "paper", "here", "layer"])


def _kind(orthogonal: str) -> tuple[str, bool]:
    """The factors of an arm's orthogonal tasks, and whether their networks come from another data set."""
    tasks = [OrthogonalTask.parse(text) for text in listed(orthogonal)]
    return shown([task.factor for task in tasks]), bool(tasks) and all(task.data for task in tasks)


def beside_all(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """`beside` for every condition that the printed table `name` has, too (`tables.TEST_COLUMNS`)."""
    parts = {}
    for condition, part in conditions(table).items():
        if column := tables.test_column(name, part.iloc[0]):
            parts[condition] = beside(part, comparison(part), tables.improvements(name, column))
    if list(parts) == [""]:
        return parts[""]
    return pd.concat(parts, names=["condition"]).reset_index("condition") if parts else pd.DataFrame()


def beside_cells(compared: pd.DataFrame, printed: pd.DataFrame, baseline: float) -> pd.DataFrame:
    """Table 6 beside a comparison by aggregation and similarity: improvements in points, a row a pair that was run here.

    `baseline`: the accuracy in percent above which the paper's cells stand.
    """
    here = compared.dropna(subset="difference")[["aggregation", "similarity", "difference", "d_low", "d_high", "n"]]
    both = here.merge(printed, on=["aggregation", "similarity"], how="left")
    return pd.DataFrame(
        {
            "aggregation": both["aggregation"],
            "similarity": both["similarity"],
            "paper": (both["test"] - baseline).round(1),
            "here": [_interval(row).percent() for _, row in both.iterrows()],
        }
    )


def at_layer(compared: pd.DataFrame, layer: str = "conv5") -> pd.DataFrame:
    """Fig. 4: AT, inverse AT and frozen WI at one layer in a comparison of several studies, each named by its study."""
    found = compared[(compared["layers"] == layer) & compared["strategy"].isin(["at", "inverse_at", "frozen_wi"])]
    return found.assign(arm=found["study"] + ": " + found["arm"])


def improvements(compared: pd.DataFrame, groups: dict[str, pd.Series]) -> pd.DataFrame:
    """Fig. 3: the mean of the arms' differences in named groups of rows: group, arms, improvement, smallest, largest."""
    rows = []
    for name, mask in groups.items():
        found = compared.loc[mask & compared["difference"].notna(), "difference"]
        if len(found):
            rows.append(
                {
                    "group": name,
                    "arms": len(found),
                    "improvement": found.mean(),
                    "smallest": found.min(),
                    "largest": found.max(),
                }
            )
    return pd.DataFrame(rows)


def by_layer(compared: pd.DataFrame) -> pd.DataFrame:
    """Fig. 6: the AT arms of the task that was tried at most layers, in the layers' order; p_holm is over these arms.

    An arm of several layers ("conv1, conv5") has a row of its own. Of one condition; `by_layers` takes several, and several studies.
    """
    at = compared[compared["strategy"] == "at"]
    if at.empty:
        raise AtlabError("there are no runs of strategy 'at'")
    at = at[at["orthogonal"] == at.groupby("orthogonal", sort=False)["layers"].nunique().idxmax()]
    at = at.assign(p_holm=stats.holm(at["p"]))
    return at.sort_values("layers", key=lambda layers: layers.map(_place)).reset_index(drop=True)


def _place(layers: str) -> tuple:
    """Single layers in their order, then sets of several."""
    return len(listed(layers)), natural(layers)


def by_layers(compared: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """`by_layer` of every study and condition: {study: comparison} -> {"study" or "study, condition": rows}."""
    parts = {
        (study, name): part
        for study, all_of in compared.items()
        for name, part in all_of.groupby("condition", sort=False)
    }
    return {", ".join(filter(None, key)): by_layer(part) for key, part in parts.items()}


def strategy_groups(compared: pd.DataFrame) -> dict[str, pd.Series]:
    """The groups of fig. 3 in a comparison of several studies: every strategy, and every strategy of every study."""
    known = [s for s in NAMES if s != "baseline" and (compared["strategy"] == s).any()]
    groups = {NAMES[s]: compared["strategy"] == s for s in known}
    for study in compared["study"].unique():
        groups |= {f"{NAMES[s]}, {study}": (compared["strategy"] == s) & (compared["study"] == study) for s in known}
    return groups


def histories(table: pd.DataFrame, wanted: Sequence[str] = (), layer: str = "conv5") -> dict[str, list[pd.DataFrame]]:
    """Learning curves (fig. 7): {arm: histories of its seeds}, of the first condition if there are several.

    The arms that are named, those without runs left out; if none is named: baseline, WI, AT and inverse AT at `layer`.
    """
    from atlab.runs.folder import Run

    runs = arms(next(iter(conditions(table).values())))
    if not wanted:
        at_layer = runs["strategy"].isin(["at", "inverse_at"]) & (runs["layers"] == layer)
        chosen = runs[runs["strategy"].isin(["baseline", "wi"]) | at_layer]
        wanted = sorted(
            chosen["arm"].unique(), key=lambda arm: (arm != "baseline", not arm.startswith(NAMES["wi"]), arm)
        )
    found = {arm: [Run(path).history() for path in runs.loc[runs["arm"] == arm, "path"]] for arm in wanted}
    return {arm: curves for arm, curves in found.items() if curves}


def loss_left(curves: Mapping[str, list[pd.DataFrame]]) -> pd.DataFrame:
    """Anti-transfer loss (times beta) and cross-entropy of the training clips in the first and last epoch.

    Means over seeds, a row an arm; `fall` is the paired difference of the AT loss, first minus last, with `f_low` and
    `f_high` (95 % t interval over seeds).
    """
    rows = {}
    for arm, of_seeds in curves.items():
        row: dict[str, float] = {}
        for name, key in (("AT loss", "train_at"), ("cross-entropy", "train_loss")):
            known = [h[key] for h in of_seeds if key in h]
            if known:
                row |= {
                    f"{name}, first epoch": np.mean([h.iloc[0] for h in known]),
                    f"{name}, last epoch": np.mean([h.iloc[-1] for h in known]),
                }
            if len(known) > 1 and key == "train_at":
                fall = stats.paired_difference([h.iloc[0] for h in known], [h.iloc[-1] for h in known])
                row |= {"fall": fall.mean, "f_low": fall.low, "f_high": fall.high}
        rows[arm] = row
    return pd.DataFrame.from_dict(rows, orient="index")
