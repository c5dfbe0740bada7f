"""What a sweep shows while it runs: a live table in a terminal, a bar elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def view(study: str, nodes: Sequence[Any], progress: bool) -> Iterator[Callable[[], None]]:
    """Yields a function that shows the nodes' present states."""
    if not progress:
        yield lambda: None
    elif sys.stderr.isatty():
        yield from _table(study, nodes)
    else:
        yield from _bar(study, nodes)


def counts(nodes: Sequence[Any]) -> dict[str, int]:
    """How many nodes are in each state."""
    return {state: sum(n.state == state for n in nodes) for state in ("done", "running", "waiting", "failed")}


def _table(study: str, nodes: Sequence[Any]) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    start = time.monotonic()

    def table() -> Table:
        found, remaining = counts(nodes), left(nodes)
        grid = Table(title=f"sweep {study}", title_justify="left", box=None, pad_edge=False)
        for name in (*found, "passed", "left"):
            grid.add_column(name, justify="right")
        passed = duration(time.monotonic() - start)
        grid.add_row(*map(str, found.values()), passed, "?" if remaining is None else duration(remaining))
        return grid

    with Live(table(), console=Console(stderr=True), refresh_per_second=2) as live:
        fresh = _failures(nodes)

        def show() -> None:
            for line in fresh():
                live.console.print(line, style="red", markup=False, highlight=False)
            live.update(table())

        yield show
        live.update(table())


def _bar(study: str, nodes: Sequence[Any]) -> Iterator[Callable[[], None]]:
    from tqdm.auto import tqdm

    found, fresh = counts(nodes), _failures(nodes)
    with tqdm(total=len(nodes), initial=found["done"], desc=study, unit="run") as bar:

        def show() -> None:
            found = counts(nodes)
            for line in fresh():
                bar.write(line, file=sys.stderr)
            bar.set_postfix({k: found[k] for k in ("running", "failed")}, refresh=False)
            bar.update(found["done"] + found["failed"] - bar.n)

        yield show


def _failures(nodes: Sequence[Any]) -> Callable[[], list[str]]:
    """A function that returns a line for every node that failed since it was called last."""
    told: set[int] = set()

    def fresh() -> list[str]:
        new = [node for node in nodes if node.state == "failed" and id(node) not in told]
        told.update(map(id, new))
        return [" ".join(["failed:", f"{node.name}:", *node.said.splitlines()[:1]]) for node in new]

    return fresh


def left(nodes: Sequence[Any]) -> float | None:
    """Seconds until all is done, from how long those took that ended here and how many run at once; None before one has.

    >>> from types import SimpleNamespace as N
    >>> left([N(state="done", seconds=8.0), N(state="done", seconds=12.0), *(4 * [N(state="waiting", seconds=0.0)])])
    40.0
    """
    took = [node.seconds for node in nodes if node.seconds]
    if not took:
        return None
    mean, now = sum(took) / len(took), time.monotonic()
    running = [max(0.0, mean - (now - node.started)) for node in nodes if node.state == "running"]
    waiting = sum(node.state == "waiting" for node in nodes)
    return (mean * waiting + sum(running)) / max(1, len(running))


def duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> duration(3725)
    '1:02:05'
    """
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
