"""Figures of trained networks: learning curves, accuracies, confusions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from atlab.labels import NAMES
from atlab.plots.style import LAYOUT, cycle, mean_point


def learning_curves(histories: Mapping[str, pd.DataFrame], title: str = "") -> go.Figure:
    """Target loss and anti-transfer loss apart, over epochs (paper fig. 7): {name: history} -> Figure.

    Training is solid, validation dashed; the anti-transfer panel appears if any history has it.
    """
    has_at = any("train_at" in h for h in histories.values())
    titles = ["cross-entropy", "anti-transfer loss"][: 1 + has_at]
    figure = make_subplots(1, len(titles), subplot_titles=titles, horizontal_spacing=0.15)
    for colour, (name, history) in zip(cycle(), histories.items(), strict=False):
        for column, what in enumerate(["loss", "at"], start=1):
            for part, dash in (("train", "solid"), ("validation", "dash")):
                key = f"{part}_{what}"
                if key in history:
                    label = f"{name}, {part}"
                    line = go.Scatter(
                        x=history["epoch"],
                        y=history[key],
                        name=label,
                        legendgroup=label,
                        showlegend=column == 1,
                        mode="lines+markers",
                        line={"color": colour, "dash": dash},
                        marker={"size": 5},
                    )
                    figure.add_trace(line, row=1, col=column)
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(title_text="loss (nats)", row=1, col=1)
    if has_at:
        figure.update_yaxes(title_text="similarity x beta", row=1, col=2)
    legend = {"orientation": "h", "y": -0.25}
    return figure.update_layout(title=title, height=420, width=820, legend=legend, **LAYOUT)


def accuracy_by_strategy(
    table: pd.DataFrame, columns: Sequence[str] = ("train_accuracy", "test_accuracy"), title: str = ""
) -> go.Figure:
    """Seeds as points, mean and 95 % t interval as bars: rows of `strategy`, `seed` and accuracies -> Figure."""
    figure = make_subplots(1, len(columns), subplot_titles=[c.replace("_", " ") for c in columns], shared_yaxes=True)
    strategies = list(dict.fromkeys(table["strategy"]))
    names = [NAMES.get(strategy, strategy) for strategy in strategies]
    for column, key in enumerate(columns, start=1):
        for place, (colour, strategy) in enumerate(zip(cycle(), strategies, strict=False)):
            values = table.loc[table["strategy"] == strategy, key].to_numpy()
            points = go.Scatter(
                x=[place - 0.15] * len(values),
                y=values,
                mode="markers",
                name=f"{names[place]}, seeds",
                marker={"color": colour, "opacity": 0.5, "size": 8},
            )
            figure.add_trace(points, row=1, col=column)
            if len(values) > 1:
                figure.add_trace(mean_point(values, place + 0.1, names[place], colour, (0, 1)), row=1, col=column)
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=names, range=[-0.5, len(names) - 0.5]).update_layout(
        showlegend=False
    )
    figure.update_yaxes(range=[0, 1.02], title_text="accuracy", col=1)
    return figure.update_layout(title=title, height=400, width=800, **LAYOUT)


def confusion_matrix(codes: np.ndarray, predictions: np.ndarray, classes: Sequence[str], title: str = "") -> go.Figure:
    """Share of each true class that was given each label: class numbers [N], [N] -> Figure."""
    counts = np.zeros((len(classes), len(classes)))
    np.add.at(counts, (codes, predictions), 1)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    labels = [str(c) for c in classes]
    heat = go.Heatmap(
        z=share,
        x=labels,
        y=labels,
        colorscale="Cividis",
        zmin=0,
        zmax=1,
        colorbar={"title": "share"},
        text=counts.astype(int),
        texttemplate="%{text}",
    )
    figure = go.Figure(heat).update_layout(title=title, height=480, width=560, **LAYOUT)
    return figure.update_xaxes(title_text="predicted").update_yaxes(title_text="true", autorange="reversed")
