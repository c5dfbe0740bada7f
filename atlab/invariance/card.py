"""One card of invariance: target accuracy against what is left of the factors that should not matter, and their use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from atlab import stats
from atlab.errors import AtlabError
from atlab.invariance import features, groups, removal, use
from atlab.invariance.probes import presence
from atlab.invariance.similarities import random_weights, similarity
from atlab.stats import accuracy as intervals
from atlab.system import devices
from atlab.system.processes import pool as process_pool

RANDOM = "random weights"
LEACE = "LEACE"
FITTED = 1500  # clips that an eraser is fitted on, at most
COMPARED = 256  # clips on which networks are compared with a teacher, at most
USES = (
    ("changed", "counterfactual", "changed"),
    ("changed", "repetition", "repetition"),
    ("changed", "excess", "excess"),
    ("change", "excess", "excess_nats"),
)
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
)


@dataclass(frozen=True)
class Report:
    """What `report` found.

    table: a row a network, seed, layer and factor, with intervals over clips. classes: factor -> number of classes.
    rows: the clips it was measured on.
    """

    table: pd.DataFrame
    target: str
    classes: Mapping[str, int]
    rows: np.ndarray

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Mean over seeds of every measure by name, layer and factor, with NAME_low and NAME_high: 95 % t intervals.

        One seed has no interval: low and high are nan.
        """
        rows = []
        for (name, layer, factor), part in self.table.groupby(["name", "layer", "factor"], sort=False):
            row = {"name": name, "layer": layer, "factor": factor, "seeds": len(part), "chance": part["chance"].iloc[0]}
            for measure in MEANS:
                if measure in part and part[measure].notna().any():
                    values = part[measure].dropna()
                    row[measure] = values.mean()
                    found = stats.mean_interval(values) if len(values) > 1 else (values.mean(), np.nan, np.nan)
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
        models: name -> networks of it: run folders (`runs.Run` or path), or (seed, network) pairs.
        data: a FactorSet, or what `experiment.load_data` opens.
        factors: those that should not matter. Presence, use and groups are measured for each.
        layers: all convolutions if None.
        target: what the networks tell apart; the task in their model cards if empty.
        rows: clips to measure on, which no network trained on, with factors that vary independently. For run folders the
            test part of their split (all of it, also where a run was tested on fewer clips).
        fit_rows: clips to fit erasers on; others than `rows`, evenly drawn from all pairs of target and factor, if None.
        teachers: factor -> the network of it (run folder or network), for similarity.
        kinds: probes, "linear" and "mlp". pool: how feature maps become vectors, see `features.extract`.
        erase: the name whose networks are also measured with each factor erased at each layer ("LEACE" in the table); ""
            for none.
        floor: also measure networks with random weights, one a seed ("random weights").
        workers: processes that measure networks side by side, one thread each; what they find is the same.

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
    rows = _test_rows(fs, opened) if rows is None else np.asarray(rows)
    dev = devices.choose(None if device == "auto" else device)
    meter = _Meter(
        fs,
        rows,
        factors,
        [target, *factors],
        target,
        layers,
        kinds,
        pool,
        dev,
        {f: _model(t) for f, t in (teachers or {}).items()},
    )
    if floor:
        first = opened.get(erase) or next(iter(opened.values()))
        opened[RANDOM] = [_Network(n.seed, random_weights(n.model, n.seed)) for n in first]
    jobs = [(name, network, name == erase) for name, items in opened.items() for network in items]
    found = [row for part in _measured(meter, jobs, fit_rows, workers, progress) for row in part]
    classes = {factor: len(set(fs.labels(factor, rows))) for factor in factors}
    return Report(pd.DataFrame(found), target, classes, rows)


@dataclass(frozen=True)
class _Network:
    seed: int
    model: nn.Module
    folder: Path | None = None


