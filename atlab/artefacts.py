"""From the runs of a study to the papers' tables and figures: pure functions of a runs table (`runs.table`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from atlab import published, stats
from atlab.errors import AtlabError
from atlab.plots.style import NAMES
from atlab.settings import Settings
from atlab.stats import Interval

CONDITIONS = ("data", "split", "noise")
COLUMNS = ("arm", "n", "train", "test", "low", "high", "difference", "d_low", "d_high", "p", "p_holm")
PLAIN = ("orthogonal", "layers", "aggregation", "similarity")  # columns whose values speak for themselves
LAYERED = ("at", "inverse_at", "dual_at", "frozen_wi", "gradient_reversal")


def conditions(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The parts of a study whose runs are tested alike: {name: runs}. Runs of one condition only are named "".

    >>> list(conditions(pd.DataFrame({"split": ["random", "disjoint"], "noise": ["low", "low"]})))
    ['disjoint split', 'random split']
    """
    varied = [name for name in CONDITIONS if name in table and table[name].nunique() > 1]
    if not varied:
        return {"": table}
    titles = {"data": "{}", "split": "{} split", "noise": "{} noise"}
    parts = {}
    for values, part in table.groupby(varied, sort=True):
        name = ", ".join(titles[v].format(value) for v, value in zip(varied, values, strict=True))
        parts[name.replace("none noise", "no noise")] = part
    return parts


def arms(table: pd.DataFrame) -> pd.DataFrame:
    """The runs with a column `arm`, a name for people, and what an arm does not use blanked.

    A baseline uses neither orthogonal task nor layer; WI no layer; only losses have aggregation, similarity and beta.
    The name tells strategy, task and layer: runs that differ in something else share it.
    """
    runs = table.astype({"orthogonal": object, "layers": object, "aggregation": object, "similarity": object}).copy()
    runs.loc[runs["strategy"] == "baseline", "orthogonal"] = ""
    runs.loc[~runs["strategy"].isin(LAYERED), "layers"] = ""
    lossless = ~runs["strategy"].isin(("at", "inverse_at", "dual_at"))
    runs.loc[lossless, ["aggregation", "similarity"]] = ""
    runs.loc[lossless & (runs["strategy"] != "gradient_reversal"), "beta"] = 0.0
    runs["arm"] = [label(("strategy", "orthogonal", "layers"), r[["strategy", "orthogonal", "layers"]]) for _, r in runs.iterrows()]
    return runs


def label(by: Sequence[str], values: Sequence) -> str:
    """The name of an arm, of the values of the columns that tell arms apart; what is at its default goes unsaid.

    >>> label(["strategy", "layers", "beta", "residual", "batch_size"], ["at", "conv5", 1.0, True, 13])
    'AT conv5 beta 1 residual'
    """
    words = []
    for column, value in zip(by, values, strict=True):
        if column == "strategy":
            words.append(NAMES.get(value, value))
        elif isinstance(value, bool | np.bool_):
            words += [column] * bool(value)
        elif column == "beta":
            words += [f"beta {value:g}"] * bool(value)
        elif column in PLAIN:
            words += [str(value)] * bool(value)
        elif value != getattr(Settings, column, None):
            words.append(f"{column} {value}")
    return " ".join(words)


def comparison(table: pd.DataFrame, by: Sequence[str] = ("strategy", "orthogonal", "layers")) -> pd.DataFrame:
    """Every arm's accuracy with its interval over seeds, and its difference to the baseline, paired by seed.

    Args:
        table: runs with `seed`, the columns `by`, train_accuracy and test_accuracy; one run an arm, condition and seed.
        by: the columns that tell arms apart.

    Returns rows of condition (`conditions`), `by`, arm, n, train, test, low, high (means and 95 % t interval of the test
    accuracy), difference, d_low, d_high (paired, 95 % t interval), p, p_holm (over all arms of the condition but the
    baseline). Fractions, not percent. AtlabError without a baseline, for a seed that is there twice, or one that some
    arms do not have.
    """
    return pd.concat([_compared(part, list(by), name) for name, part in conditions(table).items()], ignore_index=True)


