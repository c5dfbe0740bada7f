"""What a study of transfer says of each layer: the layer explorer's pictures of it."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from atlab import plots
from atlab.errors import AtlabError, unknown
from atlab.explore import studies
from atlab.explore.cache import FIGURES
from atlab.system.home import find
from atlab.transfer import reading, relatedness

NOTHING_JOINED = (
    "no pair of tasks and layer has both a transfer run and an anti-transfer run on the same data, split and width"
)


def studies_of_transfer() -> list[str]:
    """The finished studies that say something of transfer."""
    return [name for name in studies.finished() if "treatment" in studies.study_table(name)]


def study(name: str) -> pd.DataFrame:
    """The finished runs of a study of transfer; AtlabError for one of something else."""
    table = studies.study_table(name)
    if not {"treatment", "base", "halves"} <= set(table):
        raise AtlabError(
            f"the runs of {name} have no treatment, so they say nothing of transfer: "
            "`atlab sweep transferability` and `atlab sweep transfer_matrix` make such studies"
        )
    return table


def divisions(table: pd.DataFrame) -> list[str]:
    """The divisions into halves that were run, random ones first; none in a study of pairs of factors."""
    if (table["base"] != "").any():
        return []
    return sorted(table["halves"].unique(), key=lambda halves: (halves != reading.SIMILAR, halves))


def by_halves(name: str, halves: str) -> tuple[go.Figure, go.Figure]:
    """Figure 2 of Yosinski et al. 2014 for one division, and what the drop is made of."""
    table = study(name)
    known = divisions(table)
    if halves not in known:
        raise unknown("division into halves", halves, known)
    stamp = studies.study_stamp(find(name))
    title = f"{find(name).name}, {halves} halves"

    def networks():
        return plots.transfer_by_layer(table, reading.by_layer(table), halves, title)

    def causes():
        drops = reading.drops(table)
        return plots.drops_by_layer(drops[drops["halves"] == halves])

    return FIGURES.get(("transfer", stamp, halves), networks), FIGURES.get(("causes", stamp, halves), causes)


def by_tasks(name: str, anti_transfer: Mapping[str, pd.DataFrame]) -> tuple[go.Figure, go.Figure | None, str]:
    """The matrix of tasks, anti-transfer's gain in a study against it, and why there is no such picture ("" if there is)."""
    pairs = relatedness.matrix(study(name))
    stamp = studies.study_stamp(find(name)), tuple(anti_transfer)
    drawn = FIGURES.get(
        ("matrix", stamp[0]), lambda: plots.transfer_matrix(pairs, "frozen transfer less training from scratch")
    )
    points = relatedness.joined(pairs, anti_transfer)
    if points.empty:
        return drawn, None, NOTHING_JOINED
    key = ("against", stamp, str(points.round(9).to_dict("list")))
    return drawn, FIGURES.get(key, lambda: plots.gain_against_transfer(points, ", ".join(anti_transfer))), ""
