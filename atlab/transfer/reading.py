"""What a transferability study says: accuracy by number of transferred layers, and what of the drop has which cause.

Yosinski et al. 2014, section 4: BnB below the base network is co-adaptation that was lost when the network was cut; AnB
below BnB is specificity of the features to the other task; AnB+ above the base is the boost of table 1. The unit is a seed
(with its division into halves): both directions of a division share their base networks and are averaged first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from atlab import stats
from atlab.analysis.claims import claim
from atlab.analysis.paired import records
from atlab.errors import AtlabError
from atlab.labels import plain
from atlab.paper import tables
from atlab.stats import Interval

# Stated in the text (sections 4.1 and 4.2) of what was found on ImageNet: top-1 accuracy of the base networks, and points that the
# last transferred layer costs between similar and between dissimilar halves.
STATED = {
    "base accuracy": 0.625,
    "drop of the last layer, similar halves": 8.0,
    "drop of the last layer, dissimilar halves": 25.0,
}
SIMILAR = "random"
FRACTIONS = ("test", "difference", "drop", "low", "high", "d_low", "d_high", "second_to_first", "first_to_second")
CAUSES = {"co-adaptation": ("base", "BnB"), "specificity": ("BnB", "AnB"), "both": ("base", "AnB")}


def by_unit(table: pd.DataFrame, score: str = "test_accuracy") -> pd.DataFrame:
    """One row per division, treatment and n: the mean of both directions by seed, [rows x seeds], indexed halves, treatment, n.

    >>> runs = pd.DataFrame({"halves": "random", "treatment": "base", "n": 0, "half": ["A", "B"], "seed": 0, "test_accuracy": [0.5, 0.7]})
    >>> float(by_unit(runs).iloc[0, 0])
    0.6

    AtlabError without the base networks, and for a run that is there twice or missing in one direction or seed.
    """
    keys = ["halves", "treatment", "n", "half", "seed"]
    if not (table["treatment"] == "base").any():
        raise AtlabError("transfer is read against the base networks: the study has no run with treatment 'base'")
    if twice := int(table.duplicated(keys).sum()):
        raise AtlabError(f"{twice} runs differ in none of {', '.join(keys)}: choose one study's")
    wide = table.pivot(index=["halves", "treatment", "n"], columns=["seed", "half"], values=score)
    if wide.isna().any(axis=None):
        halves, treatment, n = wide.index[wide.isna().any(axis=1)][0]
        raise AtlabError(
            f"{treatment} with n = {n} ({halves} halves) lacks runs of some seed or direction: finish the sweep"
        )
    return wide.T.groupby(level="seed").mean().T


def by_layer(table: pd.DataFrame) -> pd.DataFrame:
    """Figure 2 in numbers: halves, treatment, n, test with low and high, difference to the base with d_low and d_high, units.

    Means and 95 % t intervals over seeds; differences paired by seed. Fractions.
    """
    units = by_unit(table)
    rows = []
    for halves, treatment, n in sorted(units.index, key=_similar_first):
        scores = units.loc[halves, treatment, n]
        own = stats.mean_interval(scores, ends=(0, 1))
        row = {
            "halves": halves,
            "treatment": treatment,
            "n": n,
            "test": own.mean,
            "low": own.low,
            "high": own.high,
            "units": own.n,
        }
        if treatment != "base":
            d = stats.paired_difference(scores, _base(units, halves))
            row |= {"difference": d.mean, "d_low": d.low, "d_high": d.high}
        rows.append(row)
    return pd.DataFrame(rows)


def by_target(table: pd.DataFrame) -> pd.DataFrame:
    """Figure 3, upper left: accuracy of base and AnB by target half: halves, half, n (0: base), test, low, high, units."""
    part = table[table["treatment"].isin(["base", "AnB"])]
    rows = []
    for (halves, half, n), runs in part.groupby(["halves", "half", "n"]):
        own = stats.mean_interval(runs["test_accuracy"], ends=(0, 1))
        rows.append(
            {"halves": halves, "half": half, "n": n, "test": own.mean, "low": own.low, "high": own.high, "units": own.n}
        )
    return pd.DataFrame(rows)


def drops(table: pd.DataFrame) -> pd.DataFrame:
    """What transferred frozen layers cost, by cause: halves, n, cause, drop, low, high, p, p_holm, units.

    "co-adaptation" is base - BnB, "specificity" BnB - AnB, "both" base - AnB; positive is a loss. Paired by seed, 95 % t
    intervals; Holm's correction over the layers of a cause.
    """
    units, rows = by_unit(table), []
    for halves, n in _pairs(units):
        for cause, (above, below) in CAUSES.items():
            a, b = (_base(units, halves) if name == "base" else units.loc[halves, name, n] for name in (above, below))
            d = stats.paired_difference(a, b)
            rows.append(
                {
                    "halves": halves,
                    "n": n,
                    "cause": cause,
                    "drop": d.mean,
                    "low": d.low,
                    "high": d.high,
                    "p": stats.paired_p(a, b),
                    "units": d.n,
                }
            )
    found = pd.DataFrame(rows)
    found["p_holm"] = found.groupby(["halves", "cause"])["p"].transform(stats.holm)
    return found


def boosts(table: pd.DataFrame, ranges: Sequence[str] = ("1-7", "3-7", "5-7")) -> pd.DataFrame:
    """Table 1: AnB+ above base and above BnB+ in points, averaged over layers, next to the paper's numbers.

    Columns layers, over_base, over_selffer (each an interval over seeds as text), the means over_base_points and
    over_selffer_points, and the paper's paper_over_base, paper_over_selffer. A range takes those of its layers that the
    study has.
    """
    units = by_unit(table[table["halves"] == SIMILAR])
    printed = tables.table("yosinski2014_table1_boost").set_index("layers_aggregated")
    rows = []
    for layers in ranges:
        first, last = map(int, layers.split("-"))
        found = [n for halves, treatment, n in units.index if treatment == "AnB+" and first <= n <= last]
        tuned = units.loc[[(SIMILAR, "AnB+", n) for n in found]].mean()
        selffer = units.loc[[(SIMILAR, "BnB+", n) for n in found]].mean()
        over = [stats.paired_difference(tuned, other) for other in (_base(units, SIMILAR), selffer)]
        rows.append(
            {
                "layers": layers,
                "over_base": over[0].percent(),
                "over_selffer": over[1].percent(),
                "over_base_points": 100 * over[0].mean,
                "over_selffer_points": 100 * over[1].mean,
                "paper_over_base": printed.loc[layers, "mean_boost_over_baseB_pct"],
                "paper_over_selffer": printed.loc[layers, "mean_boost_over_selffer_pct"],
            }
        )
    return pd.DataFrame(rows)


def claims(table: pd.DataFrame) -> list[str]:
    """The paper's interpretations, each decided by its interval over seeds (bullets, Markdown)."""
    units, lost = by_unit(table), drops(table)
    similar = lost[lost["halves"] == SIMILAR]
    tuned = {name: _mean_over_layers(units, SIMILAR, name) for name in ("AnB+", "BnB+", "random", "AnB")}
    base, last = _base(units, SIMILAR), similar["n"].max()
    middle = similar[similar["cause"] == "co-adaptation"].sort_values("drop").iloc[-1]
    lines = [
        claim(
            f"The last layer (n = {last}) costs transfer between similar halves (paper: 8 points)",
            _drop(similar, last, "both"),
        ),
        claim(
            f"so does its cut alone, BnB below base at n = {last} (paper: hardly)",
            _drop(similar, last, "co-adaptation"),
        ),
        claim(f"and its specificity, AnB below BnB at n = {last}", _drop(similar, last, "specificity")),
        claim(
            f"Co-adaptation is lost in the middle: BnB below base where it is lowest, n = {int(middle['n'])}, the worst of "
            f"{similar['n'].nunique()} layers",
            Interval(middle["drop"], middle["low"], middle["high"], int(middle["units"])),
        ),
        claim(
            "Fine-tuned transfer is above the base, mean over layers (paper: 1.6 points)",
            stats.paired_difference(tuned["AnB+"], base),
        ),
        claim(
            "and above the equally long trained selffer (paper: 1.4 points)",
            stats.paired_difference(tuned["AnB+"], tuned["BnB+"]),
        ),
        claim(
            "The selffer with fine-tuning stays at the base's level or above",
            stats.paired_difference(tuned["BnB+"], base),
        ),
        claim(
            "Random frozen layers are below transferred ones, mean over layers",
            stats.paired_difference(tuned["AnB"], tuned["random"]),
        ),
    ]
    for other in [halves for halves in lost["halves"].unique() if halves != SIMILAR]:
        if (other, "random") in units.index.droplevel("n"):
            distant, random = (_mean_over_layers(units, other, name) for name in ("AnB", "random"))
            lines.append(
                claim(
                    f"Transfer between dissimilar halves ({other}) is above random frozen layers, mean over layers",
                    stats.paired_difference(distant, random),
                )
            )
        final = [_base(units, h) - units.loc[h, "AnB", last] for h in (other, SIMILAR)]
        lines.append(
            claim(
                f"Transfer of all {last} layers costs more between dissimilar halves ({other}) than between similar ones (paper: 25 against 8 "
                f"points, here {100 * final[0].mean():.1f} against {100 * final[1].mean():.1f})",
                stats.paired_difference(*final),
            )
        )
    return lines