def _compared(table: pd.DataFrame, by: list[str], condition: str) -> pd.DataFrame:
    runs = arms(table)
    test, train = (_by_seed(runs, by, f"{part}_accuracy") for part in ("test", "train"))
    baseline = [key for key in test.index if key[by.index("strategy")] == "baseline"]
    if len(baseline) != 1:
        raise AtlabError(f"a comparison needs one arm of strategy 'baseline', found {len(baseline)} among {len(test)} arms")
    base, rows = test.loc[baseline[0]], []
    for key, scores in test.iterrows():
        own = stats.mean_interval(scores)
        arm = ", ".join(filter(None, (label(by, key), condition)))
        row = {"condition": condition, **dict(zip(by, key, strict=True)), "arm": arm, "n": own.n, "train": train.loc[key].mean(),
               "test": own.mean, "low": own.low, "high": own.high}  # fmt: skip
        if key != baseline[0]:
            d = stats.paired_difference(scores, base)
            row |= {"difference": d.mean, "d_low": d.low, "d_high": d.high, "p": stats.paired_p(scores, base)}
        rows.append(row)
    compared = pd.DataFrame(rows, columns=["condition", *by, *COLUMNS])
    others = compared["p"].notna()
    compared.loc[others, "p_holm"] = stats.holm(compared.loc[others, "p"])
    order = compared["strategy"].map({name: n for n, name in enumerate(NAMES)}).fillna(len(NAMES))
    return compared.assign(order=order).sort_values(["order", *by], kind="stable", key=_natural).drop(columns="order").reset_index(drop=True)


def _natural(column: pd.Series) -> pd.Series:
    """Sorts conv5 before conv13."""
    if column.name != "layers":
        return column
    return column.astype(str).str.replace(r"\d+", lambda found: found[0].zfill(3), regex=True)


def best_layer(table: pd.DataFrame, strategy: str = "at", orthogonal: str = "") -> tuple[stats.Best, Interval, list[str]]:
    """The layer that validation picks for every seed, and the paired difference of its test accuracy to the baseline.

    -> (choice with its budget, difference, the layers chosen by seed); of one condition. The baseline had one try a seed:
    the budget is part of the result. Among layers of equal validation accuracy the first is taken.
    """
    runs = arms(table)
    chosen = runs[(runs["strategy"] == strategy) & ((runs["orthogonal"] == orthogonal) | (orthogonal == ""))]
    validation, test = (chosen.pivot(index="layers", columns="seed", values=f"{part}_accuracy") for part in ("validation", "test"))
    if validation.empty or validation.isna().any(axis=None):
        raise AtlabError(f"choosing a layer needs every layer and seed of {strategy!r} ({orthogonal or 'any task'})")
    best = stats.best_of(validation.to_numpy(), test.to_numpy())
    base = runs[runs["strategy"] == "baseline"].set_index("seed")["test_accuracy"].reindex(test.columns)
    return best, stats.paired_difference(best.test, base.to_numpy()), [validation.index[i] for i in best.choice]


def pretraining(networks: pd.DataFrame) -> pd.DataFrame:
    """Table 2: networks of orthogonal tasks, a row a task: data, task, n, train and test accuracy (means), extremes."""
    rows = []
    networks = networks[networks["role"] == "teacher"]  # first stages of dual AT are there, too
    for (data, task), part in networks.groupby(["data", "orthogonal"], sort=True):
        rows.append({"data": data, "task": task, "n": len(part), "train": part["train_accuracy"].mean(), "test": part["test_accuracy"].mean(),
                     "lowest": part["test_accuracy"].min(), "highest": part["test_accuracy"].max()})  # fmt: skip
    return pd.DataFrame(rows)


def beside(table: pd.DataFrame, compared: pd.DataFrame, printed: pd.DataFrame) -> pd.DataFrame:
    """The paper's improvements (`published.improvements`) beside those here, in points, for the tasks that are in both.

    Of one condition. AT stands with the layer that validation picks, as the paper's is the best of 13 layers.
    """
    rows = []
    for _, row in printed.iterrows():
        task = row["task"].replace("+", ",")
        ours = compared[(compared["strategy"] == row["strategy"]) & (compared["orthogonal"] == task)]
        if ours.empty:
            continue
        if row["strategy"] == "at":
            best, difference, layers = best_layer(table, "at", task)
            how = f"best of {best.budget} layers by validation: {', '.join(layers)}" if best.budget > 1 else layers[0]
        else:
            difference, how = _interval(ours.iloc[0]), ours.iloc[0]["layers"]
        rows.append({"strategy": NAMES.get(row["strategy"], row["strategy"]), "task": task, "paper's corpus": row["data"],
                     "paper": round(row["improvement"], 2), "here": difference.percent(), "layer": how})  # fmt: skip
    return pd.DataFrame(rows, columns=["strategy", "task", "paper's corpus", "paper", "here", "layer"])


