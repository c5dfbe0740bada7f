"""Everything that is measured of one network: presence, use, groups and similarity by layer and factor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from atlab import stats
from atlab.errors import AtlabError
from atlab.invariance import features, groups, removal, use
from atlab.invariance.networks import Network, class_numbers, even_rows
from atlab.invariance.probes import presence
from atlab.invariance.similarities import similarity
from atlab.stats import accuracy as intervals
from atlab.system.processes import pool as process_pool

LEACE = "LEACE"
FITTED = 1500  # clips that an eraser is fitted on, at most
COMPARED = 256  # clips on which networks are compared with a teacher, at most
USES = (
    ("changed", "counterfactual", "changed"),
    ("changed", "repetition", "repetition"),
    ("changed", "excess", "excess"),
    ("change", "excess", "excess_nats"),
)


@dataclass
class Meter:
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

    def of_job(self, name: str, network: Network, erase: bool, fit_rows: np.ndarray | None) -> list[dict]:
        """Rows of a network, and of it with each factor erased if asked for."""
        return self.measure(name, network) + (self.measure_erased(network, fit_rows) if erase else [])

    def measure(self, name: str, network: Network) -> list[dict]:
        """A row per layer and factor."""
        model = network.model.to(self.device)
        found = features.extract(model, self._batches(self.rows), self.layers, self.pool, progress=False)
        return self._rows_of(name, network, found, list(found), self._likeness(model, list(found)))

    def measure_erased(self, network: Network, fit_rows: np.ndarray | None) -> list[dict]:
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
        self, name: str, network: Network, found: features.Features, layers: list[str], likeness: dict
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
        codes = class_numbers(self.fs, self.target, classes)[self.rows]
        if (unknown := self.rows[codes < 0]).size:
            raise AtlabError(
                f"{len(unknown)} of {len(codes)} clips are of a {self.target} that the network does not know, such as "
                f"{self.fs.labels(self.target, unknown)[0]!r}: measure on clips of its classes"
            )
        return codes

    def _batches(self, rows: np.ndarray, codes: np.ndarray | None = None, size: int = 64):
        from atlab.data import Batches

        codes = np.zeros(len(self.fs), np.int64) if codes is None else codes
        return Batches(self.fs, rows, codes, batch_size=size, device=self.device)


def measured(
    meter: Meter, jobs: list[tuple], fit_rows: np.ndarray | None, workers: int, progress: bool
) -> Iterator[list[dict]]:
    """Rows of every job (name, network, whether it is erased as well), in order."""
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


def _in_process(path: str, meter: Meter, *job: object) -> list[dict]:
    from atlab.data import FactorSet

    return replace(meter, fs=FactorSet.open(path)).of_job(*job)
