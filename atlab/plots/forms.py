"""Figures that compare many forms of training: differences with intervals, a row per form."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from atlab.plots.style import COLOURS, LAYOUT


def differences_by_form(compared: pd.DataFrame, title: str = "", against: str = "baseline") -> go.Figure:
    """Paired differences with 95 % intervals, a panel per condition, a row per form (`forms.comparison`) -> Figure."""
    gains = compared.dropna(subset="difference")
    conditions, names = list(gains["condition"].unique()), list(gains["form"].unique())[::-1]
    figure = make_subplots(1, len(conditions), subplot_titles=conditions, shared_yaxes=True, horizontal_spacing=0.03)
    for column, condition in enumerate(conditions, start=1):
        part = gains[gains["condition"] == condition].set_index("form").reindex(names)
        sure = (part["d_low"] > 0) | (part["d_high"] < 0)
        error = {
            "type": "data",
            "symmetric": False,
            "array": 100 * (part["d_high"] - part["difference"]),
            "arrayminus": 100 * (part["difference"] - part["d_low"]),
            "color": COLOURS[6],
            "thickness": 1,
        }
        marker = {
            "size": 10,
            "color": [COLOURS[1] if s else COLOURS[0] for s in sure],
            "symbol": ["diamond" if s else "circle" for s in sure],
        }
        points = go.Scatter(
            x=100 * part["difference"], y=names, error_x=error, mode="markers", marker=marker, name=condition
        )
        figure.add_trace(points, row=1, col=column)
        figure.add_vline(x=0, line={"color": "grey", "dash": "dot"}, row=1, col=column)
    figure.update_xaxes(title_text=f"accuracy above the {against} (points)")
    layout = LAYOUT | {"margin": {"l": 190, "r": 20, "t": 70, "b": 50}}
    return figure.update_layout(
        title=title, height=160 + 34 * len(names), width=max(640, 330 * len(conditions)), showlegend=False, **layout
    )
