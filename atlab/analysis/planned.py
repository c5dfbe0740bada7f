"""The differences that a study was planned for: what was seen of each, and what could have been seen."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from atlab import stats
from atlab.labels import plain
from atlab.runs import precision
from atlab.stats import Interval

COLUMNS = ("contrast", "arm", "n", "mean", "low", "high", "half_width", "could_have_seen", "p_holm", "verdict")


def primary(study: Path) -> tuple[pd.DataFrame, str]:
    """The primary differences of a study's folder at its last look, one row each, and what its looks said (Markdown).

    Fractions, not points; n counts pairs of repetitions. A difference is decided by its p value after Holm. No row and no text
    for a study without a plan, or before its first look.
    """
    recorded = precision.recorded(study)
    seen = precision.looks(recorded[0], *precision.scores(recorded[1])) if recorded else []
    if not seen:
        return pd.DataFrame(columns=COLUMNS), ""
    plan, last = recorded[0], seen[-1]
    rows = [
        (
            str(contrast),
            last.chosen[contrast],
            d.n,
            *(d.mean, d.low, d.high, d.half_width),
            stats.could_have_seen(d, len(plan.primary)),
            last.p_holm[contrast],
            verdict(d, last.p_holm[contrast]),
        )
        for contrast, d in last.differences.items()
    ]
    said = [f"- {plain(precision.sentence(plan, look))}" for look in seen]
    return pd.DataFrame(rows, columns=COLUMNS), "\n".join(said)


def verdict(difference: Interval, p: float) -> str:
    """Where a difference lies, next to zero: "above", "below", or "not decided".

    >>> verdict(Interval(0.02, 0.01, 0.03, 9), 0.004), verdict(Interval(0.02, -0.01, 0.05, 9), 0.2)
    ('above', 'not decided')
    """
    if p >= 0.05:
        return "not decided"
    return "above" if difference.mean > 0 else "below"


def percent(found: pd.DataFrame) -> pd.DataFrame:
    """The primary differences for reading, in points; with the arm that the pilot chose, where it had a choice."""
    chosen = {"chosen": found["arm"]} if found["contrast"].str.contains(" or ", regex=False).any() else {}
    return pd.DataFrame(
        {
            "difference": found["contrast"],
            **chosen,
            "pairs": found["n"],
            "points": [Interval(r["mean"], r["low"], r["high"], r["n"]).percent() for _, r in found.iterrows()],
            "p (Holm)": found["p_holm"].round(3),
            "verdict": found["verdict"],
            "could have seen (points)": (100 * found["could_have_seen"]).round(1),
        }
    )
