"""What all figures share: colours, layout, names of strategies."""

from __future__ import annotations

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
