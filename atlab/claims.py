"""The paper's claims, each decided by an interval over seeds: holds here, does not hold here, or not decided here."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from scipy import stats as scipy_stats

from atlab import stats
from atlab.artefacts import arms, best_layer, by_layer, comparison
from atlab.plots.style import NAMES
from atlab.stats import Interval


def claim(sentence: str, difference: Interval, above: bool = True) -> str:
    """A claim that a difference lies above (below) zero, and whether its interval says so: a bullet (Markdown).

    >>> claim("AT is above the baseline", Interval(0.02, -0.01, 0.05, 5))
    '- AT is above the baseline: **not decided here** (+2.0 [-1.0, +5.0], 5 seeds)'
    """
    sure = difference.low > 0 or difference.high < 0
    holds = (difference.mean > 0) == above
    verdict = "not decided here" if not sure else "holds here" if holds else "does not hold here"
    return f"- {sentence}: **{verdict}** ({difference.percent()}, {difference.n} seeds)"


def of_table(table: pd.DataFrame) -> list[str]:
    """Tables 3 to 5: WI, AT (the layer that validation picks) and dual AT against the baseline, and AT against WI."""
    runs, lines = arms(table), []
    tests = runs.pivot_table(index="seed", columns="arm", values="test_accuracy")
    base = tests["baseline"]
    for task in runs.loc[runs["strategy"] == "at", "orthogonal"].unique():
        best, gain, _ = best_layer(table, "at", task)
        tries = f"best of {best.budget} layers by validation; the baseline had one try" if best.budget > 1 else "one layer"
        lines.append(claim(f"AT against {task} is above the baseline ({tries})", gain))
        if f"WI {task}" in tests:
            wi = tests[f"WI {task}"]
            lines.append(claim(f"WI from {task} is above the baseline", stats.paired_difference(wi, base)))
            lines.append(claim(f"AT against {task} is above WI from it", stats.paired_difference(best.test, wi)))
    for arm in [name for name in tests if name.startswith(NAMES["dual_at"])]:
        lines.append(claim(f"{arm} is above the baseline", stats.paired_difference(tests[arm], base)))
    return lines


def of_strategies(studies: Mapping[str, pd.DataFrame]) -> list[str]:
    """Fig. 4, in each study: AT above inverse AT, inverse AT and frozen WI below the baseline, at the same layer and task."""
    lines = []
    for study, table in studies.items():
        runs = arms(table)
        tests = runs.pivot_table(index="seed", columns="arm", values="test_accuracy")
        for arm in [name for name in tests if name.startswith(NAMES["inverse_at"])]:
            rest = arm.removeprefix(NAMES["inverse_at"])
            lines.append(claim(f"{study}: AT{rest} is above inverse AT{rest}", stats.paired_difference(tests[f"AT{rest}"], tests[arm])))
        for arm in [name for name in tests if name.startswith((NAMES["inverse_at"], NAMES["frozen_wi"]))]:
            lines.append(claim(f"{study}: {arm} is below the baseline", stats.paired_difference(tests[arm], tests["baseline"]), above=False))
    return lines


def layer_tests(studies: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Fig. 6, in each study: does the layer matter? study, layers, seeds, best and worst mean, Friedman's p over layers.

    Friedman's test (1937) ranks the layers within every seed; it needs at least three layers and is NaN below.
    """
    rows = []
    for study, table in studies.items():
        gains = by_layer(comparison(table))
        runs = arms(table)
        of_at = runs[(runs["strategy"] == "at") & (runs["orthogonal"] == gains["orthogonal"].iloc[0])]
        scores = of_at.pivot(index="layers", columns="seed", values="test_accuracy")
        p = scipy_stats.friedmanchisquare(*scores.to_numpy()).pvalue if len(scores) > 2 else float("nan")
        best, worst = gains.loc[gains["difference"].idxmax()], gains.loc[gains["difference"].idxmin()]
        rows.append({"study": study, "task": gains["orthogonal"].iloc[0], "layers": len(gains), "seeds": scores.shape[1],
                     "best": best["layers"], "best_difference": best["difference"], "worst": worst["layers"],
                     "worst_difference": worst["difference"], "friedman_p": p, "smallest_p_holm": gains["p_holm"].min()})  # fmt: skip
    return pd.DataFrame(rows)


def of_layers(tests: pd.DataFrame) -> list[str]:
    """`layer_tests` in words: a bullet a study (Markdown)."""
    lines = []
    for _, row in tests.iterrows():
        p = row["friedman_p"]
        matters = "too few layers to test" if pd.isna(p) else f"layers {'differ' if p < 0.05 else 'cannot be told apart'} (Friedman p = {p:.2f})"
        some = "at least one layer differs" if row["smallest_p_holm"] < 0.05 else "no layer differs"
        lines.append(f"- {row['study']}, {row['task']}: over {row['layers']} layers and {row['seeds']} seeds, {matters}; {some} from the "
                     f"baseline after Holm's correction (smallest p = {row['smallest_p_holm']:.2f}); mean differences from "
                     f"{100 * row['worst_difference']:+.1f} ({row['worst']}) to {100 * row['best_difference']:+.1f} points ({row['best']}).")  # fmt: skip
    return lines
