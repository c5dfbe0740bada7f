"""Figures as pure functions of data: each returns a plain `plotly.graph_objects.Figure`.

Colours are Okabe and Ito's (safe for colour-blind readers) and, for maps, cividis. Axes carry names and units.
"""

from atlab.plots.data import (
    activation_maps, crossing_table, durations, factor_counts, image_grid, spectrogram, spectrogram_grid, spectrograms,
)  # fmt: skip
from atlab.plots.explore import split_parts
from atlab.plots.forms import differences_by_form
from atlab.plots.style import COLOURS, LAYOUT, NAMES
from atlab.plots.training import accuracy_by_strategy, confusion_matrix, learning_curves

__all__ = [
    "COLOURS", "LAYOUT", "NAMES", "accuracy_by_strategy", "activation_maps", "confusion_matrix", "crossing_table", "differences_by_form", "durations",
    "factor_counts", "image_grid", "learning_curves", "spectrogram", "spectrogram_grid", "spectrograms", "split_parts",
]  # fmt: skip
