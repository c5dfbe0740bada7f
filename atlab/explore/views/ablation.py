"""Ablation: any two parameters of a study against each other, and the runs behind every cell."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator
from dataclasses import dataclass, replace

import ipywidgets as widgets
import pandas as pd

from atlab import plots, runs
from atlab.errors import AtlabError, unknown
from atlab.explore import studies
from atlab.explore.cache import FIGURES, RESULTS
from atlab.explore.compute import ablation as compute
from atlab.explore.widgets import inputs
from atlab.explore.widgets.background import Step
from atlab.explore.widgets.explorer import Explorer, Page
from atlab.explore.widgets.shown import Shown, sentence
from atlab.explore.widgets.table import table_html
from atlab.system.home import find

KINDS = ("heat map", "curves")
FORMS = ("similarity", "aggregation")  # what is looked at first, where a study varies both
RESETS = {"study": ("metric", "x", "y", "where", "cell"), "x": ("cell",), "y": ("cell",), "where": ("cell",)}
CURVES = 8  # learning curves in one figure
LISTED = 60  # runs of a cell in the table


@dataclass(frozen=True)
class AblationState:
    """What the ablation page shows; empty fields stand for the first there is.

    Attributes:
        study: folder of runs. metric: a result.
        x, y: parameters that runs differ in; y may be "-" for none. kind: "heat map" or "curves".
        difference: the metric minus that of the baseline of the same seed and data.
        where: only runs with one of these values: ((parameter, (value, ...)), ...).
        cell: the values of x and y whose runs are shown; the best cell if there is no run with these.
    """

    study: str = ""
    metric: str = ""
    x: str = ""
    y: str = ""
    kind: str = "heat map"
    difference: bool = False
    where: tuple[tuple[str, tuple[str, ...]], ...] = ()
    cell: tuple[str, ...] = ()


def steps(s: AblationState) -> Iterator[Step | Shown]:
    """What a state shows, part by part."""
    s, offered = studies.settle(s)
    yield offered
    yield Step(0, 2, f"reading {s.study}")
    whole, axes, metrics = _study(s.study)
    if not metrics:
        raise AtlabError(f"the runs of {s.study} have no numbers among their results")
    s = _settled(s, whole, axes, metrics)
    yield Shown(
        choices={
            "metric": [(n.replace("_", " "), n) for n in metrics],
            "x": axes,
            "y": [("(none)", compute.NONE), *((n, n) for n in axes)],
        },
        resolved={"metric": s.metric, "x": s.x, "y": s.y, "where": s.where},
    )
    if s.kind not in KINDS:
        raise unknown("kind of figure", s.kind, KINDS)
    for name in (s.x, s.y):
        if name not in (*axes, compute.NONE):
            raise unknown("parameter that runs differ in", name, axes)
    if s.metric not in metrics:
        raise unknown("result", s.metric, metrics)
    up = "" if s.y in (compute.NONE, s.x) else s.y
    kept = compute.filtered(whole, s.where)
    table = compute.applicable(kept, s.x, up)
    values = (compute.above_baseline(whole, s.metric) if s.difference else whole[s.metric])[table.index]
    cells = compute.cells(table, s.x, up, values, compute.bounds(s.metric, s.difference))
    if cells.empty:
        raise AtlabError(f"none of the runs shown has a value of {s.metric}")
    yield Shown(texts={"pooled": _pooled(table.loc[values.dropna().index], s.x, up, len(kept) - len(table))})
    yield from _cells(s, table, cells, values, up)


def _settled(s: AblationState, whole: pd.DataFrame, axes: list[str], metrics: list[str]) -> AblationState:
    """The state with the axes to begin with: aggregation and similarity at one layer, where a study varies both, else layers by strategy."""
    free = sorted((n for n in axes if n not in ("seed", "strategy")), key=lambda n: n != "layers") or axes
    forms = not s.x and not s.y and set(FORMS) <= set(axes)
    x = s.x or (FORMS[0] if forms else free[0])
    several = (
        {"strategy", x} <= set(axes) and x != "strategy" and compute.applicable(whole, x)["strategy"].nunique() > 1
    )
    second = ["strategy"] * several + [name for name in free if name != x] + [compute.NONE]
    y = s.y or (FORMS[1] if forms else second[0])
    where = s.where
    if forms and not where and "layers" in axes:
        tried = compute.applicable(whole, *FORMS).groupby("layers")[list(FORMS)].nunique().sum(axis=1)
        where = (("layers", (str(tried.idxmax()),)),)
    return replace(s, x=x, y=y, where=where, metric=s.metric or metrics[0])


def _pooled(table: pd.DataFrame, x: str, y: str, left_out: int) -> str:
    """What the runs of a cell differ in, and which runs have no cell, as HTML."""
    mixed = compute.pooled(table, x, y)
    told = "; ".join(f"{name} ({', '.join(values[:8])}{', ...' * (len(values) > 8)})" for name, values in mixed.items())
    said = f"A cell averages runs that differ in: {told}." if told else "The runs of a cell differ in nothing."
    if left_out:
        said += f" {left_out} runs that have no {' or no '.join(filter(None, (x, y)))} (a baseline, for example) are in no cell."
    return html.escape(said)


def _study(study: str) -> tuple[pd.DataFrame, list[str], list[str]]:
    """The students of a study, the parameters they differ in and their results; kept until another run is done."""
    table = studies.study_table(study)

    def read() -> tuple[pd.DataFrame, list[str], list[str]]:
        whole = compute.students(table)
        axes = compute.axes(whole) or ["strategy" if "strategy" in whole else whole.columns[0]]
        return whole, axes, compute.metrics(whole)

    return RESULTS.get(("ablation", *studies.study_stamp(find(study))), read)


def _cells(s: AblationState, table: pd.DataFrame, cells: pd.DataFrame, values, y: str) -> Iterator[Step | Shown]:
    x, metric = s.x, s.metric
    best = cells.loc[cells["mean"].idxmax()]
    known = list(zip(cells["x"], cells["y"], strict=True))
    chosen = s.cell if s.cell in known else (str(best["x"]), str(best["y"]))
    options = [(f"{x} {one}" + (f", {y} {other}" if y else ""), (one, other)) for one, other in known]
    yield Shown(choices={"cell": options}, resolved={"cell": chosen})
    if s.cell and s.cell != chosen:
        yield Shown(
            notes=[f"No run has {x} {s.cell[0]} and {y or 'nothing else'} {s.cell[-1]}: the best cell is shown."]
        )
    told = "".join(f", {name} {'/'.join(v)}" for name, v in s.where)
    of = f"{metric.replace('_', ' ')}{' minus baseline' if s.difference else ''}"
    title = f"{of}{told} (95 % t interval over runs)"
    key = (str(cells.values.tolist()), x, y, metric, s.difference, title)
    if s.kind == "heat map":
        figure = FIGURES.get(
            ("sweep map", *key, chosen), lambda: plots.sweep_map(cells, x, y, metric, chosen, s.difference, title)
        )
    else:
        points = pd.DataFrame(
            {"x": table[x].astype(str), "y": table[y].astype(str) if y else "", "value": values.astype(float)}
        ).dropna()
        figure = FIGURES.get(
            ("curves", *key, str(points["value"].tolist())),
            lambda: plots.sweep_curves(cells, points, x, y, metric, s.difference, title),
        )
    yield Shown(figures={"cells": figure}, texts={"export": _exports(s, table, cells, x, y, metric)})
    yield Step(1, 2, "reading learning curves")
    yield _runs(compute.in_cell(table, x, y, chosen), x, y, chosen, metric)


def _runs(chosen: pd.DataFrame, x: str, y: str, cell: tuple[str, str], metric: str) -> Shown:
    """What stands behind a cell: its runs, their results as points, their learning curves."""
    varying = [name for name in compute.axes(chosen) if name not in (x, y)]
    labels = [
        " ".join(f"{name} {row[name]}" for name in varying if row[name] != compute.NONE) or str(row["id"])[:8]
        for _, row in chosen.iterrows()
    ]
    place = f"{x} {cell[0]}" + (f", {y} {cell[1]}" if y else "")
    shares = [name for name in compute.metrics(chosen) if compute.is_share(name)] or [metric]
    key = (tuple(chosen["path"]), place)
    figure = FIGURES.get(
        ("cell", *key),
        lambda: plots.cell_runs(
            {name: chosen[name].tolist() for name in shares}, labels, f"{len(chosen)} runs: {place}"
        ),
    )
    notes, histories = [], {}
    for label, path in list(zip(labels, chosen["path"], strict=True))[:CURVES]:
        try:
            history = RESULTS.get(("history", path), lambda path=path: runs.Run(path).history())
            histories[label if label not in histories else f"{label} ({path[-6:]})"] = history
        except AtlabError as error:
            notes.append(sentence(error))
    if len(chosen) > CURVES:
        notes.append(f"Learning curves of the first {CURVES} of {len(chosen)} runs.")
    figures = {"runs": figure}
    if histories:
        figures["curves"] = FIGURES.get(
            ("learning", *key, tuple(histories)), lambda: plots.learning_curves(histories, f"learning curves: {place}")
        )
    shown = chosen[["id", *varying, *compute.metrics(chosen)]].head(LISTED).round(4)
    return Shown(figures=figures, texts={"table": table_html(shown, index=False)}, notes=notes)


def _exports(s: AblationState, table: pd.DataFrame, cells: pd.DataFrame, x: str, y: str, metric: str) -> str:
    """Links that save the cells as CSV and LaTeX and the runs as CSV, and the LaTeX to copy."""
    name = find(s.study).name
    named = cells.rename(columns={"x": x, "y": y} if y else {"x": x}).drop(columns=[] if y else "y")
    tex = compute.latex(cells, x, y, metric + (" minus baseline" if s.difference else ""), compute.is_share(metric))
    columns = ["id", *dict.fromkeys([*compute.axes(table), *compute.metrics(table)]), "path"]
    files = {
        f"{name}_cells.csv": compute.csv(named),
        f"{name}_cells.tex": tex,
        f"{name}_runs.csv": compute.csv(table[columns]),
    }
    links = " · ".join(
        f"<a download='{html.escape(file)}' href='data:text/plain;base64,{base64.b64encode(text.encode()).decode()}'>{html.escape(file)}</a>"
        for file, text in files.items()
    )
    return f"save: {links}<details><summary>LaTeX</summary><pre>{html.escape(tex)}</pre></details>"


def _controls() -> dict[str, widgets.Widget]:
    return {
        "study": inputs.choice("study", help="Finished studies, the latest first"),
        "metric": inputs.choice("result"),
        "x": inputs.choice("across"),
        "y": inputs.choice("by"),
        "kind": inputs.choice("as", KINDS),
        "difference": inputs.check("minus the baseline of its seed"),
        "cell": inputs.wide(inputs.choice("cell", help="The cell whose runs are shown; a click on it does the same")),
    }


def _body(e: Explorer) -> list[widgets.Widget]:
    def open_cell(point: dict) -> None:
        x, y = point["customdata"] if point.get("customdata") else (point.get("x"), point.get("y"))
        offered = inputs.values(e.controls["cell"])
        wanted = next((cell for cell in offered if cell in ((str(x), str(y)), (str(x), ""))), None)
        if wanted:
            e.change(cell=wanted)

    cells = e.view("cells")
    cells.on_click(open_cell)
    chosen = [e.row("study", "metric", "x", "y", "kind", "difference"), _filters(e), e.text("pooled")]
    return [*chosen, cells, e.text("export"), e.row("cell"), e.view("runs"), e.view("curves"), e.text("table")]


def _filters(e: Explorer) -> widgets.Widget:
    """A parameter and the values of it to keep; filters add up."""
    name, values = inputs.choice("only runs by"), inputs.several("with", rows=2)
    told, clear = widgets.Label(), inputs.button("no filter", "clear", lambda: e.change(where=()), width="90px")
    quiet: list[bool] = []

    def offer(_=None) -> None:
        """Show the filters of the state, and the values of the parameter that is looked at."""
        quiet.append(True)
        try:
            try:
                found, axes, _results = _study(studies.settle(e.state)[0].study)
            except AtlabError:  # the explorer says so
                found, axes = None, []
            inputs.offer(name, axes, name.value or next((n for n, _ in e.state.where), None))
            kept = dict(e.state.where).get(name.value, ())
            inputs.offer(values, compute.values_of(found, name.value) if name.value in axes else [], kept)
            told.value = "; ".join(f"{n}: {', '.join(v)}" for n, v in e.state.where) or "all runs"
        finally:
            quiet.pop()

    def keep(change: dict) -> None:
        if not quiet and name.value:
            where = dict(e.state.where)
            where.pop(name.value, None)
            e.change(where=tuple(where.items()) + (((name.value, tuple(change["new"])),) if change["new"] else ()))

    name.add_class("atlab-filter-by").observe(lambda _: None if quiet else offer(), "value")
    values.add_class("atlab-filter-values").observe(keep, "value")
    e.on_state(offer)
    return widgets.HBox([name, values, clear, told])


PAGE = Page("Ablation", AblationState, steps, _controls, _body, RESETS)
