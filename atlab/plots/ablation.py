"""Figures of the explorers: what stands in a split, where networks look, how similar layers are, what a sweep found."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from atlab.labels import natural
from atlab.plots.style import COLOURS, LAYOUT, cycle, mean_point

# Room for a title above the titles of panels.
PANELS = LAYOUT | {"margin": {"l": 60, "r": 20, "t": 80, "b": 50}}


def _broken(text: str, width: int = 20) -> str:
    """The text in lines of about `width` characters."""
    return "<br>".join(line for part in text.split("<br>") for line in textwrap.wrap(part, width) or [""])


def sweep_map(
    cells: pd.DataFrame,
    x: str,
    y: str,
    metric: str,
    chosen: tuple[str, str] | None = None,
    difference: bool = False,
    title: str = "",
) -> go.Figure:
    """Two axes of a sweep as a heat map: columns x, y, mean, low, high, n; the chosen cell is framed.

    Shares are in percent, differences in points around 0.
    """
    columns, rows = _in_order(dict.fromkeys(cells["x"])), list(dict.fromkeys(cells["y"]))
    scale = 100 if _is_share(metric) else 1
    found = cells.set_index(["y", "x"])
    z = np.full((len(rows), len(columns)), np.nan)
    text = [["" for _ in columns] for _ in rows]
    for (row, column), cell in found.iterrows():
        i, j = rows.index(row), columns.index(column)
        z[i, j] = scale * cell["mean"]
        interval = "" if np.isnan(cell["low"]) else f"<br>[{scale * cell['low']:.1f}, {scale * cell['high']:.1f}]"
        text[i][j] = f"{scale * cell['mean']:.1f}{interval}<br>n = {cell['n']:.0f}"
    end = float(np.nanmax(np.abs(z), initial=1e-9))
    look = {"colorscale": "PuOr", "zmid": 0, "zmin": -end, "zmax": end} if difference else {"colorscale": "Cividis"}
    unit = "points" if difference else "%" if scale == 100 else metric.replace("_", " ")
    labels = rows if y else [metric.replace("_", " ")]
    heat = go.Heatmap(
        z=z,
        x=columns,
        y=labels,
        text=text,
        texttemplate="%{text}" if z.size <= 80 else None,
        textfont={"size": 11},
        hovertemplate="%{x}, %{y}: %{text}",
        hoverongaps=False,
        colorbar={"title": unit},
        **look,
    )
    figure = go.Figure(heat)
    if chosen and chosen[0] in columns and (chosen[1] in rows):
        i, j = rows.index(chosen[1]), columns.index(chosen[0])
        figure.add_shape(
            type="rect", x0=j - 0.5, x1=j + 0.5, y0=i - 0.5, y1=i + 0.5, line={"color": COLOURS[1], "width": 4}
        )
    figure.update_xaxes(title_text=x, type="category").update_yaxes(title_text=y, type="category", automargin=True)
    return figure.update_layout(title=title, height=190 + 62 * len(rows), width=900, **LAYOUT)


def sweep_curves(
    cells: pd.DataFrame, points: pd.DataFrame, x: str, y: str, metric: str, difference: bool = False, title: str = ""
) -> go.Figure:
    """One axis of a sweep as curves, a line per value of the other (paper fig. 8): mean, 95 % t interval, runs as points.

    `cells` as in `sweep_map`; `points` has a row per run: x, y, value. A numeric axis is logarithmic where that spreads it.
    """
    scale = 100 if _is_share(metric) else 1
    names = _in_order(dict.fromkeys(cells["x"]))
    numeric = all(_number(n) is not None for n in names) and len(names) > 1
    numbers = [_number(n) for n in names] if numeric else []
    logarithmic = numeric and min(numbers) > 0 and max(numbers) / min(numbers) >= 20
    figure = go.Figure()
    for n, (colour, (name, part)) in enumerate(zip(cycle(), cells.groupby("y", sort=False), strict=False)):
        own = points[points["y"] == name]
        place = (lambda t: _number(t)) if numeric else (lambda t, n=n: names.index(t) + 0.05 * n)
        dots = go.Scatter(
            x=[place(t) for t in own["x"]],
            y=scale * own["value"],
            mode="markers",
            name=f"{name}, runs",
            showlegend=False,
            customdata=own[["x", "y"]].to_numpy(),
            marker={"color": colour, "opacity": 0.45, "size": 6},
        )
        error = {
            "type": "data",
            "symmetric": False,
            "array": scale * (part["high"] - part["mean"]),
            "arrayminus": scale * (part["mean"] - part["low"]),
        }
        line = go.Scatter(
            x=[place(t) for t in part["x"]],
            y=scale * part["mean"],
            error_y=error,
            mode="lines+markers",
            name=name or metric,
            customdata=part[["x", "y"]].to_numpy(),
            text=[f"n = {k}" for k in part["n"]],
            line={"color": colour, "dash": ["solid", "dash", "dot", "dashdot"][n % 4]},
            marker={"size": 9, "symbol": ["circle", "diamond", "square", "x"][n % 4]},
        )
        figure.add_traces([dots, line])
    if difference:
        figure.add_hline(y=0, line={"color": "grey", "dash": "dot"})
    axis = (
        {"type": "log" if logarithmic else "linear"}
        if numeric
        else {"tickvals": list(range(len(names))), "ticktext": names}
    )
    figure.update_xaxes(title_text=x, **axis).update_yaxes(
        title_text=metric.replace("_", " ")
        + (" above the baseline (points)" if difference else " (%)" if scale == 100 else "")
    )
    legend = {"title": y, "orientation": "v"}
    return figure.update_layout(title=title, height=440, width=900, legend=legend, **LAYOUT)


def cell_runs(values: Mapping[str, Sequence[float]], labels: Sequence[str], title: str = "") -> go.Figure:
    """The runs of one cell: each result's values as points, with mean and 95 % t interval: {result: [runs]} -> Figure."""
    figure = go.Figure()
    for place, (colour, (name, runs)) in enumerate(zip(cycle(), values.items(), strict=False)):
        runs = np.asarray(runs, float)
        look = {"color": colour, "opacity": 0.5, "size": 8}
        figure.add_trace(
            go.Scatter(
                x=[place - 0.12] * len(runs),
                y=runs,
                text=list(labels),
                mode="markers",
                name=f"{name}, runs",
                marker=look,
            )
        )
        if len(runs) > 1:
            figure.add_trace(mean_point(runs, place + 0.12, name, colour, (0, 1)))
    names = [_broken(name.replace("_", " "), 16) for name in values]
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=names, range=[-0.5, len(names) - 0.5])
    figure.update_yaxes(title_text="accuracy", range=[0, 1.02])
    return figure.update_layout(title=title, height=360, width=760, showlegend=False, **LAYOUT)