@dataclass
class _Meter:
    """Everything that is the same for all networks."""

    fs: object
    rows: np.ndarray
    factors: list[str]
    crossed: list[str]
    target: str
    layers: str | Iterable[str] | None
    kinds: Sequence[str]
    pool: str
    device: torch.device
    teachers: Mapping[str, nn.Module]

    def of_job(self, name: str, network: _Network, erase: bool, fit_rows: np.ndarray | None) -> list[dict]:
        """Rows of a network, and of it with each factor erased if asked for."""
        return self.measure(name, network) + (self.measure_erased(network, fit_rows) if erase else [])

    def measure(self, name: str, network: _Network) -> list[dict]:
        """A row a layer and factor."""
        model = network.model.to(self.device)
        found = features.extract(model, self._batches(self.rows), self.layers, self.pool, progress=False)
        return self._rows_of(name, network, found, list(found), self._likeness(model, list(found)))

    def measure_erased(self, network: _Network, fit_rows: np.ndarray | None) -> list[dict]:
        """The same with each factor erased at each layer, there only."""
        model, out = network.model.to(self.device), []
        layers = list(
            features.layers_of(model)
            if self.layers is None
            else [self.layers]
            if isinstance(self.layers, str)
            else self.layers
        )
        for factor in self.factors:
            fit = even_rows(self.fs, [self.target, factor], self.rows, FITTED) if fit_rows is None else fit_rows
            batches = self._batches(fit, self.fs.codes(factor))
            for layer, eraser in removal.erase(model, batches, layers, pool=self.pool, progress=False).items():
                with removal.erased(model, eraser):
                    found = features.extract(model, self._batches(self.rows), [layer], self.pool, progress=False)
                out += replace(self, factors=[factor], layers=[layer])._rows_of(LEACE, network, found, [layer], {})
        return out

    def _rows_of(
        self, name: str, network: _Network, found: features.Features, layers: list[str], likeness: dict
    ) -> list[dict]:
        labels = {factor: self.fs.labels(factor, self.rows) for factor in self.factors}
        sources = self.fs.factors["source"].to_numpy()[self.rows]
        table = presence.presence(found, labels, sources, probes=self.kinds, device=self.device, progress=False)
        codes, logits = (self._codes(network.model, found.logits.shape[1]), torch.from_numpy(found.logits).double())
        predictions = logits.argmax(1).numpy()
        accuracy = intervals.accuracy(predictions == codes, sources)
        once = {"target_accuracy": accuracy.mean, "accuracy_low": accuracy.low, "accuracy_high": accuracy.high}
        used = {factor: self._use(logits.softmax(1).numpy(), predictions, codes, factor) for factor in self.factors}
        linear = table[table["probe"] == self.kinds[0]].drop(columns="probe").to_dict("records")
        rest = table[table["probe"] != self.kinds[0]]
        rows = []
        for row in linear:
            row = {"name": name, "seed": network.seed} | row | once | used[row["factor"]]
            for _, other in rest[(rest["layer"] == row["layer"]) & (rest["factor"] == row["factor"])].iterrows():
                row |= {
                    other["probe"]: other["balanced_accuracy"],
                    f"{other['probe']}_low": other["low"],
                    f"{other['probe']}_high": other["high"],
                }
            rows.append(row | likeness.get((row["layer"], row["factor"]), {}))
        return rows

    def _use(self, probabilities: np.ndarray, predictions: np.ndarray, codes: np.ndarray, factor: str) -> dict:
        labels = self.fs.labels(factor, self.rows)
        odds = groups.equalised_odds(codes, predictions, labels, shuffles=100)
        worst = stats.by_group(predictions == codes, labels).iloc[0]
        found = {
            "worst_group": worst["accuracy"],
            "worst_group_n": int(worst["n"]),
            "equalised_odds": odds.value,
            "equalised_odds_chance": odds.chance,
        }
        if factor == self.target:  # there is no other factor to exchange
            return found
        clips = self.fs.factors.iloc[self.rows].reset_index(drop=True)
        every = [f for f in dict.fromkeys(self.crossed) if f != factor]
        table = None
        # Everything else is kept if these clips allow to tell use from repetition then, otherwise the target alone.
        for keep in dict.fromkeys((tuple(every), (self.target,))):
            try:
                pairs = use.pairs(clips, factor, keep)
            except AtlabError:  # these clips hold no two that differ in the factor only
                continue
            table = use.consistency(probabilities, codes, pairs).set_index(["measure", "kind"])
            if ("changed", "excess") in table.index:
                break
        if table is None:
            return found
        for measure, kind, column in USES:
            if (measure, kind) in table.index:
                row = table.loc[(measure, kind)]
                found |= {column: row["value"], f"{column}_low": row["low"], f"{column}_high": row["high"]}
        return found

    def _likeness(self, model: nn.Module, layers: list[str]) -> dict:
        out = {}
        for factor, teacher in self.teachers.items():
            rows = np.random.default_rng(0).permutation(self.rows)[:COMPARED]
            table = similarity(model, teacher.to(self.device), self._batches(rows, size=32), layers, progress=False)
            same = table[table["layer"] == table["other"]]
            for _, row in same.iterrows():
                out[row["layer"], factor] = {
                    "cka": row["cka"],
                    "cka_low": row["low"],
                    "cka_high": row["high"],
                    **{key: row[key] for key in ("at", "at_low", "at_high")},
                }
        return out

    def _codes(self, model: nn.Module, outputs: int) -> np.ndarray:
        classes = getattr(model, "card", {}).get("classes")
        if classes is None and outputs != len(self.fs.classes(self.target)):
            raise AtlabError(
                f"a network has {outputs} outputs and no model card, {self.target!r} has {len(self.fs.classes(self.target))} classes"
            )
        known = {str(value): value for value in self.fs.classes(self.target)}
        wanted = None if classes is None else [known.get(str(c), c) for c in classes]
        return self.fs.codes(self.target, wanted)[self.rows]

    def _batches(self, rows: np.ndarray, codes: np.ndarray | None = None, size: int = 64):
        from atlab.data import Batches

        codes = np.zeros(len(self.fs), np.int64) if codes is None else codes
        return Batches(self.fs, rows, codes, batch_size=size, device=self.device)


