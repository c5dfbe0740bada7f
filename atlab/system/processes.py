"""Processes that end with their parent, however it dies."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import connection


def pool(workers: int, initializer: Callable | None = None, initargs: tuple = ()) -> ProcessPoolExecutor:
    """A pool of freshly started processes; `initializer` runs once in each.

    >>> with pool(1) as processes:
    ...     processes.submit(len, "abc").result()
    3
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_start, initargs=(initializer, initargs))


def end_with_parent() -> None:
    """Make this process end when the one that started it is gone: a killed parent cannot see to that."""
    parent = multiprocessing.parent_process().sentinel

    def watch() -> None:
        connection.wait([parent])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_with_input(end: Callable[[], object] = lambda: os._exit(1)) -> None:
    """Make this process `end` when its standard input is closed, as a pipe is by a parent that dies."""

    def watch() -> None:
        sys.stdin.read()
        end()

    threading.Thread(target=watch, daemon=True).start()


def _start(initializer: Callable | None, initargs: tuple) -> None:
    end_with_parent()
    if initializer is not None:
        initializer(*initargs)
