"""The card of one network, for people who have a model and a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from atlab.errors import AtlabError
from atlab.invariance.card import RANDOM, Report, report
from atlab.invariance.networks import class_numbers, model_of

NETWORK = "network"


def measure(
    model: str | Path,
    data: str | Path,
    factors: Sequence[str],
    layers: Sequence[str] | None = None,
    *,
    device: str = "auto",
    progress: bool = True,
) -> Report:
    """Measure one network, and one of its form with random weights: -> `Report` of "network" and "random weights".

    Args:
        model: a run folder, or a model file (.safetensors). A run is measured on the test part of its split; a run on other
            data than it was trained on, and a model file, on all clips of its classes: make sure that it trained on none of them.
        data: a data set's folder or the name of one, as `experiment.load_data` takes it.
        factors: those that should not matter.

    Raises:
        AtlabError: no network there, a network without a model card that names its task, and what `report` raises.
    """
    from atlab import experiment, models, runs

    fs, path = experiment.load_data(data), Path(model)
    if path.is_dir():
        item = runs.Run(path)
        network = model_of(item)
        rows = None if network.card.get("data") == fs.content_hash else _known(fs, network)
    elif path.is_file():
        item = models.load(path)
        rows = _known(fs, item)
    else:
        raise AtlabError(f"no network at {str(model)!r}: give a run folder, or the model.safetensors in one")
    return report({NETWORK: [item]}, fs, list(factors), layers, rows=rows, erase="", device=device, progress=progress)


def _known(fs, model) -> np.ndarray:
    """The clips of the network's classes; all of them if its model card does not say (`report` refuses it with the reason)."""
    card = getattr(model, "card", {})
    if not card.get("task"):
        return np.arange(len(fs))
    return np.flatnonzero(class_numbers(fs, card["task"], card.get("classes")) >= 0)


def lines(found: Report, factor: str) -> str:
    """A factor of a measured network as text: what probes read by layer, and what use is made of it."""
    part = found.table[found.table["factor"] == factor]
    network, floor = (part[part["name"] == name].set_index("layer") for name in (NETWORK, RANDOM))
    some = network.iloc[0]
    table = pd.DataFrame(
        {
            "probe": [
                f"{100 * r.balanced_accuracy:.1f} [{100 * r.low:.1f}, {100 * r.high:.1f}]" for r in network.itertuples()
            ],
            "shuffled": (100 * network["control"]).map("{:.1f}".format),
            "random weights": (100 * floor["balanced_accuracy"]).reindex(network.index).map("{:.1f}".format),
            "bits": network["bits"].map("{:.2f}".format),
        },
        index=network.index,
    )
    head = f"{factor}: {int(some['classes'])} classes, chance {100 * some['chance']:.1f} %, {some['uniform_bits']:.2f} bits; {int(some['n'])} clips"
    text = [head, table.rename_axis(None).to_string(), _use(some, found.target, factor)]
    return "\n".join(text)


def _use(row: pd.Series, target: str, factor: str) -> str:
    accuracy = f"{100 * row['target_accuracy']:.1f} % [{100 * row['accuracy_low']:.1f}, {100 * row['accuracy_high']:.1f}] right on {target}"
    if "changed" not in row or np.isnan(row["changed"]):
        return f"{accuracy}; no pairs of clips that differ in {factor} only"
    beyond = (
        f", {100 * row['excess']:+.1f} points beyond repetitions"
        if "excess" in row and not np.isnan(row["excess"])
        else ""
    )
    return (
        f"{accuracy}; with another {factor} {100 * row['changed']:.1f} % of predictions change{beyond}; "
        f"worst {factor} {100 * row['worst_group']:.1f} %; equalised odds {row['equalised_odds']:.2f} "
        f"(by chance {row['equalised_odds_chance']:.2f})"
    )