def _measured(
    meter: _Meter, jobs: list[tuple], fit_rows: np.ndarray | None, workers: int, progress: bool
) -> Iterator[list[dict]]:
    """Rows of every job (name, network, is it to be erased as well), in order."""
    with tqdm(total=len(jobs), desc="networks", disable=not progress) as bar:
        if workers == 1:
            for job in jobs:
                yield meter.of_job(*job, fit_rows)
                bar.update()
            return
        if not hasattr(meter.fs, "path"):
            raise AtlabError("processes open the data set by its folder, and this one has none: measure with workers=1")
        given = str(meter.fs.path), replace(meter, fs=None)
        with process_pool(workers, torch.set_num_threads, (1,)) as processes:
            waiting = [processes.submit(_in_process, *given, *job, fit_rows) for job in jobs]
            try:
                for job in waiting:
                    yield job.result()
                    bar.update()
            except BaseException:
                processes.shutdown(cancel_futures=True)
                raise


def _in_process(path: str, meter: _Meter, *job: object) -> list[dict]:
    from atlab.data import FactorSet

    return replace(meter, fs=FactorSet.open(path)).of_job(*job)


def even_rows(fs, factors: Sequence[str], without: np.ndarray, most: int, seed: int = 0) -> np.ndarray:
    """Row numbers of as many clips of every combination of the factors, none of a source in `without`: int64, sorted."""
    sources = fs.factors["source"].to_numpy()
    rows = np.flatnonzero(~np.isin(sources, sources[without]))
    if not len(rows):
        raise AtlabError("no clip is left to fit an eraser on: measure on fewer rows, or give fit_rows")
    cells = fs.factors.iloc[rows].groupby(list(factors), observed=True).ngroup().to_numpy()
    count = max(1, min(int(np.bincount(cells).min()), most // (cells.max() + 1)))
    rng = np.random.default_rng([seed, 13])
    chosen = [rng.permutation(rows[cells == cell])[:count] for cell in range(cells.max() + 1)]
    return np.sort(np.concatenate(chosen))


def open_network(item, position: int = 0) -> _Network:
    """A network with its seed and, of a run, its folder."""
    from atlab import runs

    if isinstance(item, tuple):
        return _Network(int(item[0]), _model(item[1]))
    if isinstance(item, nn.Module):
        return _Network(position, item)
    run = item if isinstance(item, runs.Run) else runs.Run(item)
    return _Network(int(run.parameters.get("seed", position)), _model(run), run.path)


def _model(item) -> nn.Module:
    from atlab import models, runs

    if isinstance(item, nn.Module):
        return item
    run = item if isinstance(item, runs.Run) else runs.Run(item)
    if not run.done:
        raise AtlabError(f"{run.path} is unfinished: there is no network to measure yet")
    return models.load(run.model_path)


def _test_rows(fs, opened: Mapping[str, list[_Network]]) -> np.ndarray:
    """The whole test part of the stored split that all runs share."""
    from atlab.data import Split

    folders = [network.folder for items in opened.values() for network in items]
    if any(folder is None for folder in folders):
        raise AtlabError("networks that are not run folders have no split: give the rows to measure on")
    tests = {tuple(Split.load(folder / "split.json", fs).whole_test.tolist()) for folder in folders}
    if len(tests) > 1:
        raise AtlabError(
            f"the runs have {len(tests)} different test parts: give the rows to measure on, or measure them apart"
        )
    return np.array(tests.pop(), dtype=np.int64)
