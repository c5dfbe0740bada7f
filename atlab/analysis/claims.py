"""The paper's claims, each decided by an interval over seeds: holds here, does not hold here, or not decided here."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan

import pandas as pd
from scipy import stats as scipy_stats

from atlab import stats
from atlab.analysis.choice import layer_of, picked, shared_layers
from atlab.analysis.figures import by_layer, layered
from atlab.analysis.grouping import arms, conditions
from atlab.analysis.paired import comparison, difference
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
    """Tables 3 to 5: WI, AT and dual AT against the baseline and each other.

    AT and dual AT stand at a layer chosen before the test (`picked`): every arm has one try per seed.
    """
    return [
        line for name, part in conditions(table).items() for line in _of_condition(part, f"{name}: " if name else "")
    ]


def _of_condition(table: pd.DataFrame, where: str) -> list[str]:
    runs, lines = arms(table), []
    base = picked(runs, "baseline")
    tasks = {s: runs.loc[runs["strategy"] == s, "orthogonal"].unique() for s in ("at", "wi", "dual_at")}
    for task in tasks["at"]:
        at, name = picked(runs, "at", task), f"{where}AT against {task}"
        lines.append(claim(f"{name} ({layer_of(at)}) is above the baseline", gain(at, base)))
        lines.append(claim(f"{name} is above it on the training clips, too", gain(at, base, "train_accuracy")))
        if task in tasks["wi"]:
            wi = picked(runs, "wi", task)
            lines.append(claim(f"{where}WI from {task} is above the baseline", gain(wi, base)))
            lines.append(claim(f"{name} is above WI from it", gain(at, wi)))
    for task in tasks["dual_at"]:
        dual, name = picked(runs, "dual_at", task), f"{where}dual AT {task}"
        lines.append(claim(f"{name} ({layer_of(dual)}) is above the baseline", gain(dual, base)))
        lines.append(claim(f"{name} is above it on the training clips, too", gain(dual, base, "train_accuracy")))
        for one in listed(task):
            if shared := shared_layers(runs, ("dual_at", task), ("at", one)):
                alone = gain(picked(runs, "dual_at", task, shared), picked(runs, "at", one, shared))
                lines.append(claim(f"{name} is above AT against {one} alone", alone))
    return lines


def gain(one: pd.DataFrame, other: pd.DataFrame, score: str = "test_accuracy") -> Interval:
    """Paired difference of two choices (`picked`), over the seeds that test both."""
    seeds = one.index.intersection(other.index)
    return difference(one.loc[seeds, score], other.loc[seeds, score])


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


def of_several(table: pd.DataFrame) -> list[str]:
    """Section 5.3: AT at several layers at once is below the baseline, and above AT at each of the single layers tried."""
    runs, lines = arms(table), []
    tests = _by_arm(runs, "test_accuracy")
    at = runs[runs["strategy"] == "at"].drop_duplicates("arm")
    several = at["layers"].str.contains(",")
    for _, row in at[several].iterrows():
        below = stats.paired_difference(tests[row["arm"]], tests["baseline"])
        lines.append(claim(f"{row['arm']} is below the baseline", below, above=False))
        for single in at.loc[~several & (at["orthogonal"] == row["orthogonal"]), "arm"]:
            lines.append(
                claim(f"{row['arm']} is above {single}", stats.paired_difference(tests[row["arm"]], tests[single]))
            )
    return lines


def of_teachers(table: pd.DataFrame) -> list[str]:
    """AT against several networks at once: above the baseline, above AT against each alone, above dual AT."""
    runs, lines = arms(table), []
    tests = _by_arm(runs, "test_accuracy")
    named = runs.drop_duplicates("arm")
    at, dual = (named[named["strategy"] == strategy] for strategy in ("at", "dual_at"))
    for _, row in at[at["orthogonal"].str.contains(",")].iterrows():
        both = tests[row["arm"]]
        alone = at.loc[at["orthogonal"].isin(listed(row["orthogonal"])) & (at["layers"] == row["layers"]), "arm"]
        same = dual["orthogonal"].map(lambda tasks, of=row["orthogonal"]: set(listed(tasks)) == set(listed(of)))
        for other in ("baseline", *alone, *dual.loc[same, "arm"]):
            name = "the baseline" if other == "baseline" else other
            lines.append(claim(f"{row['arm']} is above {name}", stats.paired_difference(both, tests[other])))
    return lines


def of_dynamics(left: pd.DataFrame, condition: str = "") -> list[str]:
    """Fig. 7: the anti-transfer loss falls, and is small next to the cross-entropy from the first epoch (`loss_left`)."""
    lines = []
    for arm, row in left.iterrows():
        if pd.isna(row.get("fall", float("nan"))) or arm.startswith(NAMES["inverse_at"]):
            continue
        sure = row["f_low"] > 0 or row["f_high"] < 0
        verdict = "not decided here" if not sure else "holds here" if row["fall"] > 0 else "does not hold here"
        share = row["AT loss, first epoch"] / row["cross-entropy, first epoch"]
        lines.append(
            f"- {plain(', '.join(filter(None, (condition, arm))))}: the anti-transfer loss falls during training: **{verdict}** (from {row['AT loss, first epoch']:.3g} to "
            f"{row['AT loss, last epoch']:.3g}, difference [{row['f_low']:.2g}, {row['f_high']:.2g}]); in the first epoch it is "
            f"{100 * share:.2g} % of the cross-entropy."
        )
    return lines


def layer_tests(studies: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Fig. 6, in each study and condition, for each task tried at several layers: does the layer matter? study, task, layers, seeds, best and worst mean, Friedman's p.

    Friedman's test (1937) ranks the layers within every seed; it needs at least three layers and is NaN below.
    """
    rows = []
    for study, table in studies.items():
        for condition, part in conditions(table).items():
            name, compared = ", ".join(filter(None, (study, condition))), comparison(part)
            runs = arms(part)
            for task in layered(compared):
                rows.append(_layer_test(name, runs, by_layer(compared, task)))
    return pd.DataFrame(rows)


def _layer_test(study: str, runs: pd.DataFrame, gains: pd.DataFrame) -> dict:
    task = gains["orthogonal"].iloc[0]
    of_at = runs[(runs["strategy"] == "at") & (runs["orthogonal"] == task)]
    scores = of_at.pivot(index="layers", columns="seed", values="test_accuracy")
    best, worst = gains.loc[gains["difference"].idxmax()], gains.loc[gains["difference"].idxmin()]
    return {
        "study": study,
        "task": task,
        "layers": len(gains),
        "seeds": scores.shape[1],
        "best": best["layers"],
        "best_difference": best["difference"],
        "worst": worst["layers"],
        "worst_difference": worst["difference"],
        "friedman_p": scipy_stats.friedmanchisquare(*scores.to_numpy()).pvalue if len(scores) > 2 else float("nan"),
        "smallest_p_holm": gains["p_holm"].min(),
    }


def of_layers(tests: pd.DataFrame) -> list[str]:
    """`layer_tests` in words: one bullet per study (Markdown)."""
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
