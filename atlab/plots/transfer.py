"""Figures of transferability: accuracy and its drop over the number of transferred layers, tasks against tasks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from atlab.plots.style import COLOURS, LAYOUT

# As in the paper's figure 2: the own task's networks blue, the other's red (vermilion), the fine-tuned lighter.
STYLES = {
    "base": {"color": COLOURS[6], "symbol": "circle-open"},
    "BnB": {"color": COLOURS[0], "symbol": "circle"},
    "BnB+": {"color": COLOURS[5], "symbol": "circle"},
    "AnB": {"color": COLOURS[1], "symbol": "diamond"},
    "AnB+": {"color": COLOURS[4], "symbol": "diamond"},
    "random": {"color": COLOURS[3], "symbol": "x"},
}
MEANINGS = {
    "base": "base",
    "BnB": "selffer BnB",
    "BnB+": "selffer BnB+, fine-tuned",
    "AnB": "transfer AnB",
    "AnB+": "transfer AnB+, fine-tuned",
    "random": "random layers",
}
HALVES = {"random": "random halves"}
LAYERS = "number n of transferred layers"
SYMBOLS = ["circle", "square", "diamond", "x", "triangle-up", "star", "cross"]


def transfer_by_layer(table: pd.DataFrame, summary: pd.DataFrame, halves: str = "random", title: str = "") -> go.Figure:
    """Figure 2 of Yosinski et al. 2014: every network (above), means with 95 % t intervals over seeds (below).

    `table`: runs; `summary`: `transfer.reading.by_layer` of them; random layers are shown in figure 3.
    """
    table, summary = table[table["halves"] == halves], summary[summary["halves"] == halves]
    names = ["every network", f"mean and 95 % t interval, {int(summary['units'].max())} seeds"]
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.08, subplot_titles=names)
    shown = [name for name in STYLES if name in set(table["treatment"]) and name != "random"]
    for number, name in enumerate(shown):
        runs, part, style = (
            table[table["treatment"] == name],
            summary[summary["treatment"] == name].sort_values("n"),
            STYLES[name],
        )
        shift = 0 if name == "base" else 0.12 * (number - len(shown) / 2)
        points = go.Scatter(
            x=runs["n"] + shift,
            y=100 * runs["test_accuracy"],
            mode="markers",
            name=MEANINGS[name],
            legendgroup=name,
            marker={**style, "size": 7, "opacity": 0.8},
            showlegend=False,
        )
        figure.add_trace(points, row=1, col=1)
        mode = "markers" if name == "base" else "lines+markers"
        line = go.Scatter(
            x=part["n"] + shift,
            y=100 * part["test"],
            error_y=_error(part["test"], part, style["color"]),
            mode=mode,
            name=MEANINGS[name],
            legendgroup=name,
            marker={**style, "size": 9},
            line={"color": style["color"]},
        )
        figure.add_trace(line, row=2, col=1)
        if name == "base":
            figure.add_hline(y=100 * float(part["test"].iloc[0]), line={"color": "grey", "dash": "dot"})
    figure.update_yaxes(title_text="test accuracy (%)")
    figure.update_xaxes(title_text=LAYERS, dtick=1, row=2, col=1)
    return figure.update_layout(title=title, height=720, width=860, **LAYOUT)


def degradation_by_layer(summary: pd.DataFrame, targets: pd.DataFrame, title: str = "") -> go.Figure:
    """Figure 3 of Yosinski et al. 2014: dissimilar tasks, random layers, and both with similar tasks less their base level.

    `summary`: `transfer.reading.by_layer`; `targets`: `transfer.reading.by_target`.
    """
    others = [name for name in summary["halves"].unique() if name != "random"]
    upper = [f"dissimilar halves ({name}), by target" for name in others[:1]] or ["no dissimilar halves"]
    interval = f"means and 95 % t intervals, {int(summary['units'].max())} seeds"
    titles = [*upper, "random, untrained layers", f"accuracy less that of the base ({interval})"]
    figure = make_subplots(2, 2, specs=[[{}, {}], [{"colspan": 2}, None]], subplot_titles=titles, vertical_spacing=0.14)
    for number, half in enumerate(("A", "B")):
        part = targets[targets["halves"].isin(others) & (targets["half"] == half)].sort_values("n")
        colour = COLOURS[(0, 2)[number]]
        trace = go.Scatter(
            x=part["n"],
            y=100 * part["test"],
            error_y=_error(part["test"], part, colour),
            mode="lines+markers",
            name=f"target half {half}",
            marker={"symbol": "hexagon", "size": 9, "color": colour},
        )
        figure.add_trace(trace, row=1, col=1)
    random = summary[(summary["halves"] == "random") & summary["treatment"].isin(["base", "random"])].sort_values("n")
    colour = STYLES["random"]["color"]
    trace = go.Scatter(
        x=random["n"],
        y=100 * random["test"],
        error_y=_error(random["test"], random, colour),
        mode="lines+markers",
        name="random layers",
        legendgroup="random layers",
        marker={"symbol": "x", "size": 9, "color": colour},
    )
    figure.add_trace(trace, row=1, col=2)
    kinds = [
        ("AnB, similar halves", "random", "AnB", COLOURS[1], "diamond"),
        ("random layers", "random", "random", colour, "x"),
    ]
    kinds += [(f"AnB, dissimilar halves ({name})", name, "AnB", COLOURS[4], "hexagon") for name in others]
    both = summary.loc[summary["halves"].isin(others) & (summary["treatment"] == "random"), "halves"].unique()
    kinds += [(f"random layers, dissimilar halves ({name})", name, "random", COLOURS[5], "x") for name in both]
    for name, halves, treatment, colour, symbol in kinds:
        part = summary[(summary["halves"] == halves) & (summary["treatment"] == treatment)].sort_values("n")
        error = _error(part["difference"], part, colour, "d_low", "d_high")
        trace = go.Scatter(
            x=part["n"],
            y=100 * part["difference"],
            error_y=error,
            mode="lines+markers",
            name=name,
            legendgroup=name,
            showlegend=name != "random layers",
            marker={"symbol": symbol, "size": 9, "color": colour},
        )
        figure.add_trace(trace, row=2, col=1)
    figure.add_hline(y=0, line={"color": "grey", "dash": "dot"}, row=2, col=1)
    figure.update_xaxes(title_text=LAYERS, dtick=1, row=2, col=1)
    figure.update_xaxes(dtick=1, row=1)
    figure.update_yaxes(title_text="test accuracy (%)", row=1, col=1)
    figure.update_yaxes(title_text="points", row=2, col=1)
    return figure.update_layout(title=title, height=760, width=960, **LAYOUT)


def drops_by_layer(drops: pd.DataFrame, title: str = "") -> go.Figure:
    """Loss of frozen transfer by cause over n, a panel per division into halves (`transfer.reading.drops`), in points."""
    halves = list(drops["halves"].unique())
    names = [HALVES.get(name, f"dissimilar halves ({name})") for name in halves]
    figure = make_subplots(1, len(halves), subplot_titles=names, shared_yaxes=True, horizontal_spacing=0.04)
    for column, name in enumerate(halves, start=1):
        for cause, colour in (("co-adaptation", COLOURS[0]), ("specificity", COLOURS[1])):
            part = drops[(drops["halves"] == name) & (drops["cause"] == cause)].sort_values("n")
            bar = go.Bar(
                x=part["n"],
                y=100 * part["drop"],
                error_y=_error(part["drop"], part, COLOURS[6]),
                marker_color=colour,
                name=cause,
                legendgroup=cause,
                showlegend=column == 1,
            )
            figure.add_trace(bar, row=1, col=column)
    figure.update_xaxes(title_text=LAYERS, dtick=1)
    figure.update_yaxes(title_text=f"points lost (95 % t interval, {int(drops['units'].max())} seeds)", row=1, col=1)
    return figure.update_layout(title=title, height=440, width=max(680, 480 * len(halves)), barmode="group", **LAYOUT)


def transfer_matrix(pairs: pd.DataFrame, title: str = "") -> go.Figure:
    """What frozen layers of a base task give a target, less training from scratch, in points: a panel per number of layers.

    `pairs`: rows of target, base, n, difference, low, high (`transfer.relatedness.matrix`). Rows are targets, columns base
    tasks; the matrix is not symmetric, and where both are the same it is the target's own base network.
    """
    numbers, targets, bases = (sorted(pairs["n"].unique()), sorted(set(pairs["target"])), sorted(set(pairs["base"])))
    lines = -(-len(numbers) // 2)
    figure = make_subplots(
        lines,
        2,
        subplot_titles=[f"n = {n}" for n in numbers],
        shared_yaxes=True,
        shared_xaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.16 / lines,
    )
    largest = 100 * float(pairs["difference"].abs().max())
    for place, n in enumerate(numbers):
        part = pairs[pairs["n"] == n]
        told = [
            f"{100 * r['difference']:+.0f}<br>[{100 * r['low']:+.0f}, {100 * r['high']:+.0f}]"
            for _, r in part.iterrows()
        ]
        cells, text = (
            part.assign(text=told).pivot(index="target", columns="base", values=v).reindex(index=targets, columns=bases)
            for v in ("difference", "text")
        )
        heat = go.Heatmap(
            z=100 * cells.to_numpy(float),
            x=bases,
            y=targets,
            text=np.asarray(text.fillna("")),
            texttemplate="%{text}",
            colorscale="RdBu",
            zmid=0,
            textfont={"size": 11},
            zmin=-largest,
            zmax=largest,
            showscale=place == 0,
            colorbar={"title": "points"},
        )
        figure.add_trace(heat, row=1 + place // 2, col=1 + place % 2)
    figure.update_xaxes(title_text="base task", row=lines)
    figure.update_yaxes(title_text="target task", col=1)
    return figure.update_layout(
        title=title,
        height=130 + lines * (60 + 50 * len(targets)),
        width=260 + 200 * len(bases),
        **LAYOUT | {"margin": {"l": 80, "r": 20, "t": 80, "b": 60}},
    )


def gain_against_transfer(joined: pd.DataFrame, caption: str = "", title: str = "") -> go.Figure:
    """Anti-transfer's gain at a layer against the transferability of that layer, a point per pair of tasks and layer.

    `joined`: rows of pair, layer, transfer and gain with their intervals (`transfer.relatedness.joined`); fractions.
    """
    figure, layers = go.Figure(), list(dict.fromkeys(joined["layer"]))
    symbols = dict(zip(layers, SYMBOLS * len(layers), strict=False))
    for colour, (name, part) in zip(COLOURS, joined.groupby("pair", sort=False), strict=False):
        errors = {
            f"error_{axis}": _error(part[value], part, colour, f"{value}_low", f"{value}_high")
            for axis, value in (("x", "transfer"), ("y", "gain"))
        }
        figure.add_trace(
            go.Scatter(
                x=100 * part["transfer"],
                y=100 * part["gain"],
                mode="markers",
                text=part["layer"],
                name=name,
                marker={"size": 11, "color": colour, "symbol": [symbols[layer] for layer in part["layer"]]},
                **errors,
            )
        )
    for layer, symbol in symbols.items():
        figure.add_trace(
            go.Scatter(
                x=[None], y=[None], mode="markers", name=layer, marker={"size": 11, "color": "grey", "symbol": symbol}
            )
        )
    figure.add_hline(y=0, line={"color": "grey", "dash": "dot"}).add_vline(x=0, line={"color": "grey", "dash": "dot"})
    figure.update_xaxes(title_text="frozen transfer less training from scratch (points)")
    figure.update_yaxes(title_text="anti-transfer less baseline (points)")
    note = {"text": caption, "xref": "paper", "yref": "paper", "x": 0, "y": 1.06, "showarrow": False}
    return figure.update_layout(title=title, height=520, width=860, annotations=[note], showlegend=True, **LAYOUT)


def _error(means: pd.Series, part: pd.DataFrame, colour: str, low: str = "low", high: str = "high") -> dict:
    above, below = 100 * (part[high] - means), 100 * (means - part[low])
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": colour, "thickness": 1}
