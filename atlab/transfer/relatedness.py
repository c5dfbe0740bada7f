"""Relatedness of tasks by transfer, and whether it predicts where anti-transfer helps.

A frozen layer of a base task's network that serves a target better than a layer trained on the target itself is related to
it, one that serves worse is not; the relation has a direction. Anti-transfer keeps a layer unlike that of an orthogonal
task's network: if features of that task hurt the target, frozen transfer of the same layer should be poor where
anti-transfer gains. Neither Yosinski et al. 2014 nor Guizzo, Weyde & Tarroni 2021 ask that.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from atlab import stats
from atlab.errors import AtlabError
from atlab.labels import plain

SHUFFLES = 10_000
# The anti-transfer loss whose gain is looked up; runs of other forms of it are ignored.
FORM = {
    "strategy": "at",
    "aggregation": "gram",
    "similarity": "squared_cosine",
    "beta": 1.0,
    "published": False,
    "warm_up": 0,
    "start": "random",
    "residual": False,
    "noise": "none",
}
SAME = ("data", "split", "width")  # what a transfer run and an anti-transfer run must share to be compared
FEWEST = 4  # points of a correlation


def matrix(table: pd.DataFrame) -> pd.DataFrame:
    """Frozen transfer of n layers less training from scratch: data, split, width, target, base, n, test, difference, low, high, units.

    `table`: runs of pairs of factors with treatments base (from scratch), AnB and BnB; the base of BnB is the target itself.
    Differences are paired by seed, with 95 % t intervals. AtlabError for a target without runs from scratch.
    """
    rows, frozen = [], table[table["treatment"].isin(["AnB", "BnB"])]
    frozen = frozen.assign(source=np.where(frozen["treatment"] == "BnB", frozen["target"], frozen["base"]))
    for (*same, target, base, n), runs in frozen.groupby([*SAME, "target", "source", "n"], sort=False):
        scratch = _only(table, {**dict(zip(SAME, same, strict=True)), "treatment": "base", "target": target})
        scratch = scratch.set_index("seed")["test_accuracy"]
        if not set(runs["seed"]) <= set(scratch.index):
            raise AtlabError(
                f"transfer to {target!r} is read against training from scratch: a run with treatment 'base' is missing"
            )
        scores = runs.set_index("seed")["test_accuracy"]
        d = stats.paired_difference(scores, scratch.loc[scores.index])
        rows.append(
            {
                **dict(zip(SAME, same, strict=True)),
                "target": target,
                "base": base,
                "n": int(n),
                "test": scores.mean(),
                "difference": d.mean,
                "low": d.low,
                "high": d.high,
                "units": d.n,
            }
        )
    return pd.DataFrame(rows)


def asymmetry(pairs: pd.DataFrame) -> pd.DataFrame:
    """Each two tasks in both directions, at the n that both have: first, second, n, second_to_first, first_to_second, difference."""
    found = pairs.set_index(["target", "base", "n"])["difference"]
    rows = [
        {
            "first": a,
            "second": b,
            "n": n,
            "second_to_first": value,
            "first_to_second": found[b, a, n],
            "difference": value - found[b, a, n],
        }
        for (a, b, n), value in found.items()
        if a < b and (b, a, n) in found.index
    ]
    return pd.DataFrame(rows, columns=["first", "second", "n", "second_to_first", "first_to_second", "difference"])


def joined(pairs: pd.DataFrame, anti_transfer: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Transferability of a layer next to anti-transfer's gain there: pair, layer, transfer and gain with _low and _high.

    `pairs`: of `matrix`; `anti_transfer`: a name -> runs of an anti-transfer study (`runs.table`), with its baseline. Layer n
    is conv<n>. Only runs on the same data, split and width are compared; there may be none.
    """
    rows = []
    for table in anti_transfer.values():
        if not set(FORM) <= set(table):
            continue  # not a study of anti-transfer
        for (*same, target, base, layer), runs in _only(table, FORM).groupby([*SAME, "target", "orthogonal", "layers"]):
            alike = {**dict(zip(SAME, same, strict=True)), "target": target}
            found = _only(pairs, {**alike, "base": base})
            found = found["conv" + found["n"].astype(str) == layer]
            if found.empty:
                continue
            baseline = _only(table, {**alike, "strategy": "baseline", "noise": "none"}).set_index("seed")[
                "test_accuracy"
            ]
            scores = runs.set_index("seed")["test_accuracy"]
            d, transfer = stats.paired_difference(scores, baseline.loc[scores.index]), found.iloc[0]
            rows.append(
                {
                    "pair": f"{target} against {base}",
                    "layer": layer,
                    "transfer": transfer["difference"],
                    "transfer_low": transfer["low"],
                    "transfer_high": transfer["high"],
                    "gain": d.mean,
                    "gain_low": d.low,
                    "gain_high": d.high,
                }
            )
    columns = ["pair", "layer", *(f"{name}{end}" for name in ("transfer", "gain") for end in ("", "_low", "_high"))]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values(
        ["pair", "layer"], key=lambda c: c if c.name == "pair" else c.str[4:].astype(int)
    ).reset_index(drop=True)


