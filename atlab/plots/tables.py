"""Figures of comparisons: improvement over the baseline by arm, layer or beta, next to what the paper prints."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from atlab.labels import natural
from atlab.plots.style import COLOURS, LAYOUT, cycle

_CONVOLUTION = r"conv\d+"


def improvement_by_arm(
    compared: pd.DataFrame, printed: Mapping[str, float] | None = None, title: str = ""
) -> go.Figure:
    """Difference to the baseline in points with 95 % intervals over seeds, one row per arm (`analysis.comparison`).

    `printed`: arm -> points that the paper prints, shown as crosses.
    """
    gains = compared.dropna(subset="difference").iloc[::-1]
    figure = go.Figure(
        _points(100 * gains["difference"], gains["arm"], gains, "x", f"here, {gains['n'].iloc[0]} seeds", COLOURS[0])
    )
    if printed:
        printed = {arm: points for arm, points in printed.items() if arm in set(gains["arm"])}
        figure.add_trace(
            go.Scatter(
                x=list(printed.values()),
                y=list(printed),
                mode="markers",
                name="paper",
                marker={"symbol": "x", "size": 10, "color": COLOURS[1]},
            )
        )
    figure.add_vline(x=0, line={"color": "grey", "dash": "dot"})
    figure.update_xaxes(title_text=f"test accuracy above the baseline (points; {_interval_over(gains)})")
    left = max(120, 20 + 7 * max(map(len, gains["arm"])))  # pixels that the longest name takes
    layout = LAYOUT | {"margin": {"l": left, "r": 40, "t": 60, "b": 50}}
    return figure.update_layout(title=title, height=170 + 28 * len(gains), width=left + 640, **layout)


def improvement_by_layer(studies: Mapping[str, pd.DataFrame], title: str = "") -> go.Figure:
    """AT's difference to the baseline over layers (paper fig. 6), one line per name: {name: comparison of AT arms}.

    Arms of several layers ("conv1, conv5") stand to the right of the single layers, as points without a line.
    """
    figure = go.Figure()
    shift = 0.12
    places = _places({layers for compared in studies.values() for layers in compared["layers"]})
    for number, (name, compared) in enumerate(studies.items()):
        colour = COLOURS[number % len(COLOURS)]
        part = compared.assign(x=compared["layers"].map(places) + shift * (number - (len(studies) - 1) / 2))
        single = part["layers"].str.fullmatch(_CONVOLUTION)
        for mode, rows in (("lines+markers", part[single].sort_values("x")), ("markers", part[~single])):
            if len(rows):
                trace = _points(rows["x"], 100 * rows["difference"], rows, "y", name, colour)
                first = mode == "lines+markers" or not single.any()
                figure.add_trace(trace.update(mode=mode, line={"color": colour}, legendgroup=name, showlegend=first))
    figure.add_hline(y=0, line={"color": "grey", "dash": "dot"})
    over = _interval_over(pd.concat(studies.values()))
    texts = [re.sub(f"^{_CONVOLUTION}$", str(x), layers) for layers, x in places.items()]
    ticks = {"tickvals": list(places.values()), "ticktext": texts}
    figure.update_xaxes(title_text=f"convolution at which anti-transfer is applied ({over})", **ticks)
    figure.update_yaxes(title_text="accuracy above the baseline (points)")
    return figure.update_layout(title=title, height=440, width=860, showlegend=True, **LAYOUT)


def _places(names: set[str]) -> dict[str, int]:
    """Where arms stand on the axis: convolution N at N, those of several layers (or of others) after the last one."""
    single = {name: int(name.removeprefix("conv")) for name in names if re.fullmatch(_CONVOLUTION, name)}
    others = sorted(names - single.keys(), key=natural)
    last = max(single.values(), default=0)
    return dict(sorted(single.items(), key=lambda item: item[1])) | {name: last + n for n, name in enumerate(others, 1)}


def improvement_by_beta(compared: pd.DataFrame, title: str = "") -> go.Figure:
    """Difference to the baseline over beta on a logarithmic axis (paper fig. 8), one line per similarity."""
    figure = go.Figure()
    for colour, (name, part) in zip(COLOURS, compared.dropna(subset="difference").groupby("similarity"), strict=False):
        part = part.sort_values("beta")
        trace = _points(part["beta"], 100 * part["difference"], part, "y", name, colour)
        figure.add_trace(trace.update(mode="lines+markers", line={"color": colour}))
    figure.add_hline(y=0, line={"color": "grey", "dash": "dot"})
    betas = sorted(compared.dropna(subset="difference")["beta"].unique())
    ticks = {"tickvals": betas, "ticktext": [f"{beta:g}" for beta in betas]}
    figure.update_xaxes(title_text=f"beta ({_interval_over(compared)})", type="log", **ticks)
    figure.update_yaxes(title_text="test accuracy above the baseline (points)")
    return figure.update_layout(title=title, height=420, width=820, **LAYOUT)


def accuracy_map(compared: pd.DataFrame, rows: str, columns: str, title: str = "") -> go.Figure:
    """Difference to the baseline in points for every pair of two settings (table 6), the interval in each cell."""
    gains = compared.dropna(subset="difference").copy()
    gains["text"] = [
        f"{100 * r['difference']:+.1f}<br>[{100 * r['d_low']:+.1f}, {100 * r['d_high']:+.1f}]"
        for _, r in gains.iterrows()
    ]
    cells, text = (gains.pivot(index=rows, columns=columns, values=value) for value in ("difference", "text"))
    largest = 100 * gains["difference"].abs().max()
    heat = go.Heatmap(
        z=100 * cells.to_numpy(),
        x=list(cells.columns),
        y=list(cells.index),
        text=text.to_numpy(),
        texttemplate="%{text}",
        colorscale="RdBu",
        zmid=0,
        zmin=-largest,
        zmax=largest,
        colorbar={"title": "points"},
    )
    figure = go.Figure(heat).update_xaxes(title_text=f"{columns} ({_interval_over(gains)})", type="category")
    figure.update_yaxes(title_text=rows, type="category")
    return figure.update_layout(
        title=title,
        height=160 + 60 * len(cells),
        width=640,
        **LAYOUT | {"margin": {"l": 120, "r": 20, "t": 60, "b": 60}},
    )


def dynamics(histories: Mapping[str, list[pd.DataFrame]], title: str = "") -> go.Figure:
    """Accuracy and both losses over epochs (paper fig. 7): {arm: histories of its seeds}; mean and extremes.

    Validation is drawn in full with the range of its seeds, training dotted.
    """
    panels = {"accuracy": "accuracy", "cross-entropy": "loss", "anti-transfer loss": "at"}
    figure = make_subplots(1, 3, subplot_titles=list(panels), horizontal_spacing=0.09)
    for colour, (name, runs) in zip(cycle(), histories.items(), strict=False):
        everything = pd.concat(runs)
        for column, measure in enumerate(panels.values(), start=1):
            for part, dash in (("validation", "solid"), ("train", "dot")):
                if f"{part}_{measure}" not in everything:
                    continue
                found = everything.groupby("epoch")[f"{part}_{measure}"].agg(["mean", "min", "max"])
                shown = {"legendgroup": name, "line": {"color": colour, "dash": dash}}
                if part == "validation":
                    figure.add_trace(_band(found, name, colour), row=1, col=column)
                text = name if part == "validation" else f"{name}, training"
                line = go.Scatter(x=found.index, y=found["mean"], name=text, showlegend=column == 1, **shown)
                figure.add_trace(line, row=1, col=column)
    figure.update_xaxes(title_text="epoch").update_yaxes(title_text="accuracy", col=1)
    figure.update_yaxes(title_text="loss (nats)", col=2).update_yaxes(title_text="similarity x beta", col=3)
    return figure.update_layout(title=title, height=420, width=1050, legend={"orientation": "h", "y": -0.2}, **LAYOUT)


def _band(found: pd.DataFrame, name: str, colour: str) -> go.Scatter:
    return go.Scatter(
        x=[*found.index, *found.index[::-1]],
        y=[*found["max"], *found["min"][::-1]],
        fill="toself",
        opacity=0.2,
        line={"width": 0},
        fillcolor=colour,
        showlegend=False,
        hoverinfo="skip",
        name=f"{name}, seeds",
    )


def _interval_over(rows: pd.DataFrame) -> str:
    """What the error bars are: kind of interval and how many seeds it is over."""
    counts = sorted(rows["n"].unique())
    return f"95 % t intervals over {'-'.join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))} seeds"


def _points(x, y, rows: pd.DataFrame, along: str, name: str, colour: str) -> go.Scatter:
    """Points with the interval of each row's difference along one axis."""
    error = {
        "type": "data",
        "symmetric": False,
        "array": 100 * (rows["d_high"] - rows["difference"]),
        "arrayminus": 100 * (rows["difference"] - rows["d_low"]),
        "thickness": 1.2,
    }
    marker = {"size": 9, "color": colour}
    return go.Scatter(x=x, y=y, mode="markers", name=name, marker=marker, **{f"error_{along}": error})
