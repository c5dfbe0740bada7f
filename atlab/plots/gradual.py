"""Figures 1 and 2 of Fayek, Cavedon & Wu 2018: error against the number of held layers."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from atlab.plots.style import COLOURS, LAYOUT

TITLES = {"phone": "phones, from emotions", "emotion": "emotions, from phones"}
ERRORS = {"phone": "phone error rate (%)", "emotion": "unweighted error (%)"}


def errors_by_held(levels: pd.DataFrame) -> go.Figure:
    """Error against the number of held layers, a panel per task, a line per model and base, dotted for the task alone -> Figure.

    `levels` as `atlab.transfer.gradual.reading.by_level` gives it. Depth is a share of all hidden layers, so that models of
    different depths can be compared; bars are 95 % t intervals over repetitions.
    """
    tasks = sorted(set(levels["task"]), key=lambda task: ([*list(TITLES), task]).index(task))
    figure = make_subplots(
        1, len(tasks), subplot_titles=[TITLES.get(task, task) for task in tasks], horizontal_spacing=0.12
    )
    shown: set[str] = set()
    arms = list(dict.fromkeys(zip(levels["model"], levels["base"], strict=True)))
    for column, task in enumerate(tasks, start=1):
        for (model, base), colour in zip(arms, COLOURS, strict=False):
            part = levels[(levels["task"] == task) & (levels["model"] == model) & (levels["base"] == base)]
            if not len(part):
                continue
            share = part["held"] / part["held"].max()
            name = f"model {model.upper()}" if model in ("a", "b") else f"from {model}"
            name += "" if base == "trained" else f", {base} weights"
            figure.add_trace(
                go.Scatter(
                    x=100 * share,
                    y=100 * part["error"],
                    mode="lines+markers",
                    name=name,
                    legendgroup=name,
                    showlegend=name not in shown,
                    line={"color": colour, "dash": "solid" if base == "trained" else "dash"},
                    customdata=part["held"],
                    hovertemplate="%{customdata} layers held: %{y:.1f} %<extra></extra>",
                    error_y={
                        "type": "data",
                        "symmetric": False,
                        "array": 100 * (part["high"] - part["error"]),
                        "arrayminus": 100 * (part["error"] - part["low"]),
                        "thickness": 1.2,
                    },
                ),
                row=1,
                col=column,
            )
            shown.add(name)
            if base == "trained":
                figure.add_hline(
                    y=100 * part["primary"].iloc[0],
                    line={"color": colour, "dash": "dot", "width": 1},
                    row=1,
                    col=column,
                )
        figure.update_yaxes(title_text=ERRORS.get(task, "error (%)"), row=1, col=column)
    figure.update_xaxes(title_text="held layers or blocks (% of hidden ones)")
    n = int(levels["repetitions"].min())
    title = f"Gradual transfer<br><sup>means and 95 % t intervals over {n} repetitions; dotted: the task learned alone</sup>"
    margin = {"l": 60, "r": 20, "t": 100, "b": 50}
    return figure.update_layout(title=title, height=460, width=980, **LAYOUT | {"margin": margin})
