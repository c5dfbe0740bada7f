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

    start, before = time.monotonic(), counts(nodes)["done"]

    def table() -> Table:
        found, passed = counts(nodes), time.monotonic() - start
        grid = Table(title=f"sweep {study}", title_justify="left", box=None, pad_edge=False)
        for name in (*found, "passed", "left"):
            grid.add_column(name, justify="right")
        finished = found["done"] + found["failed"] - before
        left = passed / finished * (found["running"] + found["waiting"]) if finished else None
        grid.add_row(*map(str, found.values()), duration(passed), "?" if left is None else duration(left))
        return grid

    with Live(table(), console=Console(stderr=True), refresh_per_second=2) as live:
        yield lambda: live.update(table())


def _bar(study: str, nodes: Sequence[Any]) -> Iterator[Callable[[], None]]:
    from tqdm.auto import tqdm

    found = counts(nodes)
    with tqdm(total=len(nodes), initial=found["done"], desc=study, unit="run") as bar:

        def show() -> None:
            found = counts(nodes)
            bar.set_postfix({k: found[k] for k in ("running", "failed")}, refresh=False)
            bar.update(found["done"] + found["failed"] - bar.n)

        yield show


def duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> duration(3725)
    '1:02:05'
    """
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
