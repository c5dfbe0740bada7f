"""The paper's claims, each decided by an interval over seeds: holds here, does not hold here, or not decided here."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan

import pandas as pd
from scipy import stats as scipy_stats

from atlab import stats
from atlab.analysis.figures import by_layer
from atlab.analysis.grouping import arms, conditions
from atlab.analysis.paired import best_layer, comparison, difference
from atlab.labels import NAMES, listed, plain
from atlab.stats import Interval


def claim(sentence: str, found: Interval, above: bool = True) -> str:
    """A claim that a difference lies above (below) zero, and whether its interval says so: a bullet (Markdown).

    >>> claim("AT is above the baseline", Interval(0.02, -0.01, 0.05, 5))
    '- AT is above the baseline: **not decided here** (+2.0 [-1.0, +5.0], 5 seeds; could have seen 4.1 points)'
    """
    sure = found.low > 0 or found.high < 0
    holds = (found.mean > 0) == above
    verdict = "not decided here" if not sure else "holds here" if holds else "does not hold here"
    seen = "" if sure or isnan(found.low) else f"; could have seen {100 * stats.could_have_seen(found):.1f} points"
    return f"- {plain(sentence)}: **{verdict}** ({found.percent()}, {found.n} seeds{seen})"


def of_table(table: pd.DataFrame) -> list[str]:
    """Tables 3 to 5: WI, AT (a layer chosen before the test) and dual AT against the baseline, AT against WI and dual AT."""
    return [
        line for name, part in conditions(table).items() for line in _of_condition(part, f"{name}: " if name else "")
    ]


def _of_condition(table: pd.DataFrame, where: str) -> list[str]:
    runs, lines, chosen = arms(table), [], {}
    tests = _by_arm(runs, "test_accuracy")
    base = tests["baseline"]
    for task in runs.loc[runs["strategy"] == "at", "orthogonal"].unique():
        best, gain, layer = best_layer(table, "at", task)
        chosen[task] = best
        tries = f"{layer}, chosen among {best.budget} layers by validation on other seeds" if best.budget > 1 else layer
        lines.append(claim(f"{where}AT against {task} is above the baseline ({tries})", gain))
        lines.append(
            claim(
                f"{where}AT against {task} is above it on the training clips, too",
                _training_gain(runs, best, task, layer),
            )
        )
        if f"WI {task}" in tests:
            wi = tests[f"WI {task}"]
            lines.append(claim(f"{where}WI from {task} is above the baseline", stats.paired_difference(wi, base)))
            lines.append(
                claim(f"{where}AT against {task} is above WI from it", difference(best.test, wi.iloc[best.tested]))
            )
    for _, row in runs[runs["strategy"] == "dual_at"].drop_duplicates("arm").iterrows():
        lines.append(
            claim(f"{where}{row['arm']} is above the baseline", stats.paired_difference(tests[row["arm"]], base))
        )
        last = listed(row["orthogonal"])[-1]
        if last in chosen:
            gain = difference(tests[row["arm"]].iloc[chosen[last].tested], chosen[last].test)
            lines.append(claim(f"{where}{row['arm']} is above AT against {last} alone", gain))
    return lines


def _training_gain(runs: pd.DataFrame, best: stats.Best, task: str, layer: str) -> Interval:
    """Of the chosen layer, on the training clips of the seeds that test it."""
    at = runs[(runs["strategy"] == "at") & (runs["orthogonal"] == task)]
    train = at[at["layers"] == layer].set_index("seed")["train_accuracy"].sort_index()
    base = runs[runs["strategy"] == "baseline"].set_index("seed")["train_accuracy"]
    return difference(train.iloc[best.tested], base[train.index[best.tested]])


def of_strategies(studies: Mapping[str, pd.DataFrame]) -> list[str]:
    """Fig. 4, in each study: AT above inverse AT, inverse AT and frozen WI below the baseline, at the same layer and task."""
    lines = []
    for study, table in studies.items():
        for condition, part in conditions(table).items():
            where, tests = ", ".join(filter(None, (study, condition))), _by_arm(arms(part), "test_accuracy")
            for arm in [name for name in tests if name.startswith(NAMES["inverse_at"])]:
                at = NAMES["at"] + arm.removeprefix(NAMES["inverse_at"])
                if at in tests:
                    lines.append(claim(f"{where}: {at} is above {arm}", stats.paired_difference(tests[at], tests[arm])))
            for arm in [name for name in tests if name.startswith((NAMES["inverse_at"], NAMES["frozen_wi"]))]:
                below = stats.paired_difference(tests[arm], tests["baseline"])
                lines.append(claim(f"{where}: {arm} is below the baseline", below, above=False))
    return lines


def of_similarity(table: pd.DataFrame) -> list[str]:
    """Table 6: Gram matrix with squared cosine above the baseline, and above every other pair."""
    by = ["strategy", "aggregation", "similarity"]
    runs = arms(table)
    tests = runs.pivot(index="seed", columns=by, values="test_accuracy")
    paper, base = tests["at", "gram", "squared_cosine"], tests["baseline", "", ""]
    lines = [claim("gram with squared_cosine is above the baseline", stats.paired_difference(paper, base))]
    for strategy, aggregation, similarity in tests:
        other = tests[strategy, aggregation, similarity]
        if strategy == "at" and (aggregation, similarity) != ("gram", "squared_cosine"):
            gain = stats.paired_difference(paper, other)
            lines.append(claim(f"gram with squared_cosine is above {aggregation} with {similarity}", gain))
    return lines


def of_beta(table: pd.DataFrame) -> list[str]:
    """Fig. 8: with the squared cosine, beta = 1 above the baseline and above every other weight."""
    runs = arms(table)
    tests = runs[runs["similarity"].isin(["squared_cosine", ""])].pivot(
        index="seed", columns=["strategy", "beta"], values="test_accuracy"
    )
    if ("at", 1.0) not in tests:
        return [
            "- The grid has no run with beta = 1 and the squared cosine: the claims of fig. 8 cannot be read from it."
        ]
    one = tests["at", 1.0]
    lines = [
        claim(
            "beta = 1 with squared_cosine is above the baseline", stats.paired_difference(one, tests["baseline", 0.0])
        )
    ]
    for strategy, beta in sorted(tests):
        if strategy == "at" and beta != 1:
            lines.append(claim(f"beta = 1 is above beta = {beta:g}", stats.paired_difference(one, tests["at", beta])))
    return lines


def of_dynamics(left: pd.DataFrame) -> list[str]:
    """Fig. 7: the anti-transfer loss falls, and is small beside the cross-entropy from the first epoch (`loss_left`)."""
    lines = []
    for arm, row in left.iterrows():
        if pd.isna(row.get("fall", float("nan"))) or arm.startswith(NAMES["inverse_at"]):
            continue
        sure = row["f_low"] > 0 or row["f_high"] < 0
        verdict = "not decided here" if not sure else "holds here" if row["fall"] > 0 else "does not hold here"
        share = row["AT loss, first epoch"] / row["cross-entropy, first epoch"]
        lines.append(
            f"- {plain(arm)}: the anti-transfer loss falls during training: **{verdict}** (from {row['AT loss, first epoch']:.3g} to "
            f"{row['AT loss, last epoch']:.3g}, difference [{row['f_low']:.2g}, {row['f_high']:.2g}]); in the first epoch it is "
            f"{100 * share:.2g} % of the cross-entropy."
        )
    return lines


def layer_tests(studies: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Fig. 6, in each study and condition: does the layer matter? study, layers, seeds, best and worst mean, Friedman's p.

    Friedman's test (1937) ranks the layers within every seed; it needs at least three layers and is NaN below.
    """
    rows = []
    for study, table in studies.items():
        for condition, part in conditions(table).items():
            name, gains = ", ".join(filter(None, (study, condition))), by_layer(comparison(part))
            runs, task = arms(part), gains["orthogonal"].iloc[0]
            of_at = runs[(runs["strategy"] == "at") & (runs["orthogonal"] == task)]
            scores = of_at.pivot(index="layers", columns="seed", values="test_accuracy")
            p = scipy_stats.friedmanchisquare(*scores.to_numpy()).pvalue if len(scores) > 2 else float("nan")
            best, worst = gains.loc[gains["difference"].idxmax()], gains.loc[gains["difference"].idxmin()]
            rows.append(
                {
                    "study": name,
                    "task": task,
                    "layers": len(gains),
                    "seeds": scores.shape[1],
                    "best": best["layers"],
                    "best_difference": best["difference"],
                    "worst": worst["layers"],
                    "worst_difference": worst["difference"],
                    "friedman_p": p,
                    "smallest_p_holm": gains["p_holm"].min(),
                }
            )
    return pd.DataFrame(rows)


def of_layers(tests: pd.DataFrame) -> list[str]:
    """`layer_tests` in words: a bullet a study (Markdown)."""
    lines = []
    for _, row in tests.iterrows():
        p = row["friedman_p"]
        matters = (
            "too few layers to test"
            if pd.isna(p)
            else f"layers {'differ' if p < 0.05 else 'cannot be told apart'} (Friedman p = {p:.2f})"
        )
        some = "at least one layer differs" if row["smallest_p_holm"] < 0.05 else "no layer differs"
        lines.append(
            f"- {plain(row['study'])}, {plain(row['task'])}: over {row['layers']} layers and {row['seeds']} seeds, {matters}; {some} from the "
            f"baseline after Holm's correction (smallest p = {row['smallest_p_holm']:.2f}); mean differences from "
            f"{100 * row['worst_difference']:+.1f} ({plain(row['worst'])}) to {100 * row['best_difference']:+.1f} points ({plain(row['best'])})."
        )
    return lines


def _by_arm(runs: pd.DataFrame, score: str) -> pd.DataFrame:
    """Seeds x arms."""
    return runs.pivot(index="seed", columns="arm", values=score)
