"""Long computations as generators of steps: off the main thread, the newest one only, ended between two steps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

# One step at a time in the whole process: activation maps hang hooks on networks that explorers share.
COMPUTING = threading.RLock()


class Step(NamedTuple):
    """How far a computation is: `done` of `total` steps, and what comes next in words."""

    done: int
    total: int
    text: str = ""


class Ended(NamedTuple):
    """The last event of a computation: None, or the exception that ended it."""

    error: Exception | None = None
    cancelled: bool = False


class Runner:
    """Runs the newest of the computations it is given; `receive` gets everything they yield, then `Ended`.

    A newer computation, or `cancel`, ends the present one before its next step. With `threaded` False, `start` returns
    when the computation is done.

    >>> seen = []
    >>> Runner(seen.append, threaded=False).start(iter(["a", "b"]))
    >>> seen
    ['a', 'b', Ended(error=None, cancelled=False)]
    """

    def __init__(self, receive: Callable[[Any], None], threaded: bool = True) -> None:
        self._receive, self.threaded = receive, threaded
        self._lock = threading.Lock()
        self._next: Iterator | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        thread = self._thread
        return thread is not None and thread.is_alive()

    def start(self, steps: Iterator) -> None:
        """Compute `steps`; one that is under way is ended."""
        if not self.threaded:
            self._stop.clear()
            self._run(steps)
            return
        with self._lock:
            self._next = steps
            self._stop.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="explorer", daemon=True)
                self._thread.start()

    def cancel(self) -> None:
        """End the present computation before its next step."""
        self._stop.set()

    def wait(self, seconds: float = 60.0) -> None:
        """Return when nothing is under way; TimeoutError after `seconds`."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
            if thread.is_alive():
                raise TimeoutError(f"the computation was not done in {seconds} s")

    def _work(self) -> None:
        while True:
            with self._lock:
                steps, self._next = self._next, None
                self._stop.clear()
                if steps is None:
                    self._thread = None
                    return
            self._run(steps)

    def _run(self, steps: Iterator) -> None:
        ended = Ended()
        try:
            while not self._stop.is_set():
                with COMPUTING:
                    item = next(steps)
                if self._next is None:  # what a newer computation replaces is not shown
                    self._receive(item)
            ended = Ended(cancelled=True)
        except StopIteration:
            pass
        except Exception as error:
            ended = Ended(error)
        finally:
            if hasattr(steps, "close"):
                steps.close()
        if self._next is None:
            self._receive(ended)


def in_kernel() -> bool:
    """Whether this is a Jupyter kernel, where the main thread has messages to answer."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None
