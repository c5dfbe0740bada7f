"""Class activation maps as pictures, profiles and agreements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from atlab.plots.ablation import PANELS, _broken
from atlab.plots.style import COLOURS, LAYOUT, cycle, mean_point


class Picture(NamedTuple):
    """A clip as a background for maps: values [height, width] with their axes, a caption, and a picture's colours (uint8 [height, width, 3])."""

    values: np.ndarray
    x: np.ndarray
    y: np.ndarray
    x_title: str = "time (s)"
    y_title: str = "frequency (Hz)"
    caption: str = ""
    upward: bool = True  # y grows upwards
    colours: np.ndarray | None = None


def class_maps(
    pictures: Sequence[Picture],
    maps: Mapping[str, Sequence[np.ndarray]],
    opacity: float = 0.6,
    reference: str = "",
    scores: Mapping[str, float] | None = None,
    title: str = "",
    method: str = "the map",
) -> go.Figure:
    """Maps over their clips, a column per network and a row per clip: {network: [map of each clip, height x width in [0, 1]]}.

    With `reference`, the other columns show their map minus that network's; `scores` are written above
    the second row, and where a map is zero everywhere, that `method` is zero there.
    """
    names, rows = list(maps), len(pictures)
    titles = [_broken(head) for head in ("clip" if pictures[0].upward else "picture", *names)]
    if rows > 1:
        titles += ["", *("" if scores is None else _score(scores[n]) for n in names)]
    figure = make_subplots(
        rows,
        1 + len(names),
        subplot_titles=titles,
        shared_xaxes=pictures[0].upward,
        shared_yaxes=pictures[0].upward,
        horizontal_spacing=0.02,
        vertical_spacing=0.12,
    )
    ends: set[bool] = set()  # one colour bar for maps, one for differences
    for row, ground in enumerate(pictures, start=1):
        place = {"x": ground.x, "y": ground.y, "hoverinfo": "skip", "showscale": False}
        below = go.Heatmap(z=np.float32(ground.values), colorscale="Greys_r", name=ground.caption, **place)
        shown = go.Heatmap(below).update(colorscale="Cividis", hoverinfo="x+y+z")
        if ground.colours is not None:
            shown = go.Image(z=ground.colours, name=ground.caption)
        figure.add_trace(shown, row=row, col=1)
        for column, name in enumerate(names, start=2):
            differs = bool(reference) and name != reference
            values = maps[name][row - 1] - maps[reference][row - 1] if differs else maps[name][row - 1]
            bar = {
                "title": "difference" if differs else "relevance",
                "len": 0.48 if reference else 1,
                "y": 0.22 if differs else 0.78 if reference else 0.5,
            }
            figure.add_trace(below, row=row, col=column)
            heat = go.Heatmap(
                z=np.float32(values),
                x=ground.x,
                y=ground.y,
                zmin=-1 if differs else 0,
                zmax=1,
                opacity=opacity,
                name=name,
                colorscale="PuOr" if differs else "Inferno",
                showscale=differs not in ends,
                colorbar=bar,
            )
            figure.add_trace(heat, row=row, col=column)
            ends.add(differs)
            if not values.any():
                where = {"x": (ground.x[0] + ground.x[-1]) / 2, "y": (ground.y[0] + ground.y[-1]) / 2}
                look = {"font": {"color": "white"}, "bgcolor": "rgba(0, 0, 0, 0.6)", "showarrow": False}
                figure.add_annotation(text=f"{method} is<br>zero here", row=row, col=column, **where, **look)
        figure.update_yaxes(
            title_text=f"{ground.y_title}<br>{_broken(ground.caption, 26)}", title_font_size=11, row=row, col=1
        )
    figure.update_xaxes(title_text=pictures[-1].x_title, row=rows)
    if not pictures[0].upward:
        _square(figure, rows, 1 + len(names))
    layout = PANELS | {"margin": {"l": 90, "r": 20, "t": 110, "b": 50}}
    figure.update_xaxes(nticks=3)
    figure.update_annotations(font_size=11)
    return figure.update_layout(title=title, height=150 + 230 * rows, width=240 * (1 + len(names)), **layout)


