"""From the runs of a study to the papers' tables and figures: pure functions of a runs table (`runs.table`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from atlab import stats
from atlab.analysis.grouping import arms, conditions, label
from atlab.errors import AtlabError
from atlab.labels import NAMES, natural, plain
from atlab.stats import Interval

COLUMNS = (
    *("arm", "n", "train", "test", "low", "high"),
    *("difference", "d_low", "d_high", "p", "p_holm", "could_have_seen"),
)


def comparison(table: pd.DataFrame, by: Sequence[str] = ("strategy", "orthogonal", "layers")) -> pd.DataFrame:
    """Every arm's accuracy with its interval over seeds, and its difference to the baseline, paired by seed.

    Args:
        table: runs with `seed`, the columns `by`, train_accuracy and test_accuracy; one run per arm, condition and seed.
        by: the columns that tell arms apart.

    Returns rows of condition (`conditions`), `by`, arm, n, train, test, low, high (means and 95 % t interval of the test
    accuracy), difference, d_low, d_high (paired, 95 % t interval), p, p_holm (over all arms of the condition but the
    baseline), could_have_seen (the true difference that this finds with a probability of 80 %). Fractions, not percent.
    AtlabError without a baseline, for a seed that is there twice, or one that some arms do not have.
    """
    return pd.concat([_compared(part, list(by), name) for name, part in conditions(table).items()], ignore_index=True)


def _compared(table: pd.DataFrame, by: list[str], condition: str) -> pd.DataFrame:
    runs = arms(table)
    test, train = (_by_seed(runs, by, f"{part}_accuracy") for part in ("test", "train"))
    baseline = [key for key in test.index if key[by.index("strategy")] == "baseline"]
    if len(baseline) != 1:
        raise AtlabError(
            f"a comparison needs one arm of strategy 'baseline', found {len(baseline)} among {len(test)} arms"
        )
    base, rows = test.loc[baseline[0]], []
    for key, scores in test.iterrows():
        own = stats.mean_interval(scores, ends=(0, 1))
        arm = ", ".join(filter(None, (label(by, key), condition)))
        row = {
            "condition": condition,
            **dict(zip(by, key, strict=True)),
            "arm": arm,
            "n": own.n,
            "train": train.loc[key].mean(),
            "test": own.mean,
            "low": own.low,
            "high": own.high,
        }
        if key != baseline[0]:
            d = stats.paired_difference(scores, base)
            row |= {"difference": d.mean, "d_low": d.low, "d_high": d.high, "p": stats.paired_p(scores, base)}
        rows.append(row)
    compared = pd.DataFrame(rows, columns=["condition", *by, *COLUMNS])
    others = compared["p"].notna()
    compared.loc[others, "p_holm"] = stats.holm(compared.loc[others, "p"])
    compared.loc[others, "could_have_seen"] = [
        stats.could_have_seen(_interval(row), int(others.sum())) for _, row in compared[others].iterrows()
    ]
    order = compared["strategy"].map({name: n for n, name in enumerate(NAMES)}).fillna(len(NAMES))
    return (
        compared.assign(order=order)
        .sort_values(["order", *by], kind="stable", key=_in_order)
        .drop(columns="order")
        .reset_index(drop=True)
    )


def _in_order(column: pd.Series) -> pd.Series:
    """Sorts layers naturally, conv5 before conv13, and everything else as it is."""
    return column.map(natural) if column.name == "layers" else column


def difference(one: Sequence[float], other: Sequence[float]) -> Interval:
    """The mean difference of pairs with its interval; one pair has none (nan).

    >>> difference([0.75], [0.5])
    Interval(mean=0.25, low=nan, high=nan, n=1)
    """
    if len(one) == len(other) == 1:
        return Interval(float(np.subtract(np.asarray(one), np.asarray(other))[0]), np.nan, np.nan, 1)
    return stats.paired_difference(one, other)


def findings(compared: pd.DataFrame) -> str:
    """What a comparison shows, in sentences computed from its intervals (Markdown).

    Of arms above the baseline it says which are as far above it on the training clips: they fit the training data better, so
    the gain may not be generalisation.
    """
    lines = []
    for _, part in compared.groupby("condition", sort=False):
        gains, base = part.dropna(subset="difference"), part.loc[part["strategy"] == "baseline"].iloc[0]
        lines.append(
            f"{plain(base['arm'].capitalize())}: {100 * base['test']:.1f} % [{100 * base['low']:.1f}, {100 * base['high']:.1f}] of the "
            f"test clips, {100 * base['train']:.1f} % of the training clips, {base['n']} seeds."
        )
        for word, sure in (("above", gains["d_low"] > 0), ("below", gains["d_high"] < 0)):
            named = [
                f"{plain(r['arm'])} ({_interval(r).percent()}; Holm-adjusted p = {r['p_holm']:.2f})"
                for _, r in gains[sure].iterrows()
            ]
            lines.append(
                f"{len(named)} of {len(gains)} arms {'lies' if len(named) == 1 else 'lie'} {word} it with an interval that excludes zero{': ' if named else ''}{'; '.join(named)}."
            )
        above = gains[gains["d_low"] > 0]
        further = above[above["train"] - base["train"] >= above["difference"]]
        if len(further):
            lines.append(
                f"As far ahead or further on the training clips: {', '.join(map(plain, further['arm']))}. That is a better fit to the training "
                "data, and the gain may not be generalisation."
            )
    return "\n\n".join(lines)


def result(compared: pd.DataFrame) -> dict:
    """A comparison as plain numbers for result.json: {arm: {n, train, test, low, high, difference, ...}}."""
    rows = compared.set_index("arm")[list(COLUMNS[1:])].astype(object)
    return {arm: {k: None if pd.isna(v) else float(v) for k, v in row.items()} for arm, row in rows.iterrows()}


def records(table: pd.DataFrame) -> list[dict]:
    """The rows of a table for result.json: what is missing (an interval of values that do not vary) is None.

    >>> records(pd.DataFrame({"arm": ["AT"], "low": [float("nan")]}))
    [{'arm': 'AT', 'low': None}]
    """
    return table.astype(object).where(table.notna(), None).to_dict("records")


def percent(compared: pd.DataFrame) -> pd.DataFrame:
    """A comparison for reading: accuracies in percent, differences in points with their intervals."""
    shown = pd.DataFrame({"arm": compared["arm"], "n": compared["n"], "train %": (100 * compared["train"]).round(1)})
    shown["test %"] = [
        f"{100 * r['test']:.1f} [{100 * r['low']:.1f}, {100 * r['high']:.1f}]" for _, r in compared.iterrows()
    ]
    shown["above the baseline (points)"] = [
        "" if np.isnan(r["difference"]) else _interval(r).percent() for _, r in compared.iterrows()
    ]
    shown["p (Holm)"] = ["" if np.isnan(p) else f"{p:.3f}" for p in compared["p_holm"]]
    shown["could have seen (points)"] = ["" if np.isnan(d) else f"{100 * d:.1f}" for d in compared["could_have_seen"]]
    return shown


def _by_seed(runs: pd.DataFrame, by: Sequence[str], score: str) -> pd.DataFrame:
    if runs.duplicated([*by, "seed"]).any():
        twice = runs[runs.duplicated([*by, "seed"])].iloc[0]
        raise AtlabError(f"arm {twice['arm']!r} has seed {twice['seed']} twice: name what tells its runs apart in `by`")
    scores = runs.pivot(index=list(by), columns="seed", values=score)
    if scores.isna().any(axis=None):
        raise AtlabError(
            f"arms are paired by seed; seeds missing in some: {scores.columns[scores.isna().any()].tolist()}"
        )
    return scores


def _interval(row: pd.Series) -> Interval:
    return Interval(row["difference"], row["d_low"], row["d_high"], int(row["n"]))
