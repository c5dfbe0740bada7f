"""Processes that end with their parent, however it dies; cores and threads."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection

# Read by NumPy, SciPy and PyTorch when they are imported.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def cores() -> int:
    """How many cores this process may use.

    >>> cores() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: the numbers of a run must not depend on the machine's cores or on what else runs there.

    As a decorator too. Two one-thread runs side by side end sooner than one after the other on two.

    >>> import torch
    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def hidden_main() -> Iterator[None]:
    """Hide the main script from processes that are started: they need nothing from it, and without a main guard it would begin again there."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


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