def _only(table: pd.DataFrame, values: Mapping) -> pd.DataFrame:
    """The rows that have these values."""
    return table[np.logical_and.reduce([table[name] == value for name, value in values.items()])]


def correlation(points: pd.DataFrame, seed: int = 0) -> dict[str, float]:
    """Of transfer with gain over the points of `joined`: pearson, spearman, p (of Spearman's, by shuffling), points, pairs.

    Two-sided, 10,000 shuffles. Points of one pair share baselines and networks, so p is too small rather than too large.
    AtlabError for fewer than four points.

    >>> points = pd.DataFrame({"pair": list("aabb"), "transfer": [0.0, 0.1, 0.2, 0.3], "gain": [0.3, 0.1, 0.2, 0.0]})
    >>> {name: round(value, 1) for name, value in correlation(points).items()}
    {'pearson': -0.8, 'spearman': -0.8, 'p': 0.3, 'points': 4, 'pairs': 2}
    """
    x, y = points["transfer"].to_numpy(float), points["gain"].to_numpy(float)
    if len(x) < FEWEST:
        raise AtlabError(f"a correlation of {len(x)} points says nothing: at least {FEWEST} are needed")
    ranks = [scipy_stats.rankdata(v) - (len(v) + 1) / 2 for v in (x, y)]
    rng = np.random.default_rng(seed)
    drawn = np.array([rng.permutation(ranks[1]) @ ranks[0] for _ in range(SHUFFLES)])
    extreme = np.abs(drawn) >= abs(ranks[0] @ ranks[1]) - 1e-9
    return {
        "pearson": float(np.corrcoef(x, y)[0, 1]),
        "spearman": float(np.corrcoef(*ranks)[0, 1]),
        "p": float((extreme.sum() + 1) / (SHUFFLES + 1)),
        "points": len(x),
        "pairs": int(points["pair"].nunique()),
    }


def reading(pairs: pd.DataFrame, points: pd.DataFrame) -> str:
    """What the matrix and the scatter say, in sentences computed from them (Markdown)."""
    others = pairs[pairs["target"] != pairs["base"]]
    lines = []
    for word, sure in (("better", others["low"] > 0), ("worse", others["high"] < 0)):
        named = "; ".join(
            f"{plain(r['target'])} from {plain(r['base'])}, n = {r['n']} ({100 * r['difference']:+.1f})"
            for _, r in others[sure].iterrows()
        )
        lines.append(
            f"{int(sure.sum())} of {len(others)} frozen transfers are {word} than training from scratch with an interval that excludes zero"
            f"{': ' + named if named else ''}."
        )
    both = asymmetry(pairs)
    if len(both):
        most = both.loc[both["difference"].abs().idxmax()]
        lines.append(
            f"The two directions differ most between {plain(most['first'])} and {plain(most['second'])} at n = {most['n']}: {100 * most['second_to_first']:+.1f} points from "
            f"{plain(most['second'])} to {plain(most['first'])}, {100 * most['first_to_second']:+.1f} the other way."
        )
    if len(points) < FEWEST:
        lines.append(
            f"Transferability of a layer and anti-transfer's gain there: {len(points)} points, too few for a relation. Transfer and "
            "anti-transfer runs are compared where data, split and width are the same."
        )
        return "\n\n".join(lines)
    found = correlation(points)
    if found["p"] >= 0.05:
        verdict = "no relation is shown"
    else:
        verdict = "anti-transfer gains less" if found["spearman"] < 0 else "anti-transfer gains more"
        verdict += " where the orthogonal task's layer transfers better"
    lines.append(
        f"Transferability of a layer and anti-transfer's gain there: Spearman's rho {found['spearman']:+.2f} (p = {found['p']:.2f} by shuffling), Pearson's r "
        f"{found['pearson']:+.2f} over {found['points']} points of {found['pairs']} pairs of tasks: {verdict}. Points of a pair are not independent, and each has an "
        "interval of its own in the figure."
    )
    return "\n\n".join(lines)
