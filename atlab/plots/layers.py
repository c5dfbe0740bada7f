"""Layers side by side: similarity, Gram matrices, channel maps, effects by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from atlab.plots.ablation import PANELS, _broken
from atlab.plots.style import COLOURS, LAYOUT, cycle


def layer_similarity(averaged: pd.DataFrame, marked: Sequence[str] = (), title: str = "") -> go.Figure:
    """Anti-transfer similarity by layer, one line per arm: columns arm, layer, mean, low, high, n; `marked` layers are shaded."""
    figure = go.Figure()
    for number, (arm, part) in enumerate(averaged.groupby("arm", sort=False)):
        error = {
            "type": "data",
            "symmetric": False,
            "array": part["high"] - part["mean"],
            "arrayminus": part["mean"] - part["low"],
            "thickness": 1.2,
        }
        line = go.Scatter(
            x=part["layer"],
            y=part["mean"],
            error_y=error,
            name=arm,
            mode="lines+markers",
            text=[f"n = {n}" for n in part["n"]],
            line={"color": cycle()[number], "dash": ["solid", "dash", "dot"][number % 3]},
            marker={"symbol": ["circle", "diamond", "square"][number % 3], "size": 8},
        )
        figure.add_trace(line)
    layers = list(dict.fromkeys(averaged["layer"]))
    for layer in set(marked) & set(layers):
        place = layers.index(layer)
        figure.add_vrect(
            x0=place - 0.4,
            x1=place + 0.4,
            fillcolor=COLOURS[4],
            opacity=0.25,
            line_width=0,
            annotation_text="AT acts here",
        )
    figure.update_xaxes(title_text="layer", type="category").update_yaxes(title_text="similarity", rangemode="tozero")
    return figure.update_layout(
        title=title, height=360, width=900, showlegend=True, legend={"orientation": "h", "y": 1.16, "x": 0}, **PANELS
    )


def cka_map(
    cka: np.ndarray, rows: Sequence[str], columns: Sequence[str], names: tuple[str, str] = ("", ""), title: str = ""
) -> go.Figure:
    """CKA of every layer of one network with every layer of another: [rows, columns] -> Figure."""
    heat = go.Heatmap(
        z=cka,
        x=list(columns),
        y=list(rows),
        colorscale="Cividis",
        zmin=0,
        zmax=1,
        text=np.round(cka, 2),
        texttemplate="%{text:.2f}" if cka.size <= 200 else None,
        textfont={"size": 10},
        colorbar={"title": "CKA"},
    )
    figure = (
        go.Figure(heat)
        .update_xaxes(title_text=names[1], type="category")
        .update_yaxes(title_text=names[0], type="category")
    )
    return figure.update_layout(
        title=title, height=160 + 26 * len(rows), width=900, **LAYOUT | {"margin": {"l": 90, "r": 20, "t": 50, "b": 70}}
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
        1, 3, subplot_titles=[_broken(n, 34) for n in (*names, "product")], shared_yaxes=True, horizontal_spacing=0.03
    )
    labels = [str(channel) for channel in channels]
    largest = max(float(np.abs(teacher).max(initial=0)), float(np.abs(student).max(initial=0)), 1e-12)
    ends = (largest, largest, max(float(np.abs(product).max(initial=0)), 1e-12))
    for column, (values, end) in enumerate(zip((teacher, student, product), ends, strict=True), start=1):
        bar = {"title": "Gram entry" if column < 3 else "product", "len": 0.45, "y": 0.75 if column < 3 else 0.25}
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
    figure.update_yaxes(type="category", nticks=8, autorange="reversed").update_yaxes(title_text="channel", col=1)
    return figure.update_layout(title=title, height=420, width=960, **PANELS)


def channel_maps(
    rows: Mapping[str, tuple[Sequence[int], np.ndarray]],
    extent: tuple[float, float],
    axes: tuple[str, str],
    title: str = "",
) -> go.Figure:
    """Activations of some channels, a row per network: {network: (channel numbers, [k, width, height])} -> Figure.

    `extent` is the length of the axes in their units, `axes` their titles.
    """
    most = max(len(numbers) for numbers, _ in rows.values())
    titles = [f"channel {numbers[k]}" if k < len(numbers) else "" for numbers, _ in rows.values() for k in range(most)]
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
            heat = go.Heatmap(
                z=np.float32(values.T),
                x=x,
                y=y,
                zmin=0,
                zmax=end,
                colorscale="Inferno",
                showscale=column == most,
                name=f"{name}, channel {number}",
                colorbar={"title": "activation", "len": 0.45, "y": 0.78 - 0.56 * (row - 1)},
            )
            figure.add_trace(heat, row=row, col=column)
        figure.update_yaxes(title_text=f"{axes[1]}<br>{_broken(name, 24)}", title_font_size=11, row=row, col=1)
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
    """Accuracy above the baseline over AT layers (paper fig. 6), a line per part: columns x (layer), y (part), mean, low, high, n."""
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
        line = go.Scatter(
            x=place,
            y=100 * rows["mean"],
            error_y=error,
            name=part,
            mode="lines+markers",
            line=look,
            text=[f"n = {n}" for n in rows["n"]],
            customdata=list(rows["x"]),
            marker={"symbol": ["circle", "diamond"][number % 2], "size": 9},
        )
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
    )  # few seeds: an interval may leave the possible range
    figure.update_yaxes(title_text="accuracy above the baseline (points)", range=[-reach, reach])
    return figure.update_layout(title=title, height=380, width=900, **PANELS)