def _square(figure: go.Figure, rows: int, columns: int) -> None:
    """Pixels as wide as they are high, rows counted downwards, numbers at the outer panels only."""
    figure.update_yaxes(autorange="reversed", constrain="domain")
    figure.update_xaxes(constrain="domain")
    for row in range(1, rows + 1):
        for column in range(1, columns + 1):
            x = figure.get_subplot(row, column).yaxis.anchor
            figure.update_yaxes(scaleanchor=x, showticklabels=column == 1, row=row, col=column)
            figure.update_xaxes(showticklabels=row == rows, row=row, col=column)


def _score(correlation: float) -> str:
    return f"r = {correlation:.2f}" if correlation == correlation else "r undefined: a map is constant"


def map_profiles(
    bands: Mapping[str, np.ndarray],
    band_names: Sequence[str],
    over_time: Mapping[str, np.ndarray],
    times: np.ndarray,
    title: str = "",
) -> go.Figure:
    """Shares of relevance by frequency band and by time, a colour per network; the first entry is the sound itself."""
    figure = make_subplots(1, 2, subplot_titles=["by frequency band", "by time"], horizontal_spacing=0.1)
    shapes = ["", "/", "x", ".", "-", "\\", "+", "|"]
    colours = [COLOURS[6], *(c for c in cycle() if c != COLOURS[6])]
    for n, (name, shares) in enumerate(bands.items()):
        look = {"color": colours[n % len(colours)], "pattern": {"shape": shapes[n % len(shapes)], "solidity": 0.25}}
        figure.add_trace(go.Bar(x=list(band_names), y=shares, name=name, legendgroup=name, marker=look), 1, 1)
        line = {"color": look["color"], "dash": ["dot", "solid", "dash", "dashdot"][n % 4], "width": 2}
        figure.add_trace(
            go.Scatter(x=times, y=over_time[name], name=name, legendgroup=name, line=line, showlegend=False), 1, 2
        )
    figure.update_xaxes(title_text="frequency (kHz)", type="category", tickangle=0, col=1).update_xaxes(
        title_text="time (s)", col=2
    )
    figure.update_yaxes(title_text="share of relevance, of power", rangemode="tozero", col=1).update_yaxes(
        rangemode="tozero", col=2
    )
    legend = {"orientation": "h", "y": -0.32}
    return figure.update_layout(title=title, height=420, width=900, barmode="group", legend=legend, **PANELS)


def map_agreements(scores: pd.DataFrame, title: str = "") -> go.Figure:
    """Agreement of maps over pairs of clips: columns network, pair, agreement; pairs as points, mean and 95 % t interval."""
    figure = go.Figure()
    for place, (colour, name) in enumerate(zip(cycle(), dict.fromkeys(scores["network"]), strict=False)):
        part = scores[scores["network"] == name].dropna(subset="agreement")
        at = np.full(len(part), place - 0.15) + np.linspace(-0.08, 0.08, len(part))
        points = go.Scatter(
            x=at,
            y=part["agreement"],
            text=part["pair"],
            mode="markers",
            name=f"{name}, pairs",
            marker={"color": colour, "opacity": 0.5, "size": 7},
            hovertemplate="%{text}: %{y:.2f}",
        )
        figure.add_trace(points)
        if len(part) > 1:
            figure.add_trace(mean_point(part["agreement"], place + 0.15, name, colour, (-1, 1)))
    names = [_broken(name, 18) for name in dict.fromkeys(scores["network"])]
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=names, range=[-0.5, len(names) - 0.5])
    figure.update_yaxes(title_text="correlation of the maps", range=[-1.02, 1.02])
    return figure.update_layout(title=title, height=380, width=760, showlegend=False, **LAYOUT)
