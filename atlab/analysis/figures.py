"""From runs to the arguments of plots."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from atlab import stats
from atlab.analysis.choice import layer_of, picked
from atlab.analysis.grouping import arms, conditions
from atlab.analysis.paired import _interval, comparison, difference
from atlab.data.orthogonal import OrthogonalTask
from atlab.errors import AtlabError
from atlab.labels import NAMES, listed, natural, shown
from atlab.paper import tables


def pretraining(table: pd.DataFrame) -> pd.DataFrame:
    """Table 2: networks by data set and task, with what the paper prints (percent; empty for other corpora).

    Args:
        table: runs of baselines, each trained for an orthogonal task.

    Returns one row per network: data, task, n, train, test, low, high (percent; means with the 95 % t interval of the test
    accuracy over seeds), classes, paper's corpus, paper's train, paper's test, paper's classes.
    """
    rows = []
    for (data, task), part in table.groupby(["data", "target"], sort=False):
        test = stats.mean_interval(part["test_accuracy"], ends=(0, 1))
        row = {"data": data, "task": task, "n": test.n, "classes": int(part["classes"].iloc[0])}
        row |= {"train": 100 * part["train_accuracy"].mean(), "test": 100 * test.mean}
        rows.append(row | {"low": 100 * test.low, "high": 100 * test.high} | tables.printed_network(data))
    return pd.DataFrame(rows)


def beside(table: pd.DataFrame, compared: pd.DataFrame, printed: pd.DataFrame) -> pd.DataFrame:
    """The paper's improvements (`tables.improvements`) next to those here, in points.

    Of one condition, for the tasks that are in both with a network of the same kind: of the target's own corpus, or of
    another one. AT and dual AT stand at a layer chosen before the test (`picked`); the paper's is the best of 13.
    """
    rows, runs, kinds = [], arms(table), compared["orthogonal"].map(kind)
    for _, row in printed.iterrows():
        wanted = (shown(row["task"].split("+")), row["elsewhere"])
        for task in compared.loc[(compared["strategy"] == row["strategy"]) & (kinds == wanted), "orthogonal"].unique():
            chosen, base = picked(runs, row["strategy"], task), picked(runs, "baseline")
            found = difference(chosen["test_accuracy"], base.loc[chosen.index, "test_accuracy"])
            rows.append(
                {
                    "strategy": NAMES.get(row["strategy"], row["strategy"]),
                    "task": task,
                    "paper's corpus": row["data"],
                    "paper": round(row["improvement"], 2),
                    "here": found.percent(),
                    "layer": layer_of(chosen),
                }
            )
    return pd.DataFrame(rows, columns=["strategy", "task", "paper's corpus", "paper", "here", "layer"])


def kind(orthogonal: str) -> tuple[str, bool]:
    """The factors of an arm's orthogonal tasks as the paper names them, and whether their networks come from another data set.

    >>> kind("session"), kind("emotion@data/iemocap_1s, noise@data/ms_snsd")
    (('speaker', False), ('emotion, noise', True))
    """
    tasks = [OrthogonalTask.parse(text) for text in listed(orthogonal)]
    factors = [tables.NAMED.get(task.factor, task.factor) for task in tasks]
    return shown(factors), bool(tasks) and all(task.data for task in tasks)


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
    """Table 6 next to a comparison by aggregation and similarity: improvements in points, one row per pair that was run here.

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


def one_layer(compared: pd.DataFrame) -> pd.DataFrame:
    """Fig. 4: inverse AT and frozen WI of several studies, each with AT at the same layer and task; arms named by their study."""
    case = ["study", "condition", "orthogonal", "layers"]
    others = compared[compared["strategy"].isin(["inverse_at", "frozen_wi"])]
    here = pd.MultiIndex.from_frame(compared[case]).isin(pd.MultiIndex.from_frame(others[case]))
    found = compared[here & compared["strategy"].isin(["at", "inverse_at", "frozen_wi"])]
    return found.assign(arm=found["study"] + ": " + found["arm"])


def layered(compared: pd.DataFrame) -> list[str]:
    """The orthogonal tasks that AT was tried against at several layers."""
    tried = compared[compared["strategy"] == "at"].groupby("orthogonal", sort=False)["layers"].nunique()
    return tried.index[tried > 1].tolist()


def by_layer(compared: pd.DataFrame, orthogonal: str = "") -> pd.DataFrame:
    """Fig. 6: the AT arms of a task (the one tried at most layers), in the layers' order; p_holm is over these arms.

    An arm of several layers ("conv1, conv5") has a row of its own. Of one condition; `by_layers` takes several, and several studies.
    """
    at = compared[compared["strategy"] == "at"]
    if at.empty:
        raise AtlabError("there are no runs of strategy 'at'")
    task = orthogonal or at.groupby("orthogonal", sort=False)["layers"].nunique().idxmax()
    at = at[at["orthogonal"] == task]
    at = at.assign(p_holm=stats.holm(at["p"]))
    return at.sort_values("layers", key=lambda layers: layers.map(_place)).reset_index(drop=True)


def on_training(table: pd.DataFrame) -> pd.DataFrame:
    """The same runs, scored on their training clips (fig. 6 shows both)."""
    return table.assign(test_accuracy=table["train_accuracy"])


def _place(layers: str) -> tuple:
    """Single layers in their order, then sets of several."""
    return len(listed(layers)), natural(layers)


def by_layers(compared: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """`by_layer` of every study, condition and task tried at several layers: {study: comparison} -> {"study, condition: task": rows}."""
    return {
        f"{', '.join(filter(None, (study, name)))}: {task}": by_layer(part, task)
        for study, all_of in compared.items()
        for name, part in all_of.groupby("condition", sort=False)
        for task in layered(part)
    }


def histories(table: pd.DataFrame) -> dict[str, list[pd.DataFrame]]:
    """Learning curves (fig. 7) of runs of one condition: {arm: histories of its seeds}, the baseline first."""
    from atlab.runs.folder import Run

    by_arm = arms(table).groupby("arm", sort=True)["path"].agg(list)
    names = sorted(by_arm.index, key=lambda arm: arm != "baseline")
    return {arm: [Run(path).history() for path in by_arm[arm]] for arm in names}


def loss_left(curves: Mapping[str, list[pd.DataFrame]]) -> pd.DataFrame:
    """Anti-transfer loss (times beta) and cross-entropy of the training clips in the first and last epoch.

    Means over seeds, one row per arm; `fall` is the paired difference of the AT loss, first minus last, with `f_low` and
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