def result(table: pd.DataFrame) -> dict:
    """For result.json: the rows of `by_layer`, `drops` and `boosts`, and the claims."""
    parts = {"by_layer": by_layer(table), "drops": drops(table), "boosts": boosts(table)}
    return {name: records(part) for name, part in parts.items()} | {"claims": claims(table)}


def percent(frame: pd.DataFrame) -> pd.DataFrame:
    """A table of drops or accuracies for people: in percent or points, one decimal."""
    shown = frame.copy()
    for name in FRACTIONS:
        if name in shown:
            shown[name] = (100 * shown[name]).round(1)
    for name in ("p", "p_holm"):
        if name in shown:
            shown[name] = shown[name].round(3)
    return shown


def _base(units: pd.DataFrame, halves: str) -> pd.Series:
    return units.loc[halves, "base", 0]


def _pairs(units: pd.DataFrame) -> list[tuple[str, int]]:
    """Divisions and numbers of layers with both frozen treatments."""
    found = {name: {(h, n) for h, treatment, n in units.index if treatment == name} for name in ("BnB", "AnB")}
    if not (both := sorted(found["BnB"] & found["AnB"], key=_similar_first)):
        raise AtlabError(
            "the drop is separated into its causes where BnB and AnB were both run: the study has no such layer"
        )
    return both


