"""How much anti-transfer a study applied, and to what: both losses, clips, repetitions and splits, baselines that learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from atlab import analysis
from atlab.runs.folder import Run

PARTS = ("train", "validation", "test")
LEARNED = 0.95  # of the training clips: a network that names fewer has not learned them


def clips(table: pd.DataFrame, units: Sequence[str]) -> list[str]:
    """Clips of every part, and repetitions and splits of runs that are compared: sentences; none without runs.

    >>> runs = pd.DataFrame({"seed": [0, 1], "split_seed": [0, 0], "train_clips": [70, 70], "test_clips": [9, 10]})
    >>> clips(runs, ["seed", "split_seed"])
    ['clips: train 70, test 9 to 10', '2 repetitions on 1 split']
    """
    if table.empty:
        return []
    parts = [f"{part} {_range(table[f'{part}_clips'])}" for part in PARTS if f"{part}_clips" in table]
    splits = table["split_seed"].nunique() if "split_seed" in table else 1
    count = f"{len(table.drop_duplicates(list(units)))} repetitions on {splits} split{'s' * (splits > 1)}"
    return [f"clips: {', '.join(parts)}", count] if parts else [count]


def learned(table: pd.DataFrame) -> list[str]:
    """Whether every baseline names its training clips: one sentence; none without baselines.

    >>> learned(pd.DataFrame({"strategy": ["baseline", "baseline"], "train_accuracy": [1.0, 0.9]}))
    ['baselines name 95.0 % of their training clips, the lowest 90.0 %: not all have learned them, so differences to them say little']
    """
    accuracies = table.loc[table["strategy"] == "baseline", "train_accuracy"]
    if accuracies.empty:
        return []
    said = f"baselines name {100 * accuracies.mean():.1f} % of their training clips, the lowest {100 * accuracies.min():.1f} %"
    doubt = ": not all have learned them, so differences to them say little"
    return [said + doubt * bool(accuracies.min() < LEARNED)]


def _range(values: pd.Series) -> str:
    least, most = int(values.min()), int(values.max())
    return str(least) if least == most else f"{least} to {most}"


def losses(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The anti-transfer loss (times beta) of every arm that has one, and its share of the cross-entropy, at start and end.

    Means over repetitions of the first and last epoch on the training clips; the share is in percent.
    """
    curves: dict[str, list[pd.DataFrame]] = {}
    for key, part in analysis.arms(table).groupby(list(by), sort=False):
        found = [Run(path).history() for path in part["path"] if (Path(path) / "history.parquet").exists()]
        if found and all("train_at" in history for history in found):
            curves[analysis.label(by, key)] = found
    rows = []
    for arm, row in analysis.loss_left(curves).iterrows():
        shown = {"arm": arm}
        for epoch in ("first", "last"):
            at, entropy = row[f"AT loss, {epoch} epoch"], row[f"cross-entropy, {epoch} epoch"]
            shown |= {
                f"AT loss, {epoch} epoch": f"{at:.3g}",
                f"% of the cross-entropy, {epoch}": f"{100 * at / entropy:.2g}",
            }
        rows.append(shown)
    return pd.DataFrame(rows)
