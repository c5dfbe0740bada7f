"""What a study is and what it found, in sentences and one row per run, from the folders of its runs."""

from __future__ import annotations

import re
from math import isnan

import pandas as pd
import plotly.graph_objects as go

from atlab import analysis, plots
from atlab.analysis import planned, study
from atlab.analysis.study import Study
from atlab.explore import studies
from atlab.explore.cache import FIGURES, RESULTS
from atlab.explore.compute import ablation
from atlab.labels import NAMES, listed, natural, plain
from atlab.stats import Interval, mean_interval
from atlab.system.home import find

MOST = 6  # arms that a verdict is written of


def about(found: Study) -> str:
    """The study in one sentence, as HTML."""
    table = ablation.students(studies.study_table(str(found.folder)))
    again = len(found.table) - len(study.once(found.table, found.parameters))
    counts = counted(len(found.table), "finished run")
    counts += f" ({again} repeat another run: they count once)" * bool(again)
    counts += f", {len(found.unfinished)} unfinished" * bool(found.unfinished) + f", {len(found.failed)} failed" * bool(
        found.failed
    )
    present = set(table.get("strategy", []))
    strategies = ", ".join([NAMES[name] for name in NAMES if name in present] + sorted(present - set(NAMES)))
    parts = [strategies and f"{plain(strategies)} compared"]
    if {"target", "orthogonal", "data"} <= set(table):
        against = sorted({name for texts in set(table["orthogonal"]) for name in listed(texts)} - {ablation.NONE})
        parts.append(f"networks learn <b>{_listed(table['target'])}</b> on {_listed(table['data'].map(_name))}")
        parts.append(f"against {plain(', '.join(against))}" if against else "")
    varying = [name for name in ablation.axes(table) if name not in ("strategy", "orthogonal")]
    parts.append(f"what varies: {plain(', '.join(varying))}" if varying else "")
    return f"<b>{plain(found.title)}</b>: {counts}; {'; '.join(filter(None, parts))}.{_level(table)}"


def _level(table: pd.DataFrame) -> str:
    """How well baselines do, next to chance, as a sentence; empty where that is not known."""
    if not {"strategy", "test_accuracy"} <= set(table):
        return ""
    baselines = table[table["strategy"] == "baseline"].dropna(subset="test_accuracy")
    if baselines.empty:
        return ""
    said = f" Baselines: {100 * baselines['test_accuracy'].mean():.1f} % test accuracy"
    if "train_accuracy" in baselines:
        said += f", {100 * baselines['train_accuracy'].mean():.1f} % in training"
    classes = set(pd.to_numeric(baselines["classes"], errors="coerce").dropna()) if "classes" in baselines else set()
    if len(classes) != 1 or (number := int(classes.pop())) < 2:
        return said + "."
    said += f"; chance is {100 / number:.1f} % ({number} classes)."
    if len(baselines) > 1 and mean_interval(baselines["test_accuracy"]).low <= 1 / number:
        said += " <b>Their test accuracy is not distinguishable from chance</b>: differences here say little."
    return said


def counted(number: int, what: str) -> str:
    """
    >>> counted(1, "finished run"), counted(2, "finished run")
    ('1 finished run', '2 finished runs')
    """
    return f"{number} {what}{'s' * (number != 1)}"


def _name(path: str) -> str:
    return str(path).rstrip("/").rpartition("/")[2]


def _listed(column: pd.Series) -> str:
    return plain(", ".join(sorted(map(str, set(column)), key=natural)))


def verdicts(found: Study) -> tuple[str, go.Figure | None]:
    """What the study decides about the arms that differ most from the baseline, as HTML, and all differences as a figure."""
    lines, figure = [], None
    for title, part, by, notes in study.comparable(found):
        lines += [f"{title}: {note}" if title else note for note in map(plain, notes)]
        if part.empty or part["strategy"].nunique() + part["layers"].nunique() < 3:
            continue
        compared = analysis.comparison(part, by)
        gains = compared.dropna(subset="difference").sort_values("difference", key=abs, ascending=False)
        if gains.empty:
            continue
        lines += [_verdict(row) for _, row in gains.head(MOST).iterrows()]
        if len(gains) > 1:
            lines.append(
                f"{len(gains)} arms are compared with the baseline; each is decided by its p after Holm's correction over all arms of its condition"
            )
        figure = figure or _differences(compared)
    if not lines:
        lines = ["nothing is compared: that takes a baseline and another arm, two seeds each"]
    items = "".join(f"<li>{_bold(line)}</li>" for line in lines)
    return f"<ul style='margin: 4px 0; padding-left: 20px'>{items}</ul>", figure