def parallel_runs(axes: pd.DataFrame, values: pd.Series, metric: str) -> go.Figure:
    """Every run as a line through its parameters to its result, coloured by it: texts [runs, parameters], numbers [runs] -> Figure."""
    scale = 100 if _is_share(metric) else 1
    dimensions = []
    for name in axes:
        texts = sorted(set(axes[name]), key=natural)
        places = [texts.index(text) for text in axes[name]]
        dimensions.append(
            {"label": name, "values": places, "tickvals": list(range(len(texts))), "ticktext": [t[:24] for t in texts]}
        )
    shown = (scale * values.astype(float)).to_numpy()
    unit = " (%)" if scale == 100 else ""
    dimensions.append({"label": metric.replace("_", " ") + unit, "values": shown})
    lines = go.Parcoords(line={"color": shown, "colorscale": "Cividis"}, dimensions=dimensions)
    margin = {"l": 90, "r": 60, "t": 100, "b": 30}
    title = "Every run; drag along an axis to select"
    return go.Figure(lines).update_layout(title=title, height=360, width=1200, **LAYOUT | {"margin": margin})


def _is_share(metric: str) -> bool:
    return metric.endswith(("accuracy", "recall"))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _in_order(texts: Iterable[str]) -> list[str]:
    """As they come, but numbers by size."""
    texts = list(texts)
    return sorted(texts, key=float) if all(_number(t) is not None for t in texts) else texts
