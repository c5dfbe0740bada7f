"""Figures as pure functions of data: each returns a plain `plotly.graph_objects.Figure`.

Colours are Okabe and Ito's (safe for colour-blind readers) and, for maps, cividis. Axes carry names and units.
"""

from atlab.system.extras import check

check(__name__)

from atlab.labels import NAMES
from atlab.plots.ablation import cell_runs, parallel_runs, sweep_curves, sweep_map
from atlab.plots.audit import gain_of_choosing, similarity_by_layer, true_noise_levels
from atlab.plots.cost import added_memory, step_time
from atlab.plots.data import (
    crossing_table,
    durations,
    factor_counts,
    image_grid,
    spectrogram,
    spectrogram_grid,
    spectrograms,
    split_parts,
)
from atlab.plots.forms import differences_by_form
from atlab.plots.gradual import errors_by_held
from atlab.plots.invariance import invariance_card, presence_by_layer
from atlab.plots.layers import channel_maps, cka_map, effect_by_layer, gram_matrices, layer_similarity
from atlab.plots.maps import Picture, class_maps, map_agreements, map_profiles
from atlab.plots.style import COLOURS, LAYOUT
from atlab.plots.tables import accuracy_map, dynamics, improvement_by_arm, improvement_by_beta, improvement_by_layer
from atlab.plots.training import accuracy_by_strategy, confusion_matrix, learning_curves
from atlab.plots.transfer import (
    degradation_by_layer,
    drops_by_layer,
    gain_against_transfer,
    transfer_by_layer,
    transfer_matrix,
)

__all__ = [
    "COLOURS",
    "LAYOUT",
    "NAMES",
    "Picture",
    "accuracy_by_strategy",
    "accuracy_map",
    "added_memory",
    "cell_runs",
    "channel_maps",
    "cka_map",
    "class_maps",
    "confusion_matrix",
    "crossing_table",
    "degradation_by_layer",
    "differences_by_form",
    "drops_by_layer",
    "durations",
    "dynamics",
    "effect_by_layer",
    "errors_by_held",
    "factor_counts",
    "gain_against_transfer",
    "gain_of_choosing",
    "gram_matrices",
    "image_grid",
    "improvement_by_arm",
    "improvement_by_beta",
    "improvement_by_layer",
    "invariance_card",
    "layer_similarity",
    "learning_curves",
    "map_agreements",
    "map_profiles",
    "parallel_runs",
    "presence_by_layer",
    "similarity_by_layer",
    "spectrogram",
    "spectrogram_grid",
    "spectrograms",
    "split_parts",
    "step_time",
    "sweep_curves",
    "sweep_map",
    "transfer_by_layer",
    "transfer_matrix",
    "true_noise_levels",
]