def _differences(compared: pd.DataFrame) -> go.Figure:
    """All arms against the baseline, half a page wide, intervals within what is possible."""
    possible = compared.assign(d_low=compared["d_low"].clip(-1, 1), d_high=compared["d_high"].clip(-1, 1))
    figure = plots.improvement_by_arm(possible)
    figure.update_xaxes(
        title={"text": "test accuracy above the baseline (points; 95 % t intervals)", "font": {"size": 12}}
    )
    return figure.update_layout(margin={"t": 20, "r": 20})


def _verdict(row: pd.Series) -> str:
    """One arm against the baseline, decided as one of all that are compared: it was picked from them (Markdown)."""
    gain = Interval(row["difference"], max(row["d_low"], -1), min(row["d_high"], 1), int(row["n"]))
    p = 1.0 if isnan(row["p_holm"]) else float(row["p_holm"])
    decided = planned.verdict(gain, p)
    told = f"{gain.n} seeds, p = {p:.3f}"
    if decided == "not decided" and not isnan(seen := row["could_have_seen"]):
        told += f"; could have seen {100 * seen:.1f} points" if seen < 1 else "; too few to see any difference"
    points = gain.percent().replace(" [", " points [")
    said = decided if decided == "not decided" else f"{decided} the baseline"
    return f"{plain(row['arm'])} minus baseline: {points}: **{said} here** ({told})"


def _bold(markdown: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", markdown)


def rows(name: str) -> list[dict]:
    """One row per network of a study: its label, what varies, accuracies in percent, epochs."""
    table = ablation.students(studies.study_table(name))
    labels = {str(n.path.parent): label for label, n in studies.networks(name).items()}
    order = list(labels)
    kept = table[table["path"].isin(labels)].sort_values("path", key=lambda paths: paths.map(order.index))
    varying = [axis for axis in ablation.axes(table) if axis != "strategy"]
    shown = pd.DataFrame({"run": kept["path"].map(labels), "strategy": kept.get("strategy", kept.get("treatment"))})
    shown["strategy"] = shown["strategy"].map(lambda name: NAMES.get(name, name))
    for axis in varying:
        shown[axis] = kept[axis].map(lambda v: v if isinstance(v, int | float) and not isinstance(v, bool) else str(v))
    for part in ("test", "validation", "train"):
        if f"{part}_accuracy" in kept:
            shown[f"{part} %"] = (100 * kept[f"{part}_accuracy"]).round(1)
    if "epochs_run" in kept:
        shown["epochs"] = kept["epochs_run"]
    shown = shown.dropna(axis=1, how="all").astype(object)
    return shown.where(shown.notna(), None).to_dict("records")


def parallel(name: str, metric: str = "test_accuracy") -> go.Figure | None:
    """Every student as a line through what varies to its accuracy; None if nothing varies."""
    table = ablation.students(studies.study_table(name))
    axes = ablation.axes(table)
    if not axes or metric not in table:
        return None
    key = ("parallel", studies.study_stamp(find(name)), metric)
    shown = table[axes].astype(str)
    if "strategy" in shown:
        shown["strategy"] = shown["strategy"].map(lambda name: NAMES.get(name, name))
    return FIGURES.get(key, lambda: plots.parallel_runs(shown, table[metric], metric))


def read(name: str) -> Study:
    """The study, kept until a run of it is begun or done."""
    folder = find(name)
    begun = tuple(sorted(path.parent.name for path in folder.glob("*/params.json")))
    return RESULTS.get(("overview", studies.study_stamp(folder), begun), lambda: study.read(folder))
