"""The ablation explorer: any two parameters of a study against each other, and the runs behind every cell."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator
from dataclasses import dataclass

import ipywidgets as widgets
import pandas as pd

from atlab import plots, runs
from atlab.errors import AtlabError, unknown
from atlab.explore import studies
from atlab.explore.cache import FIGURES, RESULTS
from atlab.explore.compute import ablation as compute
from atlab.explore.widgets import explorer as parts
from atlab.explore.widgets import inputs
from atlab.explore.widgets.background import Step
from atlab.explore.widgets.explorer import Explorer, Shown, sentence
from atlab.system.home import find

KINDS = ("heat map", "curves")
RESETS = {
    "study": ("metric", "x", "y", "where", "cell_x", "cell_y"),
    "x": ("cell_x", "cell_y"),
    "y": ("cell_x", "cell_y"),
    "where": ("cell_x", "cell_y"),
}
CURVES = 8  # learning curves in one figure
LISTED = 60  # runs of a cell in the table


@dataclass(frozen=True)
class AblationState:
    """What the ablation explorer shows; empty fields stand for the first there is.

    Attributes:
        study: folder of runs. metric: a result.
        x, y: parameters that runs differ in; y may be "-" for none. kind: "heat map" or "curves".
        difference: the metric minus that of the baseline of the same seed and data.
        where: only runs with one of these values: ((parameter, (value, ...)), ...).
        cell_x, cell_y: the values of the cell whose runs are shown.
    """

    study: str = "runs/demo_study"
    metric: str = ""
    x: str = ""
    y: str = ""
    kind: str = "heat map"
    difference: bool = False
    where: tuple[tuple[str, tuple[str, ...]], ...] = ()
    cell_x: str = ""
    cell_y: str = ""


def steps(s: AblationState) -> Iterator[Step | Shown]:
    """What a state shows, part by part."""
    yield Step(0, 2, f"reading {s.study}")
    whole, axes, metrics = _study(s.study)
    if not metrics:
        raise AtlabError(f"the runs of {s.study} have no numbers among their results")
    free = [name for name in axes if name != "seed"] or axes
    x = s.x or free[0]
    y = s.y or next((name for name in free if name != x), compute.NONE)
    metric = s.metric or metrics[0]
    yield Shown(
        choices={"metric": metrics, "x": axes, "y": [("(none)", compute.NONE), *((n, n) for n in axes)]},
        resolved={"metric": metric, "x": x, "y": y},
    )
    if s.kind not in KINDS:
        raise unknown("kind of figure", s.kind, KINDS)
    for name in (x, y):
        if name not in (*axes, compute.NONE):
            raise unknown("parameter that runs differ in", name, axes)
    if metric not in metrics:
        raise unknown("result", metric, metrics)
    table = compute.filtered(whole, s.where)
    up = "" if y in (compute.NONE, x) else y
    values = (compute.above_baseline(whole, metric) if s.difference else whole[metric])[table.index]
    cells = compute.cells(table, x, up, values)
    if cells.empty:
        raise AtlabError(f"none of the runs shown has a value of {metric}")
    yield from _cells(s, table, cells, values, x, up, metric)


def _study(study: str) -> tuple[pd.DataFrame, list[str], list[str]]:
    """The students of a study, the parameters they differ in and their results; kept until another run is done."""
    table = studies.study_table(study)

    def read() -> tuple[pd.DataFrame, list[str], list[str]]:
        whole = compute.students(table)
        axes = compute.axes(whole) or ["strategy" if "strategy" in whole else whole.columns[0]]
        return whole, axes, compute.metrics(whole)

    return RESULTS.get(("ablation", *studies.study_stamp(find(study))), read)


def _cells(
    s: AblationState, table: pd.DataFrame, cells: pd.DataFrame, values, x: str, y: str, metric: str
) -> Iterator[Step | Shown]:
    across, down = list(dict.fromkeys(cells["x"])), list(dict.fromkeys(cells["y"]))
    best = cells.loc[cells["mean"].idxmax()]
    chosen = s.cell_x or str(best["x"]), (s.cell_y or str(best["y"])) if y else ""
    yield Shown(
        choices={"cell_x": across, "cell_y": down if y else []},
        resolved={"cell_x": chosen[0]} | ({"cell_y": chosen[1]} if y else {}),
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
        seeds = str(points["value"].tolist())
        figure = FIGURES.get(
            ("curves", *key, seeds), lambda: plots.sweep_curves(cells, points, x, y, metric, s.difference, title)
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
    shares = [name for name in compute.metrics(chosen) if name.endswith(("accuracy", "recall"))] or [metric]
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
    curves = None
    if histories:
        curves = FIGURES.get(
            ("learning", *key, tuple(histories)), lambda: plots.learning_curves(histories, f"learning curves: {place}")
        )
    shown = chosen[["id", *varying, *compute.metrics(chosen)]].head(LISTED).round(4)
    return Shown(
        figures={"runs": figure, "curves": curves}, texts={"table": parts.table_html(shown, index=False)}, notes=notes
    )


def _exports(s: AblationState, table: pd.DataFrame, cells: pd.DataFrame, x: str, y: str, metric: str) -> str:
    """Links that save the cells as CSV and LaTeX and the runs as CSV, and the LaTeX to copy."""
    name = find(s.study).name
    named = cells.rename(columns={"x": x, "y": y} if y else {"x": x}).drop(columns=[] if y else "y")
    tex = compute.latex(
        cells, x, y, metric + (" minus baseline" if s.difference else ""), metric.endswith(("accuracy", "recall"))
    )
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


def ablation(
    study: str = "runs/demo_study", *, state: AblationState | None = None, threaded: bool | None = None, **fields
) -> Explorer:
    """Open the ablation explorer on a study, or at a `state`; further fields of `AblationState` by name."""
    controls = {
        "study": inputs.text("study", help="Folder of runs"),
        "metric": inputs.choice("result"),
        "x": inputs.choice("across"),
        "y": inputs.choice("by"),
        "kind": inputs.choice("as", KINDS),
        "difference": inputs.check("minus the baseline of its seed"),
        "cell_x": inputs.choice("cell: across", help="The cell whose runs are shown; a click on it does the same"),
        "cell_y": inputs.choice("cell: by"),
    }
    return Explorer(
        "Ablation explorer", state or AblationState(study=study, **fields), steps, controls, _body, threaded, RESETS
    )


def _body(e: Explorer) -> list[widgets.Widget]:
    def open_cell(point: dict) -> None:
        x, y = point["customdata"] if point.get("customdata") else (point.get("x"), point.get("y"))
        offered = [control.options for control in (e.controls["cell_x"], e.controls["cell_y"])]
        if str(x) in offered[0]:
            e.change(cell_x=str(x), **({"cell_y": str(y)} if str(y) in offered[1] else {}))

    cells = e.view("cells")
    cells.on_click(open_cell)
    behind = [
        widgets.HBox([e.controls["cell_x"], e.controls["cell_y"]]),
        e.view("runs"),
        e.view("curves"),
        e.text("table"),
    ]
    return [e.row("study", "metric", "x", "y", "kind", "difference"), _filters(e), cells, e.text("export"), *behind]


def _filters(e: Explorer) -> widgets.Widget:
    """A parameter and the values of it to keep; filters add up."""
    name, values = inputs.choice("only runs by"), inputs.several("with", rows=4)
    told, clear = widgets.Label(), widgets.Button(description="no filter", layout={"width": "90px"})
    quiet: list[bool] = []

    def offer(_=None) -> None:
        """Show the filters of the state, and the values of the parameter that is looked at."""
        quiet.append(True)
        try:
            try:
                found, axes, _results = _study(e.state.study)
            except AtlabError:  # the explorer says so
                found, axes = None, []
            parts.offer(name, axes, name.value)
            kept = dict(e.state.where).get(name.value, ())
            parts.offer(values, compute.values_of(found, name.value) if name.value in axes else [], kept)
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
    clear.add_class("atlab-clear").on_click(lambda _: e.change(where=()))
    e.on_state(offer)
    return widgets.HBox([name, values, clear, told])
