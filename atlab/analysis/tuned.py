"""Which form of anti-transfer works: every form tuned with the same budget, then compared with the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from atlab import stats
from atlab.errors import AtlabError
from atlab.labels import plain
from atlab.stats import Interval

CONDITION = ("data", "split")
REPETITION = "split_seed"
WINS = 2  # data sets on which a form's interval must lie above zero to be recommended


class Findings(NamedTuple):
    """The form to recommend (None if none has earned it) and the sentences that say why (Markdown)."""

    recommended: str | None
    text: str


def form(run: pd.Series) -> str:
    """The name of a run's form, from its parameters; what is tuned (layer, beta, learning rate) is no part of it.

    >>> form(pd.Series({"strategy": "at", "aggregation": "clip_kernel", "residual": True, "start": "random"}))
    'AT clip_kernel, residual'
    """
    from atlab.plots import NAMES

    if run["strategy"] not in ("at", "inverse_at"):
        return NAMES.get(run["strategy"], run["strategy"])
    extras = [", residual"] * bool(run["residual"]) + [", from the teacher"] * (run["start"] == "orthogonal")
    return f"{NAMES[run['strategy']]} {run['aggregation']}{''.join(extras)}"


def chosen(table: pd.DataFrame) -> pd.DataFrame:
    """The run that validation picks for each condition, form and repetition: a runs table -> its chosen rows.

    Added columns: form, condition, budget (runs it was chosen from). Of runs with equal validation accuracy the one with
    the lower validation loss is taken. AtlabError unless every form has the same budget everywhere.
    """
    runs = table.assign(
        form=[form(row) for _, row in table.iterrows()],
        condition=[", ".join(str(row[c]) for c in CONDITION) for _, row in table.iterrows()],
    )
    groups = ["condition", "form", REPETITION]
    runs["budget"] = runs.groupby(groups)["form"].transform("size")
    if runs["budget"].nunique() > 1:
        sizes = runs.groupby("form")["budget"].unique()
        raise AtlabError(
            f"forms are compared under one budget; runs per form and repetition: {sizes.map(list).to_dict()}"
        )
    ordered = runs.sort_values(["validation_accuracy", "validation_loss"], ascending=[False, True], kind="stable")
    return ordered.groupby(groups, sort=True).head(1).sort_values(groups).reset_index(drop=True)


def comparison(picked: pd.DataFrame, against: str = "baseline", score: str = "test_accuracy") -> pd.DataFrame:
    """Each form against another, paired by repetition: rows of condition, form, mean, low, high, difference, ...

    `mean`, `low`, `high` are the form's score with its 95 % t interval over repetitions; `difference`, `d_low`, `d_high`
    that of the paired difference; `p` its two-sided t-test, `p_holm` adjusted over the forms of the condition.
    """
    rows = []
    for condition, part in picked.groupby("condition", sort=False):
        scores = part.pivot(index=REPETITION, columns="form", values=score)
        if against not in scores:
            raise AtlabError(f"no runs of {against!r} under {condition}; forms: {', '.join(scores)}")
        others = [name for name in scores if name != against]
        adjusted = stats.holm([stats.paired_p(scores[name], scores[against]) for name in others])
        for name in (against, *others):
            own = stats.mean_interval(scores[name], ends=(0, 1))
            row = {"condition": condition, "form": name, "n": own.n, "mean": own.mean, "low": own.low, "high": own.high}
            if name != against:
                d = stats.paired_difference(scores[name], scores[against])
                row |= {
                    "difference": d.mean,
                    "d_low": d.low,
                    "d_high": d.high,
                    "p": stats.paired_p(scores[name], scores[against]),
                    "p_holm": float(adjusted[others.index(name)]),
                }
            rows.append(row)
    return pd.DataFrame(rows)


def findings(compared: pd.DataFrame, budget: int) -> Findings:
    """What the comparison shows, and the form whose gain is real on at least two data sets, if there is one."""
    lines = [f"Each form had {budget} runs per repetition, of which validation picked one; the baseline had as many."]
    gains = compared.dropna(subset="difference")
    for condition, part in gains.groupby("condition", sort=False):
        best = part.loc[part["difference"].idxmax()]
        sentence = stats.verdict(plain(best["form"]), "the baseline", _interval(best), "repetitions")
        lines.append(
            f"**{plain(condition)}**: the largest mean gain: {sentence} (Holm-adjusted p = {best['p_holm']:.2f})"
        )
        harmed = part.loc[part["d_high"] < 0, "form"].tolist()
        if harmed:
            lines.append(f"Below the baseline, with an interval that excludes zero: {', '.join(map(plain, harmed))}.")
    winners = _winners(gains)
    if winners:
        lines.append(
            f"**Recommended: {plain(winners[0])}**, whose interval lies above zero on at least {WINS} data sets."
        )
    else:
        lines.append(f"**No form is recommended**: none has an interval above zero on {WINS} data sets.")
    return Findings(winners[0] if winners else None, "\n\n".join(lines))


def _winners(gains: pd.DataFrame) -> Sequence[str]:
    """Forms above zero on enough data sets (a set counts once, whatever its splits), the largest mean gain first."""
    above = gains[gains["d_low"] > 0]
    sets = above.assign(data=above["condition"].str.split(", ").str[0]).groupby("form")["data"].nunique()
    names = sets[sets >= WINS].index.tolist()
    return sorted(names, key=lambda name: -gains.loc[gains["form"] == name, "difference"].mean())


def _interval(row: pd.Series) -> Interval:
    return Interval(row["difference"], row["d_low"], row["d_high"], int(row["n"]))