def _similar_first(key: tuple) -> tuple:
    """Random halves before dissimilar ones, the rest in order."""
    return key[0] != SIMILAR, *key


def _mean_over_layers(units: pd.DataFrame, halves: str, treatment: str) -> pd.Series:
    part = units.xs((halves, treatment), level=("halves", "treatment"))
    return part.mean()


def _drop(drops_: pd.DataFrame, n: int, cause: str) -> Interval:
    row = drops_[(drops_["n"] == n) & (drops_["cause"] == cause)].iloc[0]
    return Interval(row["drop"], row["low"], row["high"], int(row["units"]))


def summary(table: pd.DataFrame) -> str:
    """Where co-adaptation and where specificity dominates, in words computed from `drops` (Markdown).

    A gain by "co-adaptation" is BnB above its base network: the layers above the cut were trained a second time.
    """
    units = by_unit(table)
    lines = [
        f"Base networks: {100 * _base(units, halves).mean():.1f} % of the test clips ({plain(halves)} halves, {units.shape[1]} seeds; the paper's, "
        f"of 500 classes: {100 * STATED['base accuracy']:.1f} %)."
        for halves in sorted(set(units.index.get_level_values("halves")), key=lambda name: _similar_first((name,)))
    ]
    for halves, part in drops(table).groupby("halves", sort=False):
        for cause in ("co-adaptation", "specificity"):
            own = part[part["cause"] == cause]
            sure, holm = own[own["low"] > 0], own[(own["drop"] > 0) & (own["p_holm"] < 0.05)]
            named = (
                ", ".join(f"n = {int(r['n'])} ({100 * r['drop']:.1f} points)" for _, r in sure.iterrows()) or "no layer"
            )
            won = ", ".join(str(int(n)) for n in own[own["high"] < 0]["n"])
            lines.append(
                f"{plain(halves.capitalize())} halves, {cause}: a loss whose interval excludes zero at {named}; after Holm's correction over "
                f"{len(own)} layers at {len(holm)} of them{f'; a gain at n = {won}' if won else ''}."
            )
        wide = part.pivot(index="n", columns="cause", values="drop")
        larger = [int(n) for n in wide.index[np.asarray(wide["specificity"] > wide["co-adaptation"])]]
        lines.append(
            f"By the means, specificity is the larger part at n = {', '.join(map(str, larger)) or 'none'} of {', '.join(map(str, wide.index))}."
        )
    return "\n\n".join(lines)
