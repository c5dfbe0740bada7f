"""Figures of invariance: what is left of a factor, by layer and against the accuracy of the target."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from atlab.labels import NAMES
from atlab.plots.style import LAYOUT, cycle

MEASURES = {
    "balanced_accuracy": "balanced accuracy of a linear probe",
    "mlp": "balanced accuracy of a multilayer probe",
    "bits": "code length (bits per clip)",
    "cka": "CKA to the factor's network",
    "at": "AT similarity to the factor's network",
    "changed": "changed predictions",
    "excess": "changed predictions beyond repetitions",
    "excess_nats": "change of log-probability beyond repetitions (nats)",
    "maps": "correlation of Grad-CAM maps between values",
    "target_accuracy": "target accuracy",
}


def invariance_card(
    summary: pd.DataFrame, factor: str, layer: str, target: str = "target", measure: str = "balanced_accuracy"
) -> go.Figure:
    """Target accuracy against what is left of a factor, a point per kind of network -> Figure.

    `summary` as in `invariance.Report`: means over seeds with 95 % t intervals. Left is free of the factor, up is good at the
    target. measure: "balanced_accuracy" (of a linear probe at the layer; chance is dotted), or one of use: "changed",
    "excess", "excess_nats". A measure that these clips do not allow is said to be missing.
    """
    rows = summary[(summary["factor"] == factor) & (summary["layer"] == layer)]
    rows = rows.dropna(subset=measure) if measure in rows else rows.iloc[:0]
    figure, axes = go.Figure(), (measure, "target_accuracy")
    for colour, (_, row) in zip(cycle(), rows.iterrows(), strict=False):
        errors = [
            {
                "type": "data",
                "symmetric": False,
                "array": [row[f"{m}_high"] - row[m]],
                "arrayminus": [row[m] - row[f"{m}_low"]],
                "color": colour,
                "thickness": 1.5,
            }
            for m in axes
        ]
        figure.add_trace(
            go.Scatter(
                x=[row[axes[0]]],
                y=[row[axes[1]]],
                error_x=errors[0],
                error_y=errors[1],
                mode="markers",
                name=NAMES.get(row["name"], row["name"]),
                marker={
                    "color": colour,
                    "size": 12,
                    "symbol": "x" if row["name"] in ("LEACE", "random weights") else "circle",
                },
            )
        )
    probe = measure == "balanced_accuracy"
    if len(rows):
        line = {"dash": "dot", "color": "grey"}
        figure.add_vline(
            x=rows["chance"].iloc[0] if probe else 0, line=line, annotation_text="chance" if probe else "no use"
        )
    seeds = " to ".join(map(str, sorted({int(rows["seeds"].min()), int(rows["seeds"].max())}))) if len(rows) else "no"
    figure.update_xaxes(
        title_text=f"{factor} at {layer}: {MEASURES[measure]}" if probe else f"{factor}: {MEASURES[measure]}"
    )
    figure.update_yaxes(title_text=f"{target} accuracy")
    if not len(rows):
        missing = f"not measured: too few clips differ in {factor} only"
        figure.add_annotation(text=missing, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
    what = f"What is left of {factor} at {layer}" if probe else f"What use is made of {factor}"
    title = f"{what}<br><sup>means and 95 % t intervals over {seeds} seeds</sup>"
    return figure.update_layout(
        title=title,
        height=460,
        width=620 + _legend(rows["name"]),
        **LAYOUT | {"margin": {"l": 60, "r": 20, "t": 70, "b": 50}},
    )


def presence_by_layer(
    summary: pd.DataFrame, factor: str, measure: str = "balanced_accuracy", names: Sequence[str] | None = None
) -> go.Figure:
    """A measure of a factor layer by layer, one line with its 95 % band per kind of network -> Figure.

    `summary` as in `invariance.Report`; the chance level of probes is dotted.
    """
    rows = summary[(summary["factor"] == factor) & summary[measure].notna()] if measure in summary else summary.iloc[:0]
    layers = list(dict.fromkeys(summary["layer"]))
    figure = go.Figure()
    for colour, name in zip(cycle(), names or dict.fromkeys(rows["name"]), strict=False):
        part = (
            rows[rows["name"] == name]
            .set_index("layer")
            .reindex([x for x in layers if x in set(rows[rows["name"] == name]["layer"])])
        )
        spread = {
            "type": "data",
            "symmetric": False,
            "array": part[f"{measure}_high"] - part[measure],
            "arrayminus": part[measure] - part[f"{measure}_low"],
            "color": colour,
            "thickness": 1.2,
        }
        figure.add_trace(
            go.Scatter(
                x=list(part.index),
                y=part[measure],
                error_y=spread,
                mode="lines+markers",
                line={"color": colour},
                name=NAMES.get(name, name),
                marker={"size": 7},
            )
        )
    if measure in ("balanced_accuracy", "mlp") and len(rows):
        figure.add_hline(y=rows["chance"].iloc[0], line={"dash": "dot", "color": "grey"}, annotation_text="chance")
    figure.update_xaxes(title_text="layer", categoryorder="array", categoryarray=layers).update_yaxes(
        title_text=f"{factor}: {MEASURES[measure]}"
    )
    seeds = int(rows["seeds"].max()) if len(rows) else 0
    title = f"{factor.capitalize()} by layer<br><sup>means and 95 % t intervals over {seeds} seeds</sup>"
    return figure.update_layout(
        title=title,
        height=420,
        width=680 + _legend(rows["name"]),
        **LAYOUT | {"margin": {"l": 60, "r": 20, "t": 70, "b": 50}},
    )


def _legend(names: pd.Series) -> int:
    """Pixels that the names of a legend take."""
    return 40 + 7 * max((len(NAMES.get(name, name)) for name in names), default=0)
