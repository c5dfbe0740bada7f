"""A study as one HTML page: what ran, accuracies with intervals, differences, layers, learning curves, every run."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pandas as pd

import atlab
from atlab import artefacts, claims, plots, runs
from atlab.errors import AtlabError, unknown
from atlab.files import write_atomic

CONDITION = ("data", "split", "noise")
ARM = ("strategy", "orthogonal", "layers", "aggregation", "similarity", "beta", "start", "residual", "published", "learning_rate", "batch_size")
SCORES = ("train_accuracy", "validation_accuracy", "test_accuracy", "test_unweighted_average_recall", "epochs_run")


def write(study: str | Path, root: str | Path = "runs", out: str | Path | None = None) -> Path:
    """Write the report of ROOT/STUDY (or of a study's folder) to `out`, STUDY/report.html if not given: -> its path.

    Figures are SVG where Chrome is found, and interactive with plotly.js in the page elsewhere; nothing is asked of any
    other host. AtlabError if there is no such study, or none of its runs is finished.
    """
    import nbformat

    from atlab.offline import to_html

    folder = _folder(study, root)
    table = runs.table(folder)
    if table.empty:
        raise AtlabError(f"no run of {folder} is finished; nothing to report")
    notebook = nbformat.v4.new_notebook(cells=_cells(folder, table))
    return write_atomic(out or folder / "report.html", to_html(notebook))


def _folder(study: str | Path, root: str | Path) -> Path:
    for folder in (Path(root) / study, Path(study)):
        if folder.is_dir():
            return folder
    known = sorted(p.name for p in Path(root).glob("*") if p.is_dir()) if Path(root).is_dir() else []
    raise unknown(f"study in {root}", study, known)


def _cells(folder: Path, table: pd.DataFrame) -> list:
    cells = [_text(f"# {folder.name}\n\n{_counts(folder, table)}"), *_parameters(table)]
    if {"strategy", "test_accuracy", "seed"} <= set(table.columns):
        for name, part in _conditions(table):
            cells += _condition(name, part)
    cells += [_text("## Every finished run"), _frame(table[_varying(table) + [c for c in SCORES if c in table]].round(4))]
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return [*cells, _text(f"Made {made} by atlab {atlab.__version__}: `atlab report {folder.name}`.")]


def _counts(folder: Path, table: pd.DataFrame) -> str:
    unfinished = [p.parent for p in folder.glob("*/params.json") if not (p.parent / "done").exists()]
    failed = [p for p in unfinished if (p / "out.failed.ipynb").exists()]
    lines = [f"{len(table)} runs finished, {len(unfinished) - len(failed)} unfinished, {len(failed)} failed."]
    lines += [f"- failed: `{path}`, as far as it came in `out.failed.ipynb`" for path in failed]
    return "\n".join(lines)


def _parameters(table: pd.DataFrame) -> list:
    known = [c for c in table.columns if c in runs.Run(table["path"][0]).parameters]
    varying = set(_varying(table))
    fixed = ", ".join(f"{c} = {table[c].iloc[0] if table[c].iloc[0] != "" else "(none)"}" for c in known if c not in varying)
    rows = [{"parameter": c, "values": ", ".join(map(str, pd.unique(table[c])))} for c in known if c in varying]
    return [_text(f"## What varies\n\nThe same in all runs: {fixed}."), _frame(pd.DataFrame(rows))]


def _varying(table: pd.DataFrame) -> list[str]:
    """The parameters that have several values; the strategy and the seed always."""
    known = [c for c in runs.Run(table["path"][0]).parameters if c in table]
    return [c for c in known if c in ("strategy", "seed") or table[c].astype(str).nunique() > 1]


def _conditions(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    varying = [c for c in CONDITION if c in table and table[c].nunique() > 1]
    if not varying:
        return [("", table)]
    return [(", ".join(map(str, key)), part) for key, part in table.groupby(varying, sort=False)]


def _condition(name: str, table: pd.DataFrame) -> list:
    title = f"## Accuracy{f': {name}' if name else ''}"
    by = [c for c in ARM if c in table and (c in ("strategy", "orthogonal", "layers") or table[c].astype(str).nunique() > 1)]
    try:
        compared = artefacts.comparison(table, by)
    except AtlabError as error:
        return [_text(f"{title}\n\nNo comparison with a baseline: {error}.")]
    cells = [_text(f"{title}\n\nMeans over seeds with 95 % t intervals; differences paired by seed, in points; Holm over all arms."),
             _frame(artefacts.percent(_told_apart(compared, by))), _figure(plots.improvement_by_arm(_told_apart(compared, by))),
             _text(artefacts.findings(_told_apart(compared, by)))]  # fmt: skip
    at = compared[compared["strategy"] == "at"]
    if by == ["strategy", "orthogonal", "layers"] and at["layers"].nunique() > 1:
        tests = claims.layer_tests({name or "this study": table})
        cells += [_text("## By layer"), _figure(plots.improvement_by_layer({"AT": artefacts.by_layer(compared)})), _text(claims.of_layers(tests)[0])]
    curves = artefacts.histories(table, list(dict.fromkeys(artefacts.arms(table)["arm"]))[:6])
    return [*cells, _text("## Learning curves\n\nMeans over seeds with their range (the first six arms)."), _figure(plots.dynamics(curves))]


def _told_apart(compared: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Arm names with the settings beyond strategy, task and layer that tell these arms apart."""
    more = [c for c in by if c not in ("strategy", "orthogonal", "layers")]
    extra = compared[more].astype(str).agg(" ".join, axis=1) if more else ""
    return compared.assign(arm=(compared["arm"] + " " + extra) if more else compared["arm"])


def _text(markdown: str):
    import nbformat

    return nbformat.v4.new_markdown_cell(markdown)


def _frame(table: pd.DataFrame):
    return _text(table.to_html(index=False, border=0))


def _figure(figure):
    """A figure as a code cell without code: SVG where Chrome is found."""
    import nbformat
    import plotly.io

    data = {"application/vnd.plotly.v1+json": json.loads(figure.to_json())}
    try:
        data["image/svg+xml"] = plotly.io.to_image(figure, format="svg").decode()
    except Exception:  # kaleido raises several types where it finds no Chrome; the page then carries plotly.js
        pass
    output = nbformat.v4.new_output("display_data", data=data)
    return nbformat.v4.new_code_cell("", outputs=[output])
