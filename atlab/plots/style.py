"""What all figures share: colours, layout, names of strategies."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from atlab.stats import mean_interval

# Okabe and Ito's colours, safe for colour-blind readers.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
LAYOUT = {
    "template": "plotly_white",
    "font": {"size": 13},
    "margin": {"l": 60, "r": 20, "t": 50, "b": 50},
    "modebar": {
        "remove": ["sendChartToCloud"]
    },  # the button that uploads a figure; no page or notebook can bring it back
}


def cycle() -> list[str]:
    """Colours for more lines than there are colours."""
    return COLOURS * 4


def mean_point(values: Sequence[float], x: float, name: str, colour: str, ends: tuple[float, float]) -> go.Scatter:
    """Mean and 95 % t interval of values at `x`, as a diamond with bars that stop at `ends`, what is possible."""
    mean, low, high, _ = mean_interval(values, ends=ends)
    return go.Scatter(
        x=[x],
        y=[mean],
        error_y={"type": "data", "array": [high - mean], "arrayminus": [mean - low], "color": colour},
        mode="markers",
        name=f"{name}, mean",
        marker={"color": colour, "symbol": "diamond", "size": 11},
    )
