"""A study as one HTML page: what ran, accuracies with intervals, differences, layers, curves, failures, commands."""

from __future__ import annotations

import base64
import datetime
import importlib.metadata
import json
import warnings
from pathlib import Path

import pandas as pd
from pandas.api.types import is_number

import atlab
from atlab import analysis, plots
from atlab.analysis import claims, dose, networks, planned, study
from atlab.analysis.study import Study
from atlab.labels import plain
from atlab.runs.folder import Run
from atlab.system.files import write_atomic

SCORES = ("train_accuracy", "validation_accuracy", "test_accuracy", "test_unweighted_average_recall", "epochs_run")
CURVES = 6
LIBRARIES = ("torch", "numpy", "pandas", "scipy")
CSV = (
    *("condition", "arm", "n", "test", "test_low", "test_high", "mean", "low", "high"),
    *("half_width", "could_have_seen", "p_holm", "primary"),
)


def write(name: str | Path, root: str | Path = "runs", out: str | Path | None = None) -> Path:
    """Write the report of ROOT/NAME (or of a study's folder) to `out`, report.html in the study if not given: -> its path.

    A table with the suffix .csv goes next to it: one row per arm and condition, and one per primary difference (`numbers`).

    Figures are SVG where Chrome is found; elsewhere they are interactive, with plotly.js (5 MB) in the page. Nothing is
    asked of any other host. AtlabError if there is no such study.
    """
    import nbformat

    from atlab.runs.html import to_html

    found = study.read(name, root)
    images = _Images()
    try:
        cells = _cells(found, images)
    finally:
        images.stop()
    notebook = nbformat.v4.new_notebook(cells=cells)
    page = to_html(notebook)
    path = write_atomic(out or found.folder / "report.html", page)
    write_atomic(path.with_suffix(".csv"), numbers(found).to_csv(index=False))
    return path


def numbers(found: Study) -> pd.DataFrame:
    """What a study measured: one row per primary difference (`primary`), then one per condition and arm.

    Columns: condition, arm, n, test, test_low, test_high (accuracy, 95 % t interval), mean, low, high (difference, to the baseline
    for an arm), half_width, could_have_seen, p_holm, primary. Fractions; empty where there is none.
    """
    first, _ = planned.primary(found.folder)
    rows = [
        {**{c: row[c] for c in CSV if c in row}, "condition": "", "arm": row["contrast"], "primary": True}
        for _, row in first.iterrows()
    ]
    for title, table, by, _ in study.comparable(found) if not found.table.empty else ():
        if not table.empty:
            compared = analysis.comparison(table, by).drop(columns="condition")
            names = {"low": "test_low", "high": "test_high", "difference": "mean", "d_low": "low", "d_high": "high"}
            shown = compared.rename(columns=names).assign(condition=title, primary=False)
            shown["half_width"] = (shown["high"] - shown["low"]) / 2
            rows += shown[list(CSV)].to_dict("records")
    return pd.DataFrame(rows, columns=list(CSV))


def _cells(found: Study, images: _Images) -> list:
    cells = [_text(f"# {plain(found.title)}\n\n{_counts(found)}"), *_parameters(found)]
    if said := planned.primary(found.folder)[1]:
        cells += _primary(found, said)
    if known := networks.sentences(found.table):
        cells.append(_text(f"## Orthogonal networks\n\n{known}"))
    if not found.table.empty:
        for title, part, by, notes in study.comparable(found):
            cells += _condition(title, part, by, [*notes, *dose.clips(part, found.units), *dose.learned(part)], images)
        shown = ["id", *found.varying, *(c for c in SCORES if c in found.table)]
        cells.append(_folded(f"Every finished run ({len(found.table)})", _html(found.table[shown].round(4))))
        cells.append(_folded("Command lines", "<pre>" + "\n".join(map(plain, study.commands(found))) + "</pre>"))
    return [*cells, _text(_made(found, images))]


def _counts(found: Study) -> str:
    lines = [f"{len(found.table)} runs finished, {len(found.unfinished)} unfinished, {len(found.failed)} failed."]
    if took := study.seconds(found):
        lines[0] += f" Their notebooks took {took / 60:.1f} minutes in all."
    lines += [
        f"- failed: {plain(name)}: {plain(message.splitlines()[0])} (as far as it came: `out.failed.ipynb`)"
        for name, message in found.failed.items()
    ]
    lines += [f"- unfinished: {plain(run.id)}" for run in found.unfinished]
    if stages := len(found.table) - len(found.asked_for):
        lines.append(
            f"- {stages} of the finished runs are first stages that others required; they stand in no comparison."
        )
    return "\n".join([lines[0], "", *lines[1:]])


def _primary(found: Study, said: str) -> list:
    text = (
        "## Primary differences\n\nNamed before the first run. 95 % t intervals over pairs of repetitions; p values are Holm's over "
        f"these differences; the last column is the true difference that would have been found with a probability of 80 %.\n\n{said}"
    )
    return [_text(text), _text(_html(planned.percent(planned.primary(found.folder)[0])))]


def _parameters(found: Study) -> list:
    if found.table.empty:
        return []
    rows = [
        {"parameter": c, "values": ", ".join(str(v) or "(none)" for v in sorted(found.table[c].unique()))}
        for c in found.varying
    ]
    fixed = [{"parameter": c, "value": found.table[c].iloc[0]} for c in found.parameters if c not in found.varying]
    return [
        _text("## What varies"),
        _text(_html(pd.DataFrame(rows, columns=["parameter", "values"]))),
        _folded("The same in all runs", _html(pd.DataFrame(fixed, columns=["parameter", "value"]))),
    ]


