"""Figures of the audit: what the loss sees layer by layer, noise levels, the gain of choosing."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from atlab.plots.style import COLOURS, LAYOUT

FORMS = {"gram": "channel Gram (paper)", "position_gram": "position Gram", "clip_kernel": "clip kernel (CKA)"}


def similarity_by_layer(table: pd.DataFrame, title: str = "") -> go.Figure:
    """Similarities of pairs of networks by layer: rows of pair, layer and one column per form (`FORMS`) -> Figure."""
    pairs = list(dict.fromkeys(table["pair"]))
    figure = make_subplots(1, len(pairs), subplot_titles=pairs, shared_yaxes=True, horizontal_spacing=0.04)
    for column, pair in enumerate(pairs, start=1):
        part = table[table["pair"] == pair]
        for colour, (form, label) in zip(COLOURS, FORMS.items(), strict=False):
            line = go.Scatter(
                x=part["layer"],
                y=part[form],
                name=label,
                legendgroup=form,
                showlegend=column == 1,
                mode="lines+markers",
                line={"color": colour},
            )
            figure.add_trace(line, row=1, col=column)
    figure.update_xaxes(title_text="layer").update_yaxes(title_text="similarity", range=[-0.15, 1.05], col=1)
    legend = {"orientation": "h", "y": -0.28}
    layout = LAYOUT | {"margin": {"l": 60, "r": 20, "t": 90, "b": 50}}
    return figure.update_layout(title=title, height=440, width=900, legend=legend, **layout)


def true_noise_levels(snr: Mapping[str, float], title: str = "") -> go.Figure:
    """True signal-to-noise ratio over the one asked for, in dB: {asked: true} -> Figure."""
    asked = [float(level) for level in snr]
    figure = go.Figure()
    figure.add_scatter(x=asked, y=asked, mode="lines", name="as asked", line={"color": "black", "dash": "dot"})
    figure.add_scatter(
        x=asked, y=list(snr.values()), mode="lines+markers", name="published mixer", line={"color": COLOURS[1]}
    )
    figure.update_xaxes(title_text="ratio asked for (dB)").update_yaxes(title_text="true ratio (dB)")
    return figure.update_layout(title=title, height=380, width=560, **LAYOUT)


def gain_of_choosing(table: pd.DataFrame, title: str = "") -> go.Figure:
    """Gain in test accuracy of the best of k equal runs: rows of tries, simulated, expected (shares) -> Figure."""
    figure = go.Figure()
    figure.add_scatter(
        x=table["tries"],
        y=100 * table["expected"],
        mode="lines",
        name="expected",
        line={"color": "black", "dash": "dot"},
    )
    figure.add_scatter(
        x=table["tries"],
        y=100 * table["simulated"],
        mode="markers",
        name="simulated",
        marker={"color": COLOURS[0], "size": 8},
    )
    figure.update_xaxes(title_text="layers tried", dtick=2, tick0=1).update_yaxes(
        title_text="gain (points of test accuracy)"
    )
    return figure.update_layout(title=title, height=380, width=640, **LAYOUT)
