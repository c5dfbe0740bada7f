"""What every benchmark returns: rows that name their rival and the limit they are held against."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Row:
    """A measured quantity: how many times the rival's it is, or seconds where the limit is a time.

    Attributes:
        bench, case: what was measured, and on what.
        rival: what it is divided by; "" for seconds.
        value, low, high: median and quartiles.
        limit: what it could be at best, or may be at most; beyond: whether the median lies beyond it.
        held_against: where the limit comes from: "operations", "bytes", "bare loop", "by hand", "cores" or "wanted".
        more_is_better: whether the limit is a least value.
        repeats: interleaved repetitions.
    """

    bench: str
    case: str
    rival: str
    value: float
    low: float
    high: float
    limit: float
    held_against: str
    repeats: int
    more_is_better: bool = False

    @property
    def beyond(self) -> bool:
        return self.value < self.limit if self.more_is_better else self.value > self.limit

    def as_dict(self) -> dict:
        return asdict(self) | {"beyond": self.beyond}


def ratio_row(bench: str, case: str, rival: str, ratios: np.ndarray, limit: float, held_against: str, **more) -> Row:
    """A row of the median and the quartiles of repeated measurements."""
    low, value, high = (float(q) for q in np.quantile(np.asarray(ratios, dtype=float), [0.25, 0.5, 0.75]))
    return Row(bench, case, rival, value, low, high, float(limit), held_against, len(ratios), **more)


def in_turn(
    tasks: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.process_time
) -> dict[str, np.ndarray]:
    """Seconds of each task [repeats], the tasks in turn, after a first time each that does not count."""
    for task in tasks.values():
        task()
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            start = clock()
            task()
            times[name].append(clock() - start)
    return {name: np.array(seconds) for name, seconds in times.items()}


def line(row: Row) -> str:
    """A row of the table."""
    sign = ">=" if row.more_is_better else "<="
    mark = "beyond" if row.beyond else ""
    unit = " s" if not row.rival else ""
    spread = f"{row.low:.3f}..{row.high:.3f}"
    return f"{row.bench:11} {row.case:42} {row.value:8.3f}{unit:2} {spread:15} {sign} {row.limit:6.3f} ({row.held_against}) {row.rival:24} {mark}".rstrip()


HEADER = f"{'benchmark':11} {'case':42} {'median':>8}   {'quartiles':15} {'limit':27} {'times the rival':24}"
