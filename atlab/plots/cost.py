"""Figures of what anti-transfer costs: step time and memory by layer, predicted and measured."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from atlab.plots.style import COLOURS, LAYOUT

MIB = 2**20
LABELS = {"live": "live teacher", "cached": "cached targets", "published": "authors' formulation"}
COLOUR_OF = dict(zip(LABELS, COLOURS, strict=False))


def step_time(table: pd.DataFrame, title: str = "") -> go.Figure:
    """Time of a step by layer in ms: bars measured, diamonds predicted; a table of `measured.beside_prediction` -> Figure.

    The line is the plain step. Bars are medians; whiskers its ratio's quartiles to the plain step.
    """
    figure, plain = go.Figure(), table["plain_ms"]
    for variant, label in LABELS.items():
        middle = table[f"{variant}_ratio"]
        whisker = {
            "type": "data",
            "symmetric": False,
            "thickness": 1,
            "array": (table[f"{variant}_high"] - middle) * plain,
            "arrayminus": (middle - table[f"{variant}_low"]) * plain,
        }
        figure.add_bar(
            x=table["layer"],
            y=middle * plain,
            name=f"{label}, measured",
            marker_color=COLOUR_OF[variant],
            error_y=whisker,
            offsetgroup=variant,
            legendgroup=variant,
        )
    for place, variant in ((-0.27, "live"), (0.0, "cached")):
        figure.add_scatter(
            x=[n + place for n in range(len(table))],
            y=table[f"predicted_{variant}_ms"],
            mode="markers",
            xaxis="x2",
            name=f"{LABELS[variant]}, predicted",
            marker={
                "symbol": "diamond",
                "size": 8,
                "color": COLOUR_OF[variant],
                "line": {"color": "black", "width": 1},
            },
        )
    figure.add_scatter(
        x=table["layer"], y=plain, mode="lines", name="plain step", line={"color": "black", "dash": "dot"}
    )
    return _by_layer(figure, table, title, "time of a step (ms)")


def added_memory(table: pd.DataFrame, title: str = "") -> go.Figure:
    """Memory that anti-transfer adds to a step by layer in MiB, eq. 4 and measured: -> Figure.

    Hatched bars are eq. 4's terms, solid ones the tensors' peak beyond the plain step's.
    """
    figure = go.Figure()
    for variant in ("live", "cached"):
        bar = {"marker": {"color": COLOUR_OF[variant], "pattern": {"shape": "/"}}, "offsetgroup": f"{variant} eq. 4"}
        figure.add_bar(
            x=table["layer"], y=table[f"predicted_{variant}_bytes"] / MIB, name=f"{LABELS[variant]}, eq. 4", **bar
        )
        figure.add_bar(
            x=table["layer"],
            y=table[f"added_{variant}_bytes"] / MIB,
            name=f"{LABELS[variant]}, measured",
            marker_color=COLOUR_OF[variant],
            offsetgroup=f"{variant} measured",
        )
    figure.add_bar(
        x=table["layer"],
        y=table["added_published_bytes"] / MIB,
        name=f"{LABELS['published']}, measured",
        marker_color=COLOUR_OF["published"],
        offsetgroup="published",
    )
    return _by_layer(figure, table, title, "memory beyond a plain step (MiB)")


def _by_layer(figure: go.Figure, table: pd.DataFrame, title: str, up: str) -> go.Figure:
    hidden = {"overlaying": "x", "visible": False, "range": [-0.5, len(table) - 0.5]}
    figure.update_layout(
        barmode="group",
        title=title,
        height=460,
        width=980,
        xaxis2=hidden,
        xaxis={"title": "layer", "range": [-0.5, len(table) - 0.5]},
        yaxis_title=up,
        legend={"orientation": "h", "y": -0.2},
        **LAYOUT,
    )
    return figure
