"""Figures of the explorers: what stands in a split, where networks look, how layers resemble, what a sweep found."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from atlab.plots.style import COLOURS, LAYOUT

# Room for a title above the titles of panels.
PANELS = LAYOUT | {"margin": {"l": 60, "r": 20, "t": 80, "b": 50}}


def split_parts(table: pd.DataFrame, target: str, by: str, title: str = "") -> go.Figure:
    """Clips of each part of a split, values of `by` it shares with training, and how far `by` tells the target there.

    `table` is indexed by part, with the columns clips, "BY", "BY also in training" and association (Cramer's V).
    """
    parts, shared = list(table.index), f"{by} also in training"
    figure = make_subplots(
        1,
        3,
        subplot_titles=["clips", f"values of {by}", f"Cramer's V, {target} and {by}"],
        horizontal_spacing=0.1,
    )
    figure.add_trace(
        go.Bar(x=parts, y=table["clips"], marker={"color": COLOURS[0]}, name="clips", showlegend=False), 1, 1
    )
    figure.add_trace(
        go.Bar(x=parts, y=table[by], marker={"color": COLOURS[5]}, name=f"{by}: all in the part"), 1, 2
    )
    seen = {"color": COLOURS[1], "pattern": {"shape": "/"}}
    figure.add_trace(go.Bar(x=parts, y=table[shared], marker=seen, name="of these also in training"), 1, 2)
    v = go.Bar(
        x=parts,
        y=table["association"],
        marker={"color": COLOURS[2]},
        name="Cramer's V (bias-corrected)",
        showlegend=False,
    )
    figure.add_trace(v, 1, 3)
    figure.update_yaxes(title_text="clips", col=1).update_yaxes(title_text="values", col=2)
    figure.update_yaxes(title_text="0 unrelated, 1 determined", range=[0, 1.05], col=3)
    legend = {"orientation": "h", "y": -0.2, "x": 0.3}
    return figure.update_layout(
        title=title, height=360, width=900, barmode="group", legend=legend, **PANELS
    ).update_annotations(font_size=13)
