"""From runs to arms, comparisons, claims and one report."""

from atlab.system.extras import check

check(__name__)

from atlab.analysis.across import averages
from atlab.analysis.choice import picked
from atlab.analysis.figures import (
    beside,
    beside_all,
    beside_cells,
    by_layer,
    by_layers,
    histories,
    loss_left,
    on_training,
    one_layer,
    pretraining,
)
from atlab.analysis.grouping import CONDITIONS, PLAIN, arms, conditions, label
from atlab.analysis.paired import comparison, findings, percent, records, result

__all__ = [
    "CONDITIONS",
    "PLAIN",
    "arms",
    "averages",
    "beside",
    "beside_all",
    "beside_cells",
    "by_layer",
    "by_layers",
    "comparison",
    "conditions",
    "findings",
    "histories",
    "label",
    "loss_left",
    "on_training",
    "one_layer",
    "percent",
    "picked",
    "pretraining",
    "records",
    "result",
]