def beside_all(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """`beside` for every condition that the printed table `name` has, too (`published.TEST_COLUMNS`)."""
    parts = {}
    for condition, part in conditions(table).items():
        if column := published.test_column(name, part.iloc[0]):
            parts[condition] = beside(part, comparison(part), published.improvements(name, column))
    if list(parts) == [""]:
        return parts[""]
    return pd.concat(parts, names=["condition"]).reset_index("condition") if parts else pd.DataFrame()


def beside_cells(compared: pd.DataFrame, printed: pd.DataFrame, baseline: float) -> pd.DataFrame:
    """Table 6 beside a comparison by aggregation and similarity: improvements in points, a row a pair that was run here.

    `baseline`: the accuracy in percent above which the paper's cells stand.
    """
    here = compared.dropna(subset="difference")[["aggregation", "similarity", "difference", "d_low", "d_high", "n"]]
    both = here.merge(printed, on=["aggregation", "similarity"], how="left")
    return pd.DataFrame({
        "aggregation": both["aggregation"], "similarity": both["similarity"], "paper": (both["test"] - baseline).round(1),
        "here": [_interval(row).percent() for _, row in both.iterrows()],
    })  # fmt: skip


def at_layer(compared: pd.DataFrame, layer: str = "conv5") -> pd.DataFrame:
    """Fig. 4: AT, inverse AT and frozen WI at one layer in a comparison of several studies, each named by its study."""
    shown = compared[(compared["layers"] == layer) & compared["strategy"].isin(["at", "inverse_at", "frozen_wi"])]
    return shown.assign(arm=shown["study"] + ": " + shown["arm"])


def improvements(compared: pd.DataFrame, groups: dict[str, pd.Series]) -> pd.DataFrame:
    """Fig. 3: the mean of the arms' differences in named groups of rows: group, arms, improvement, smallest, largest."""
    rows = []
    for name, mask in groups.items():
        found = compared.loc[mask & compared["difference"].notna(), "difference"]
        if len(found):
            rows.append({"group": name, "arms": len(found), "improvement": found.mean(), "smallest": found.min(), "largest": found.max()})
    return pd.DataFrame(rows)


def findings(compared: pd.DataFrame) -> str:
    """What a comparison shows, in sentences computed from its intervals (Markdown).

    Of arms above the baseline it says which are as far above it on the training clips: those have learnt further, which is
    no sign of a better generalisation.
    """
    lines = []
    for _, part in compared.groupby("condition", sort=False):
        gains, base = part.dropna(subset="difference"), part.loc[part["strategy"] == "baseline"].iloc[0]
        lines.append(f"{base['arm'].capitalize()}: {100 * base['test']:.1f} % [{100 * base['low']:.1f}, {100 * base['high']:.1f}] of the "
                     f"test clips, {100 * base['train']:.1f} % of the training clips, {base['n']} seeds.")  # fmt: skip
        for word, sure in (("above", gains["d_low"] > 0), ("below", gains["d_high"] < 0)):
            named = [f"{r['arm']} ({_interval(r).percent()}; Holm-adjusted p = {r['p_holm']:.2f})" for _, r in gains[sure].iterrows()]
            lines.append(f"{len(named)} of {len(gains)} arms lie {word} it with an interval that excludes zero{': ' if named else ''}{'; '.join(named)}.")
        above = gains[gains["d_low"] > 0]
        further = above[above["train"] - base["train"] >= above["difference"]]
        if len(further):
            lines.append(f"{len(further)} of the arms above it are ahead by as much or more on the training clips ({', '.join(further['arm'])}): "
                         "they have learnt further in the same time, which says nothing of generalisation.")  # fmt: skip
    return "\n\n".join(lines)


def by_layer(compared: pd.DataFrame) -> pd.DataFrame:
    """Fig. 6: the AT arms of the task that was tried at most layers, in the layers' order; p_holm is over these layers.

    Of one condition; `by_layers` takes several, and several studies.
    """
    at = compared[compared["strategy"] == "at"]
    if at.empty:
        raise AtlabError("there are no runs of strategy 'at'")
    at = at[at["orthogonal"] == at.groupby("orthogonal", sort=False)["layers"].nunique().idxmax()]
    number = at["layers"].str.extract(r"(\d+)", expand=False).astype(int)
    return at.assign(number=number, p_holm=stats.holm(at["p"])).sort_values("number").drop(columns="number").reset_index(drop=True)


def by_layers(compared: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """`by_layer` of every study and condition: {study: comparison} -> {"study" or "study, condition": rows}."""
    parts = {(study, name): part for study, all_of in compared.items() for name, part in all_of.groupby("condition", sort=False)}
    return {", ".join(filter(None, key)): by_layer(part) for key, part in parts.items()}


def strategy_groups(compared: pd.DataFrame) -> dict[str, pd.Series]:
    """The groups of fig. 3 in a comparison of several studies: every strategy, and every strategy of every study."""
    known = [s for s in NAMES if s != "baseline" and (compared["strategy"] == s).any()]
    groups = {NAMES[s]: compared["strategy"] == s for s in known}
    for study in compared["study"].unique():
        groups |= {f"{NAMES[s]}, {study}": (compared["strategy"] == s) & (compared["study"] == study) for s in known}
    return groups


def histories(table: pd.DataFrame, wanted: Sequence[str] = (), layer: str = "conv5") -> dict[str, list[pd.DataFrame]]:
    """Learning curves (fig. 7): {arm: histories of its seeds}, of the first condition if there are several.

    The arms that are named, those without runs left out; if none is named: baseline, WI, AT and inverse AT at `layer`.
    """
    from atlab.runs import Run

    runs = arms(next(iter(conditions(table).values())))
    if not wanted:
        at_layer = runs["strategy"].isin(["at", "inverse_at"]) & (runs["layers"] == layer)
        shown = runs[runs["strategy"].isin(["baseline", "wi"]) | at_layer]
        wanted = sorted(shown["arm"].unique(), key=lambda arm: (arm != "baseline", not arm.startswith(NAMES["wi"]), arm))
    found = {arm: [Run(path).history() for path in runs.loc[runs["arm"] == arm, "path"]] for arm in wanted}
    return {arm: curves for arm, curves in found.items() if curves}


def loss_left(curves: Mapping[str, list[pd.DataFrame]]) -> pd.DataFrame:
    """Anti-transfer loss (times beta) and cross-entropy of the training clips in the first and last epoch.

    Means over seeds, a row an arm; `fall` is the paired difference of the AT loss, first minus last, with `f_low` and
    `f_high` (95 % t interval over seeds).
    """
    rows = {}
    for arm, of_seeds in curves.items():
        row: dict[str, float] = {}
        for name, key in (("AT loss", "train_at"), ("cross-entropy", "train_loss")):
            known = [h[key] for h in of_seeds if key in h]
            if known:
                row |= {f"{name}, first epoch": np.mean([h.iloc[0] for h in known]), f"{name}, last epoch": np.mean([h.iloc[-1] for h in known])}
            if len(known) > 1 and key == "train_at":
                fall = stats.paired_difference([h.iloc[0] for h in known], [h.iloc[-1] for h in known])
                row |= {"fall": fall.mean, "f_low": fall.low, "f_high": fall.high}
        rows[arm] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def result(compared: pd.DataFrame) -> dict:
    """A comparison as plain numbers for result.json: {arm: {n, train, test, low, high, difference, ...}}."""
    rows = compared.set_index("arm")[list(COLUMNS[1:])].astype(object)
    return {arm: {k: None if pd.isna(v) else float(v) for k, v in row.items()} for arm, row in rows.iterrows()}


def percent(compared: pd.DataFrame) -> pd.DataFrame:
    """A comparison for reading: accuracies in percent, differences in points with their intervals."""
    shown = pd.DataFrame({"arm": compared["arm"], "n": compared["n"], "train %": (100 * compared["train"]).round(1)})
    shown["test %"] = [f"{100 * r['test']:.1f} [{100 * r['low']:.1f}, {100 * r['high']:.1f}]" for _, r in compared.iterrows()]
    shown["above the baseline (points)"] = ["" if np.isnan(r["difference"]) else _interval(r).percent() for _, r in compared.iterrows()]
    shown["p (Holm)"] = ["" if np.isnan(p) else f"{p:.3f}" for p in compared["p_holm"]]
    return shown


def _by_seed(runs: pd.DataFrame, by: Sequence[str], score: str) -> pd.DataFrame:
    if runs.duplicated([*by, "seed"]).any():
        twice = runs[runs.duplicated([*by, "seed"])].iloc[0]
        raise AtlabError(f"arm {twice['arm']!r} has seed {twice['seed']} twice: name what tells its runs apart in `by`")
    scores = runs.pivot(index=list(by), columns="seed", values=score)
    if scores.isna().any(axis=None):
        raise AtlabError(f"arms are paired by seed; seeds missing in some: {scores.columns[scores.isna().any()].tolist()}")
    return scores


def _interval(row: pd.Series) -> Interval:
    return Interval(row["difference"], row["d_low"], row["d_high"], int(row["n"]))
