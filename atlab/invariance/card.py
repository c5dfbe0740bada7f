"""One card of invariance: target accuracy against what is left of the factors that should not matter, and their use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from atlab import stats
from atlab.errors import AtlabError
from atlab.invariance.measuring import Meter, measured
from atlab.invariance.networks import Network, model_of, open_network, test_rows
from atlab.invariance.probes import presence
from atlab.invariance.similarities import random_weights
from atlab.system import devices

RANDOM = "random weights"
MEANS = (
    "target_accuracy",
    "balanced_accuracy",
    "mlp",
    "bits",
    "changed",
    "excess",
    "excess_nats",
    "worst_group",
    "equalised_odds",
    "cka",
    "at",
    "maps",
)
SHARES = ("target_accuracy", "balanced_accuracy", "mlp", "changed", "worst_group", "equalised_odds", "at")  # 0 to 1


@dataclass(frozen=True)
class Report:
    """What `report` found.

    table: a row per network, seed, layer and factor, with intervals over clips. classes: factor -> number of classes.
    rows: the clips it was measured on.
    """

    table: pd.DataFrame
    target: str
    classes: Mapping[str, int]
    rows: np.ndarray

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Mean over seeds of every measure by name, layer and factor, with NAME_low and NAME_high: 95 % t intervals, within what is possible.

        One seed has no interval: low and high are nan.
        """
        rows = []
        for (name, layer, factor), part in self.table.groupby(["name", "layer", "factor"], sort=False):
            row = {"name": name, "layer": layer, "factor": factor, "seeds": len(part), "chance": part["chance"].iloc[0]}
            for measure in MEANS:
                if measure in part and part[measure].notna().any():
                    values = part[measure].dropna()
                    row[measure] = values.mean()
                    ends = (0, 1) if measure in SHARES else (-np.inf, np.inf)
                    found = stats.mean_interval(values, ends=ends) if len(values) > 1 else (0, np.nan, np.nan)
                    row |= {f"{measure}_low": found[1], f"{measure}_high": found[2]}
            rows.append(row)
        return pd.DataFrame(rows)

    def difference(self, measure: str, name: str, other: str, layer: str, factor: str) -> stats.Interval:
        """Mean of `measure` of one kind of network minus another's, paired by seed."""
        chosen = self.table[(self.table["layer"] == layer) & (self.table["factor"] == factor)]
        values = chosen.pivot(index="seed", columns="name", values=measure)
        if missing := [n for n in (name, other) if n not in values]:
            raise AtlabError(
                f"no network {missing[0]!r} was measured at {layer} for {factor}: there are {list(values)}"
            )
        both = values[[name, other]].dropna()
        return stats.paired_difference(both[name], both[other])

    def figure(self, factor: str | None = None, layer: str | None = None, measure: str = "balanced_accuracy"):
        """Target accuracy against what is left of a factor at a layer (the first of each if None): `plots.invariance_card`."""
        from atlab import plots

        factor, layer = factor or self.table["factor"].iloc[0], layer or self.table["layer"].iloc[0]
        return plots.invariance_card(self.summary, factor, layer, self.target, measure)


def report(
    models: Mapping[str, Sequence],
    data,
    factors: str | Sequence[str],
    layers: str | Sequence[str] | None = None,
    *,
    target: str = "",
    rows: np.ndarray | None = None,
    fit_rows: np.ndarray | None = None,
    teachers: Mapping[str, object] | None = None,
    kinds: Sequence[str] = ("linear",),
    pool: str = "mean_std",
    erase: str = "baseline",
    floor: bool = True,
    workers: int = 1,
    device: str = "auto",
    progress: bool = True,
) -> Report:
    """Measure networks: what they know of each factor at each layer, whether they use it, and what they do on their task.

    Args:
        models: name -> its networks: run folders (`runs.Run` or path), or (seed, network) pairs.
        data: a FactorSet, or what `experiment.load_data` opens.
        factors: those that should not matter. Presence, use and groups are measured for each.
        layers: all convolutions if None.
        target: what the networks tell apart; the task in their model cards if empty.
        rows: clips to measure on, which no network trained on, with factors that vary independently. For run folders the
            test part of their split (all of it, also where a run was tested on fewer clips).
        fit_rows: clips to fit erasers on; if None, clips outside `rows`, evenly drawn from all pairs of target and factor.
        teachers: factor -> the network of it (run folder or network), for similarity.
        kinds: probes, "linear" and "mlp". pool: how feature maps become vectors, see `features.extract`.
        erase: the name whose networks are also measured with each factor erased at each layer ("LEACE" in the table); ""
            for none.
        floor: also measure networks with random weights, one per seed ("random weights").
        workers: processes that measure networks side by side, one thread each; the results are the same.

    Returns a `Report`: `.table`, `.summary`, `.difference(...)`, `.figure(...)`. Columns of the table: name, seed, layer, factor;
        target_accuracy, accuracy_low, accuracy_high; those of `probes.presence` of the linear probe, and of the other one
        mlp, mlp_low, mlp_high; changed, repetition, excess (rates of changed predictions) and excess_nats (`use.consistency`); worst_group,
        equalised_odds with equalised_odds_chance (`groups`); cka and at (`similarity`).

    Raises:
        AtlabError: nothing to measure, runs of different splits, no target, unknown factors or layers.
    """
    from atlab import experiment

    fs = experiment.load_data(data) if isinstance(data, str | Path) else data
    factors = [factors] if isinstance(factors, str) else list(factors)
    opened = {name: [open_network(item, i) for i, item in enumerate(items)] for name, items in models.items()}
    if not any(opened.values()):
        raise AtlabError("no network to measure")
    some = next(network for items in opened.values() for network in items)
    target = target or getattr(some.model, "card", {}).get("task", "")
    if not target:
        raise AtlabError("the networks have no model card that names their task: give target")
    rows = test_rows(fs, opened) if rows is None else np.asarray(rows)
    labels = {factor: fs.labels(factor, rows) for factor in (target, *factors)}
    presence.check({factor: labels[factor] for factor in factors}, fs.factors["source"].to_numpy()[rows])
    dev = devices.choose(None if device == "auto" else device)
    meter = Meter(
        fs,
        rows,
        factors,
        [target, *factors],
        target,
        layers,
        kinds,
        pool,
        dev,
        {f: model_of(t) for f, t in (teachers or {}).items()},
    )
    if floor:
        first = opened.get(erase) or next(iter(opened.values()))
        opened[RANDOM] = [Network(n.seed, random_weights(n.model, n.seed)) for n in first]
    jobs = [(name, network, name == erase) for name, items in opened.items() for network in items]
    found = [row for part in measured(meter, jobs, fit_rows, workers, progress) for row in part]
    classes = {factor: len(set(labels[factor])) for factor in factors}
    return Report(pd.DataFrame(found), target, classes, rows)
