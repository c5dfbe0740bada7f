"""Figures as pure functions of data: each returns a plain `plotly.graph_objects.Figure`.

Colours are Okabe and Ito's (safe for colour-blind readers) and, for maps, cividis. Axes carry names and units.
"""

from atlab.plots.audit import gain_of_choosing, similarity_by_layer, true_noise_levels
from atlab.plots.cost import added_memory, step_time
from atlab.plots.data import (
    activation_maps, crossing_table, durations, factor_counts, image_grid, spectrogram, spectrogram_grid, spectrograms,
)  # fmt: skip
from atlab.plots.explore import (
    Picture, cell_runs, channel_maps, cka_map, class_maps, effect_by_layer, gram_matrices, layer_similarity, map_agreements, map_profiles, split_parts,
    sweep_curves, sweep_map,
)  # fmt: skip
from atlab.plots.forms import differences_by_form
from atlab.plots.gradual import errors_by_held
from atlab.plots.invariance import invariance_card, presence_by_layer, similarity_matrix
from atlab.plots.style import COLOURS, LAYOUT, NAMES
from atlab.plots.tables import accuracy_map, dynamics, improvement_by_arm, improvement_by_beta, improvement_by_layer
from atlab.plots.transfer import degradation_by_layer, drops_by_layer, gain_against_transfer, transfer_by_layer, transfer_matrix
from atlab.plots.training import accuracy_by_strategy, confusion_matrix, learning_curves

__all__ = [
    "accuracy_by_strategy", "accuracy_map", "activation_maps", "added_memory", "cell_runs", "channel_maps", "cka_map", "class_maps", "COLOURS",
    "confusion_matrix", "crossing_table", "degradation_by_layer", "differences_by_form", "drops_by_layer", "durations", "dynamics", "effect_by_layer", "errors_by_held", "factor_counts",
    "gain_against_transfer", "gain_of_choosing", "gram_matrices", "image_grid", "improvement_by_arm", "improvement_by_beta", "improvement_by_layer", "invariance_card", "LAYOUT", "layer_similarity",
    "learning_curves", "map_agreements", "map_profiles", "NAMES", "Picture", "presence_by_layer", "similarity_matrix", "similarity_by_layer", "spectrogram",
    "spectrogram_grid", "spectrograms", "split_parts", "step_time", "sweep_curves", "sweep_map", "transfer_by_layer", "transfer_matrix", "true_noise_levels",
]  # fmt: skip
