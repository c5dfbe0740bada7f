"""Figures of data sets and clips: spectrograms, activation maps over them, counts of factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from atlab.plots.ablation import PANELS
from atlab.plots.style import COLOURS, LAYOUT


def spectrogram(magnitude: np.ndarray, times: np.ndarray, frequencies: np.ndarray, title: str = "") -> go.Figure:
    """Magnitude in dB below its maximum: [time, frequency], seconds, Hz -> Figure."""
    return spectrograms({"": magnitude}, times, frequencies, title)


def spectrograms(
    panels: Mapping[str, np.ndarray], times: np.ndarray, frequencies: np.ndarray, title: str = ""
) -> go.Figure:
    """Several spectrograms side by side on one dB scale: {name: [time, frequency]} -> Figure."""
    figure = _panels(panels, title)
    for column, magnitude in enumerate(panels.values(), start=1):
        figure.add_trace(_spectrogram_trace(magnitude, times, frequencies, showscale=column == 1), row=1, col=column)
    return figure


def crossing_table(counts: pd.DataFrame, title: str = "") -> go.Figure:
    """Number of clips for each pair of values of two factors: a DataFrame of counts -> Figure."""
    heat = go.Heatmap(
        z=counts.to_numpy(),
        x=[str(c) for c in counts.columns],
        y=[str(r) for r in counts.index],
        colorscale="Cividis",
        zmin=0,
        zmax=max(1, int(counts.to_numpy().max(initial=0))),  # plotly ignores one end without the other
        colorbar={"title": "clips"},
        texttemplate="%{z}" if counts.size <= 300 else None,
    )
    figure = go.Figure(heat).update_layout(title=title, height=420, width=760, **LAYOUT)
    figure.update_yaxes(title_text=counts.index.name, autorange="reversed")
    return figure.update_xaxes(title_text=counts.columns.name)


def factor_counts(counts: Mapping[str, pd.Series], title: str = "") -> go.Figure:
    """Number of clips with each value of each factor, the 30 most frequent: {factor: counts by value} -> Figure."""
    figure = make_subplots(1, len(counts), subplot_titles=list(counts), horizontal_spacing=0.4 / (1 + len(counts)))
    for column, (factor, clips) in enumerate(counts.items(), start=1):
        shown = clips.head(30)
        bars = go.Bar(
            x=[str(value) for value in shown.index], y=shown.to_numpy(), name=factor, marker={"color": COLOURS[0]}
        )
        figure.add_trace(bars, row=1, col=column)
        figure.update_xaxes(type="category", row=1, col=column)
    figure.update_yaxes(title_text="clips", col=1).update_layout(showlegend=False)
    return figure.update_layout(title=title, height=360, width=max(480, 300 * len(counts)), **PANELS)


def durations(seconds: np.ndarray, title: str = "") -> go.Figure:
    """Histogram of durations in s: [N] -> Figure."""
    counts, edges = np.histogram(seconds, bins=40)
    bars = go.Bar(x=(edges[1:] + edges[:-1]) / 2, y=counts, width=np.diff(edges), marker={"color": COLOURS[0]})
    figure = go.Figure(bars).update_layout(title=title, height=320, width=760, bargap=0, **LAYOUT)
    return figure.update_xaxes(title_text="duration (s)").update_yaxes(title_text="clips")


def spectrogram_grid(
    magnitudes: np.ndarray, times: np.ndarray, frequencies: np.ndarray, captions: Sequence[str], title: str = ""
) -> go.Figure:
    """Spectrograms in rows of five, each in dB below its maximum: [N, time, frequency], s, Hz, N captions -> Figure."""
    figure, places = _grid(captions, title, "time (s)", "frequency (Hz)")
    for magnitude, (row, column) in zip(magnitudes, places, strict=True):
        trace = _spectrogram_trace(magnitude, times, frequencies, showscale=(row, column) == (1, 1))
        figure.add_trace(trace, row=row, col=column)
    return figure


def image_grid(images: np.ndarray, captions: Sequence[str], title: str = "") -> go.Figure:
    """Pictures in rows of five: uint8 [N, 1 or 3, H, W], N captions -> Figure."""
    figure, places = _grid(captions, title, "", "")
    for image, (row, column) in zip(images, places, strict=True):
        pixels = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
        figure.add_trace(go.Image(z=pixels.tolist()), row=row, col=column)
    return figure.update_xaxes(visible=False).update_yaxes(visible=False)


def _spectrogram_trace(magnitude, times, frequencies, showscale: bool, colours: str = "Cividis") -> go.Heatmap:
    import librosa  # it takes a second

    loudest = max(float(magnitude.max()), 1e-8)
    decibel = librosa.amplitude_to_db(magnitude, ref=loudest, amin=1e-12, top_db=80)
    return go.Heatmap(
        z=decibel.T,
        x=times,
        y=frequencies,
        colorscale=colours,
        zmin=-80,
        zmax=0,
        showscale=showscale,
        colorbar={"title": "dB"},
    )


def _panels(panels: Mapping[str, object], title: str) -> go.Figure:
    figure = make_subplots(1, len(panels), subplot_titles=list(panels), shared_yaxes=True, horizontal_spacing=0.02)
    figure.update_xaxes(title_text="time (s)").update_yaxes(title_text="frequency (Hz)", col=1)
    return figure.update_layout(title=title, height=340, width=max(480, 260 * len(panels)), **LAYOUT)


def _grid(
    captions: Sequence[str], title: str, across: str, up: str, columns: int = 5
) -> tuple[go.Figure, list[tuple[int, int]]]:
    """An empty figure with a captioned panel for each, and the panels' (row, column)."""
    places = [(1 + n // columns, 1 + n % columns) for n in range(len(captions))]
    rows = places[-1][0]
    figure = make_subplots(
        rows,
        min(columns, len(captions)),
        subplot_titles=["<br>".join(c.split(", ")) for c in captions],
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.02,
        vertical_spacing=0.3 / rows,
    )
    figure.update_annotations(font_size=11).update_xaxes(title_text=across, row=rows).update_yaxes(title_text=up, col=1)
    layout = LAYOUT | {"margin": {"l": 60, "r": 20, "t": 110, "b": 50}}
    return figure.update_layout(title=title, height=160 + 220 * rows, width=960, **layout), places


def split_parts(table: pd.DataFrame, target: str, by: str, title: str = "") -> go.Figure:
    """Clips of each part of a split, values of `by` it shares with training, and how well `by` predicts the target there.

    `table` is indexed by part, with the columns clips, "BY", "BY also in training" and association (Cramer's V).
    """
    parts, shared = list(table.index), f"{by} also in training"
    figure = make_subplots(
        1, 3, subplot_titles=["clips", f"values of {by}", f"Cramer's V, {target} and {by}"], horizontal_spacing=0.1
    )
    figure.add_trace(
        go.Bar(x=parts, y=table["clips"], marker={"color": COLOURS[0]}, name="clips", showlegend=False), 1, 1
    )
    figure.add_trace(go.Bar(x=parts, y=table[by], marker={"color": COLOURS[5]}, name=f"{by}: all in the part"), 1, 2)
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
