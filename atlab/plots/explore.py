"""Figures of the explorers: what stands in a split, where networks look, how layers resemble, what a sweep found."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from atlab.plots.style import COLOURS, LAYOUT, cycle
from atlab.stats import mean_interval

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


class Picture(NamedTuple):
    """A clip as a ground for maps: values [height, width] with their axes, and what it is in words."""

    values: np.ndarray
    x: np.ndarray
    y: np.ndarray
    x_title: str = "time (s)"
    y_title: str = "frequency (Hz)"
    caption: str = ""
    upward: bool = True  # y grows upwards


def class_maps(
    pictures: Sequence[Picture],
    maps: Mapping[str, Sequence[np.ndarray]],
    opacity: float = 0.6,
    reference: str = "",
    scores: Mapping[str, float] | None = None,
    title: str = "",
) -> go.Figure:
    """Maps over their clips, a column a network and a row a clip: {network: [map of each clip, height x width in [0, 1]]}.

    With `reference`, the other columns show their map minus that network's; `scores` are written above
    the second row.
    """
    names, rows = list(maps), len(pictures)
    titles = [_broken(head) for head in ("clip", *names)]
    if rows > 1:
        titles += ["", *("" if scores is None else _score(scores[n]) for n in names)]
    figure = make_subplots(
        rows, 1 + len(names), subplot_titles=titles, shared_xaxes=True, shared_yaxes=True,
        horizontal_spacing=0.02, vertical_spacing=0.12,
    )  # fmt: skip
    ends: set[bool] = set()  # one colour bar for maps, one for differences
    for row, ground in enumerate(pictures, start=1):
        place = {"x": ground.x, "y": ground.y, "hoverinfo": "skip", "showscale": False}
        below = go.Heatmap(z=np.float32(ground.values), colorscale="Greys_r", name=ground.caption, **place)
        figure.add_trace(go.Heatmap(below).update(colorscale="Cividis", hoverinfo="x+y+z"), row=row, col=1)
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
                z=np.float32(values), x=ground.x, y=ground.y, zmin=-1 if differs else 0, zmax=1, opacity=opacity, name=name,
                colorscale="PuOr" if differs else "Inferno", showscale=differs not in ends, colorbar=bar,
            )  # fmt: skip
            figure.add_trace(heat, row=row, col=column)
            ends.add(differs)
        figure.update_yaxes(
            title_text=f"{ground.y_title}<br>{_broken(ground.caption, 26)}",
            title_font_size=11,
            row=row,
            col=1,
        )
    figure.update_xaxes(title_text=pictures[-1].x_title, row=rows)
    if not pictures[0].upward:
        figure.update_yaxes(autorange="reversed")
    layout = PANELS | {"margin": {"l": 90, "r": 20, "t": 110, "b": 50}}
    figure.update_xaxes(nticks=3)
    figure.update_annotations(font_size=11)
    return figure.update_layout(title=title, height=150 + 230 * rows, width=240 * (1 + len(names)), **layout)


def _score(correlation: float) -> str:
    return f"r = {correlation:.2f}" if correlation == correlation else "r undefined: a map is constant"


def map_profiles(
    bands: Mapping[str, np.ndarray],
    band_names: Sequence[str],
    over_time: Mapping[str, np.ndarray],
    times: np.ndarray,
    title: str = "",
) -> go.Figure:
    """Shares of relevance by frequency band and by time, a colour a network; the first entry is the sound itself."""
    figure = make_subplots(1, 2, subplot_titles=["by frequency band", "by time"], horizontal_spacing=0.1)
    shapes = ["", "/", "x", ".", "-", "\\", "+", "|"]
    colours = [COLOURS[6], *(c for c in cycle() if c != COLOURS[6])]
    for n, (name, shares) in enumerate(bands.items()):
        look = {
            "color": colours[n % len(colours)],
            "pattern": {"shape": shapes[n % len(shapes)], "solidity": 0.25},
        }
        figure.add_trace(go.Bar(x=list(band_names), y=shares, name=name, legendgroup=name, marker=look), 1, 1)
        line = {"color": look["color"], "dash": ["dot", "solid", "dash", "dashdot"][n % 4], "width": 2}
        figure.add_trace(
            go.Scatter(x=times, y=over_time[name], name=name, legendgroup=name, line=line, showlegend=False),
            1,
            2,
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
        points = go.Scatter(x=at, y=part["agreement"], text=part["pair"], mode="markers", name=f"{name}, pairs",
                            marker={"color": colour, "opacity": 0.5, "size": 7}, hovertemplate="%{text}: %{y:.2f}")  # fmt: skip
        figure.add_trace(points)
        if len(part) > 1:
            found = mean_interval(part["agreement"])
            error = {"type": "data", "array": [found.high - found.mean], "color": colour}
            mark = {"color": colour, "symbol": "diamond", "size": 11}
            figure.add_trace(
                go.Scatter(
                    x=[place + 0.15],
                    y=[found.mean],
                    error_y=error,
                    mode="markers",
                    name=f"{name}, mean",
                    marker=mark,
                )
            )
    names = [_broken(name, 18) for name in dict.fromkeys(scores["network"])]
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=names, range=[-0.5, len(names) - 0.5])
    figure.update_yaxes(title_text="correlation of the maps", range=[-1.02, 1.02])
    return figure.update_layout(title=title, height=380, width=760, showlegend=False, **LAYOUT)


def _broken(text: str, width: int = 20) -> str:
    """The text in lines of about `width` characters."""
    return "<br>".join(line for part in text.split("<br>") for line in textwrap.wrap(part, width) or [""])


def layer_similarity(
    layers: Sequence[str],
    similarity: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    cka: np.ndarray,
    name: str = "",
    title: str = "",
) -> go.Figure:
    """Anti-transfer similarity (mean, 95 % t interval over clips) and CKA at each layer: [L] each -> Figure."""
    error = {
        "type": "data",
        "symmetric": False,
        "array": high - similarity,
        "arrayminus": similarity - low,
        "thickness": 1.2,
    }
    figure = go.Figure(
        go.Bar(
            x=list(layers),
            y=similarity,
            error_y=error,
            name=name or "AT similarity",
            marker={"color": COLOURS[0]},
        )
    )
    look = {"color": COLOURS[4], "pattern": {"shape": "/"}}
    figure.add_trace(go.Bar(x=list(layers), y=cka, name="linear CKA, unbiased", marker=look))
    figure.update_xaxes(title_text="layer", type="category").update_yaxes(title_text="similarity")
    return figure.update_layout(
        title=title, height=360, width=900, legend={"orientation": "h", "y": 1.16, "x": 0}, **PANELS
    )


def cka_map(
    cka: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    names: tuple[str, str] = ("", ""),
    title: str = "",
) -> go.Figure:
    """CKA of every layer of one network with every layer of another: [rows, columns] -> Figure."""
    heat = go.Heatmap(z=cka, x=list(columns), y=list(rows), colorscale="Cividis", zmin=0, zmax=1, text=np.round(cka, 2),
                      texttemplate="%{text:.2f}" if cka.size <= 200 else None, textfont={"size": 10}, colorbar={"title": "CKA"})  # fmt: skip
    figure = (
        go.Figure(heat)
        .update_xaxes(title_text=names[1], type="category")
        .update_yaxes(title_text=names[0], type="category")
    )
    return figure.update_layout(
        title=title,
        height=160 + 26 * len(rows),
        width=900,
        **LAYOUT | {"margin": {"l": 90, "r": 20, "t": 50, "b": 70}},
    )


def gram_matrices(
    teacher: np.ndarray,
    student: np.ndarray,
    product: np.ndarray,
    channels: Sequence[int],
    names: tuple[str, str],
    title: str = "",
) -> go.Figure:
    """Two Gram matrices of unit length and their product entry by entry, whose sum is their cosine: [k, k] each -> Figure."""
    figure = make_subplots(
        1,
        3,
        subplot_titles=[_broken(n, 34) for n in (*names, "product")],
        shared_yaxes=True,
        horizontal_spacing=0.03,
    )
    labels = [str(channel) for channel in channels]
    largest = max(float(np.abs(teacher).max(initial=0)), float(np.abs(student).max(initial=0)), 1e-12)
    ends = (largest, largest, max(float(np.abs(product).max(initial=0)), 1e-12))
    for column, (values, end) in enumerate(zip((teacher, student, product), ends, strict=True), start=1):
        bar = {
            "title": "Gram entry" if column < 3 else "product",
            "len": 0.45,
            "y": 0.75 if column < 3 else 0.25,
        }
        heat = go.Heatmap(
            z=np.float32(values),
            x=labels,
            y=labels,
            colorscale="PuOr",
            zmid=0,
            zmin=-end,
            zmax=end,
            colorbar=bar,
            showscale=column > 1,
        )
        figure.add_trace(heat, row=1, col=column)
    figure.update_xaxes(title_text="channel", type="category", nticks=8, tickangle=0)
    figure.update_yaxes(type="category", nticks=8, autorange="reversed").update_yaxes(
        title_text="channel", col=1
    )
    return figure.update_layout(title=title, height=420, width=960, **PANELS)


def channel_maps(
    rows: Mapping[str, tuple[Sequence[int], np.ndarray]],
    extent: tuple[float, float],
    axes: tuple[str, str],
    title: str = "",
) -> go.Figure:
    """Activations of some channels, a row a network: {network: (channel numbers, [k, width, height])} -> Figure.

    `extent` is the length of the axes in their units, `axes` their titles.
    """
    most = max(len(numbers) for numbers, _ in rows.values())
    titles = [
        f"channel {numbers[k]}" if k < len(numbers) else ""
        for numbers, _ in rows.values()
        for k in range(most)
    ]
    figure = make_subplots(
        len(rows),
        most,
        subplot_titles=titles,
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.012,
        vertical_spacing=0.16,
    )
    for row, (name, (numbers, maps)) in enumerate(rows.items(), start=1):
        end = max(float(np.abs(maps).max(initial=0)), 1e-12)
        for column, (number, values) in enumerate(zip(numbers, maps, strict=True), start=1):
            x, y = (
                np.linspace(0, length, n, endpoint=False) + length / n / 2
                for length, n in zip(extent, values.shape, strict=True)
            )
            heat = go.Heatmap(z=np.float32(values.T), x=x, y=y, zmin=0, zmax=end, colorscale="Inferno", showscale=column == most,
                              name=f"{name}, channel {number}", colorbar={"title": "activation", "len": 0.45, "y": 0.78 - 0.56 * (row - 1)})  # fmt: skip
            figure.add_trace(heat, row=row, col=column)
        figure.update_yaxes(
            title_text=f"{axes[1]}<br>{_broken(name, 24)}", title_font_size=11, row=row, col=1
        )
    figure.update_xaxes(nticks=3).update_xaxes(
        title_text=axes[0], title_font_size=11, row=len(rows)
    ).update_annotations(font_size=11)
    return figure.update_layout(
        title=title,
        height=130 + 190 * len(rows),
        width=160 * most,
        **PANELS | {"margin": {"l": 90, "r": 20, "t": 80, "b": 50}},
    )


def effect_by_layer(effects: pd.DataFrame, title: str = "") -> go.Figure:
    """Accuracy above the baseline over AT layers (paper fig. 6), a line a part: columns x (layer), y (part), mean, low, high, n."""
    figure = go.Figure()
    layers = list(dict.fromkeys(effects["x"]))
    for number, (part, rows) in enumerate(effects.groupby("y", sort=False)):
        place = [layers.index(layer) + 0.08 * (2 * number - 1) for layer in rows["x"]]
        error = {
            "type": "data",
            "symmetric": False,
            "array": 100 * (rows["high"] - rows["mean"]),
            "arrayminus": 100 * (rows["mean"] - rows["low"]),
        }
        look = {"color": COLOURS[number], "dash": ["dash", "solid"][number % 2]}
        line = go.Scatter(x=place, y=100 * rows["mean"], error_y=error, name=part, mode="lines+markers", line=look, text=[f"n = {n}" for n in rows["n"]],
                          marker={"symbol": ["circle", "diamond"][number % 2], "size": 9})  # fmt: skip
        figure.add_trace(line)
    figure.add_hline(y=0, line={"color": "grey", "dash": "dot"})
    figure.update_xaxes(
        title_text="anti-transfer layer",
        tickvals=list(range(len(layers))),
        ticktext=layers,
        range=[-0.5, len(layers) - 0.5],
    )
    ends = 100 * effects[["mean", "low", "high"]].to_numpy().ravel()
    reach = min(
        105.0, 1.1 * float(np.nanmax(np.abs(ends), initial=1.0))
    )  # few seeds: an interval may leave what is possible
    figure.update_yaxes(title_text="accuracy above the baseline (points)", range=[-reach, reach])
    return figure.update_layout(title=title, height=380, width=900, **PANELS)


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
        interval = (
            "" if np.isnan(cell["low"]) else f"<br>[{scale * cell['low']:.1f}, {scale * cell['high']:.1f}]"
        )
        text[i][j] = f"{scale * cell['mean']:.1f}{interval}<br>n = {cell['n']:.0f}"
    end = float(np.nanmax(np.abs(z), initial=1e-9))
    look = (
        {"colorscale": "PuOr", "zmid": 0, "zmin": -end, "zmax": end}
        if difference
        else {"colorscale": "Cividis"}
    )
    unit = "points" if difference else "%" if scale == 100 else metric
    labels = rows if y else [metric]
    heat = go.Heatmap(z=z, x=columns, y=labels, text=text, texttemplate="%{text}" if z.size <= 80 else None, textfont={"size": 11},
                      hovertemplate="%{x}, %{y}: %{text}", hoverongaps=False, colorbar={"title": unit}, **look)  # fmt: skip
    figure = go.Figure(heat)
    if chosen and chosen[0] in columns and (chosen[1] in rows):
        i, j = rows.index(chosen[1]), columns.index(chosen[0])
        figure.add_shape(
            type="rect",
            x0=j - 0.5,
            x1=j + 0.5,
            y0=i - 0.5,
            y1=i + 0.5,
            line={"color": COLOURS[1], "width": 4},
        )
    figure.update_xaxes(title_text=x, type="category").update_yaxes(
        title_text=y, type="category", automargin=True
    )
    return figure.update_layout(title=title, height=190 + 62 * len(rows), width=900, **LAYOUT)


def sweep_curves(
    cells: pd.DataFrame,
    points: pd.DataFrame,
    x: str,
    y: str,
    metric: str,
    difference: bool = False,
    title: str = "",
) -> go.Figure:
    """One axis of a sweep as curves, a line a value of the other (paper fig. 8): mean, 95 % t interval, runs as points.

    `cells` as in `sweep_map`; `points` has a row a run: x, y, value. A numeric axis is logarithmic where that spreads it.
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
        dots = go.Scatter(x=[place(t) for t in own["x"]], y=scale * own["value"], mode="markers", name=f"{name}, runs", showlegend=False,
                          customdata=own[["x", "y"]].to_numpy(), marker={"color": colour, "opacity": 0.45, "size": 6})  # fmt: skip
        error = {
            "type": "data",
            "symmetric": False,
            "array": scale * (part["high"] - part["mean"]),
            "arrayminus": scale * (part["mean"] - part["low"]),
        }
        line = go.Scatter(x=[place(t) for t in part["x"]], y=scale * part["mean"], error_y=error, mode="lines+markers", name=name or metric,
                          customdata=part[["x", "y"]].to_numpy(), text=[f"n = {k}" for k in part["n"]],
                          line={"color": colour, "dash": ["solid", "dash", "dot", "dashdot"][n % 4]},
                          marker={"size": 9, "symbol": ["circle", "diamond", "square", "x"][n % 4]})  # fmt: skip
        figure.add_traces([dots, line])
    if difference:
        figure.add_hline(y=0, line={"color": "grey", "dash": "dot"})
    axis = (
        {"type": "log" if logarithmic else "linear"}
        if numeric
        else {"tickvals": list(range(len(names))), "ticktext": names}
    )
    figure.update_xaxes(title_text=x, **axis).update_yaxes(
        title_text=metric + (" above the baseline (points)" if difference else " (%)" if scale == 100 else "")
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
            found = mean_interval(runs)
            error = {"type": "data", "array": [found.high - found.mean], "color": colour}
            mark = {"color": colour, "symbol": "diamond", "size": 11}
            figure.add_trace(
                go.Scatter(
                    x=[place + 0.12],
                    y=[found.mean],
                    error_y=error,
                    mode="markers",
                    name=f"{name}, mean",
                    marker=mark,
                )
            )
    names = [_broken(name.replace("_", " "), 16) for name in values]
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=names, range=[-0.5, len(names) - 0.5])
    figure.update_yaxes(title_text="accuracy", range=[0, 1.02])
    return figure.update_layout(title=title, height=360, width=760, showlegend=False, **LAYOUT)


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
