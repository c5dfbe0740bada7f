"""What a sweep shows while it runs: a live table in a terminal, a bar in a notebook, now and then a line in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

LOG_EVERY = 30.0  # seconds between two lines of a log
STATES = ("done", "running", "waiting", "held", "failed")  # held: by another process, looked at again later


@contextmanager
def view(study: str, nodes: Sequence[Any], progress: bool) -> Iterator[Callable[[], None]]:
    """Yields a function that shows the nodes' present states."""
    if not progress:
        yield lambda: None
    elif sys.stderr.isatty():
        yield from _table(study, nodes)
    elif "ipykernel" in sys.modules:
        yield from _bar(study, nodes)
    else:
        yield from _lines(study, nodes)


def counts(nodes: Sequence[Any]) -> dict[str, int]:
    """How many nodes are in each state."""
    return {state: sum(n.state == state for n in nodes) for state in STATES}


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
        fresh = _news(nodes)

        def show() -> None:
            for line in fresh():
                live.console.print(line, style="red", markup=False, highlight=False)
            live.update(table())

        yield show
        live.update(table())


def _bar(study: str, nodes: Sequence[Any]) -> Iterator[Callable[[], None]]:
    from tqdm.auto import tqdm

    found, fresh = counts(nodes), _news(nodes)
    with tqdm(total=len(nodes), initial=found["done"], desc=study, unit="run") as bar:

        def show() -> None:
            found = counts(nodes)
            for line in fresh():
                bar.write(line, file=sys.stderr)
            bar.set_postfix({k: found[k] for k in ("running", "failed")}, refresh=False)
            bar.update(found["done"] + found["failed"] - bar.n)

        yield show


def _lines(study: str, nodes: Sequence[Any]) -> Iterator[Callable[[], None]]:
    start = time.monotonic()
    said = start - LOG_EVERY

    def line() -> str:
        found, remaining = counts(nodes), left(nodes)
        states = ", ".join(f"{n} {state}" for state, n in found.items())
        until = "" if not remaining else f", about {duration(remaining)} left"
        return f"{study}: {states}; {duration(time.monotonic() - start)} passed{until}"

    fresh = _news(nodes)

    def show() -> None:
        nonlocal said
        for news in fresh():
            print(news, file=sys.stderr)
        if time.monotonic() - said >= LOG_EVERY:
            said = time.monotonic()
            print(line(), file=sys.stderr, flush=True)

    yield show
    print(line(), file=sys.stderr, flush=True)


def _news(nodes: Sequence[Any]) -> Callable[[], list[str]]:
    """A function that returns a line for every node that failed or is held by another process, once."""
    told: set[tuple[int, str]] = set()

    def fresh() -> list[str]:
        new = [node for node in nodes if node.state in ("failed", "held") and (id(node), node.state) not in told]
        told.update((id(node), node.state) for node in new)
        return [" ".join([f"{node.state}:", f"{node.name}:", *node.said.splitlines()[:1]]) for node in new]

    return fresh


def left(nodes: Sequence[Any]) -> float | None:
    """Seconds until all is done, from how long jobs took and how many run at once; None before one has ended.

    >>> from types import SimpleNamespace as N
    >>> ended = [N(state="done", seconds=8.0), N(state="done", seconds=12.0)]
    >>> left([*ended, *(2 * [N(state="running", seconds=0.0)]), *(4 * [N(state="waiting", seconds=0.0)])])
    30.0
    """
    took = [node.seconds for node in nodes if node.seconds]
    if not took:
        return None
    found = counts(nodes)
    return sum(took) / len(took) * (found["running"] + found["waiting"] + found["held"]) / max(1, found["running"])


def duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> duration(3725)
    '1:02:05'
    """
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
