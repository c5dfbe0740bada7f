"""From runs to arms, comparisons, claims and one report."""

from atlab.system.extras import check

check(__name__)

from atlab.analysis.figures import (
    at_layer,
    beside,
    beside_all,
    beside_cells,
    by_layer,
    by_layers,
    histories,
    improvements,
    loss_left,
    pretraining,
    strategy_groups,
)
from atlab.analysis.grouping import CONDITIONS, PLAIN, arms, conditions, label
from atlab.analysis.paired import best_layer, comparison, findings, percent, records, result

__all__ = [
    "CONDITIONS",
    "PLAIN",
    "arms",
    "at_layer",
    "beside",
    "beside_all",
    "beside_cells",
    "best_layer",
    "by_layer",
    "by_layers",
    "comparison",
    "conditions",
    "findings",
    "histories",
    "improvements",
    "label",
    "loss_left",
    "percent",
    "pretraining",
    "records",
    "result",
    "strategy_groups",
]
