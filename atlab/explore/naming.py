"""What networks are called, by what their runs differ in."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from atlab.experiment.acting import ARM, arm_of
from atlab.labels import NAMES, shown

# What a label says of a run besides its strategy, if runs of the study differ in it.
TOLD = {
    "layers": "",
    "orthogonal": "",
    "aggregation": "",
    "similarity": "",
    "beta": "beta ",
    "start": "start ",
    "warm_up": "warm-up ",
    "residual": "residual ",
    "noise": "noise ",
    "clips": "clips ",
    "pairing": "pairing ",
    "held_out": "without ",
    "split_seed": "split ",
    "width": "width ",
    "data": "",
    "target": "",
    "base": "from ",
    "halves": "",
    "half": "half ",
}


def arm_name(parameters: dict, varying: Collection[str] = tuple(TOLD)) -> str:
    """What networks trained with these parameters are called: the strategy, and the `varying` parameters."""
    if parameters.get("role") == "teacher":
        return f"{shown(parameters.get('orthogonal'))} network"
    strategy, treatment = parameters.get("strategy", ""), parameters.get("treatment", "")
    kind = f"{treatment} n = {parameters.get('n', 0)}" if treatment else NAMES.get(strategy, strategy) or "network"
    idle = set(ARM) - set(arm_of(strategy))
    told = [
        f"{prefix}{shown(parameters[name])}"
        for name, prefix in TOLD.items()
        if name in set(varying) - idle and shown(parameters.get(name)) not in ("", None)
    ]
    return " ".join([kind, *told])


def unique(labels: Sequence[str], ids: Sequence[str]) -> list[str]:
    """The labels, with the run's id where two are the same."""
    twice = {label for label in labels if list(labels).count(label) > 1}
    return [f"{label} ({run[:6]})" if label in twice else label for label, run in zip(labels, ids, strict=True)]