def _condition(title: str, table: pd.DataFrame, by: list[str], notes: list[str], images: _Images) -> list:
    heading = f"## Accuracy: {plain(title)}" if title else "## Accuracy"
    cells = [_text("\n".join([heading, "", *(f"- {plain(note)}" for note in notes)]))]
    if table.empty:
        return cells
    compared = analysis.comparison(table, by)
    units = "Means over repetitions with 95 % t intervals; differences are paired by repetition, in points; p values are Holm's over all arms; the last column is the true difference that would have been found with a probability of 80 %."
    cells += [_text(units), _text(_html(analysis.percent(compared)))]
    gains = compared.dropna(subset="difference")
    if not gains.empty:
        cells += [images.cell(plots.improvement_by_arm(compared)), _text(analysis.findings(compared))]
        cells += _layers(title, gains, table, by, images) + _map(gains, by, images)
    return cells + _dose(table, by) + _curves(table, by, compared, images)


def _dose(table: pd.DataFrame, by: list[str]) -> list:
    """How large the anti-transfer loss was, next to the cross-entropy."""
    found = dose.losses(table, by)
    text = "### Dose\n\nThe anti-transfer loss (times beta) on the training clips and its share of the cross-entropy, means over repetitions."
    return [] if found.empty else [_text(text), _text(_html(found))]


def _layers(title: str, gains: pd.DataFrame, table: pd.DataFrame, by: list[str], images: _Images) -> list:
    """Fig. 6, where AT was tried at several single layers and nothing else tells arms apart."""
    at = gains[(gains["strategy"] == "at") & ~gains["layers"].str.contains(",")]
    if at["layers"].nunique() < 2 or len(by) > 3:
        return []
    single = table[~table["layers"].str.contains(",")]
    tests = claims.layer_tests({title or "this study": single})
    return [
        _text("### By layer"),
        images.cell(plots.improvement_by_layer({tests["task"][0]: analysis.by_layer(at)})),
        _text("\n".join(claims.of_layers(tests))),
    ]


def _map(gains: pd.DataFrame, by: list[str], images: _Images) -> list:
    """A map of AT's differences, where exactly two of its settings vary."""
    at = gains[gains["strategy"] == "at"]
    axes = [name for name in by if name != "strategy" and at[name].nunique() > 1]
    if len(axes) != 2 or at.duplicated(axes).any():
        return []
    return [
        _text(f"### {plain(axes[0].capitalize())} and {plain(axes[1])} of AT"),
        images.cell(plots.accuracy_map(at, *axes)),
    ]


def _curves(table: pd.DataFrame, by: list[str], compared: pd.DataFrame, images: _Images) -> list:
    """Learning curves of the baseline and the best arms, cross-entropy and anti-transfer loss apart."""
    best = compared.sort_values("test", ascending=False, kind="stable")
    shown = pd.concat([best[best["strategy"] == "baseline"], best[best["strategy"] != "baseline"]])[:CURVES]
    runs_of = analysis.arms(table).groupby(by)["path"].agg(list)
    paths = {row["arm"]: runs_of.loc[tuple(row[by])] for _, row in shown.iterrows()}
    curves = {
        arm: [Run(path).history() for path in of_arm if (Path(path) / "history.parquet").exists()]
        for arm, of_arm in paths.items()
    }
    curves = {arm: found for arm, found in curves.items() if found}
    if not curves:
        return []
    text = "### Learning curves\n\nThe baseline and the arms with the highest test accuracy; means over repetitions with their range."
    return [_text(text), images.cell(plots.dynamics(curves))]


def _made(found: Study, images: _Images) -> str:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    here = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    made = f"Runs made with {plain(', '.join(study.versions(found))) or 'nothing yet'}. Page made {now} by atlab {atlab.__version__} with {here}."
    return (
        made if images.static else f"{made} No Chrome was found: figures are drawn by plotly.js, which is in this page."
    )


class _Images:
    """Figures as cells: SVG drawn by one Chrome for the whole page, or interactive if there is none."""

    def __init__(self) -> None:
        import kaleido

        self.static = True
        try:
            kaleido.start_sync_server(silence_warnings=True)
        except Exception:  # kaleido raises several types where it finds no Chrome
            self.static = False

    def cell(self, figure):
        import nbformat
        import plotly.io

        if self.static:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # that its options do not reach a server which has none
                    svg = base64.b64encode(plotly.io.to_image(figure, format="svg")).decode()
                return _text(f'<img alt="figure" src="data:image/svg+xml;base64,{svg}">')
            except Exception:  # as above: some are raised only by the first figure
                self.static = False
        data = {"application/vnd.plotly.v1+json": json.loads(figure.to_json())}
        return nbformat.v4.new_code_cell("", outputs=[nbformat.v4.new_output("display_data", data=data)])

    def stop(self) -> None:
        import kaleido

        kaleido.stop_sync_server(silence_warnings=True)


def _text(markdown: str):
    import nbformat

    return nbformat.v4.new_markdown_cell(markdown)


def _folded(title: str, html: str):
    return _text(f"<details><summary>{plain(title)}</summary>\n{html}\n</details>")


def _html(table: pd.DataFrame) -> str:
    shown = table.rename(columns=plain).map(lambda value: value if value is None or is_number(value) else plain(value))
    with pd.option_context("display.max_colwidth", None):
        return shown.to_html(index=False, border=0, na_rep="", escape=False, justify="left")
