"""What was computed before, by what it was computed from: a bounded memory shared by threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


class Cache:
    """The `most` latest results by key; the least recently used is dropped first.

    >>> squares = Cache(most=2)
    >>> [squares.get(n, lambda: n * n) for n in (1, 2, 3)], len(squares)
    ([1, 4, 9], 2)
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The result under `key`, made if it is not there; what `make` raises is not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()  # outside the lock: others may read meanwhile
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)
        return made

    def find(self, key: Hashable) -> Any:
        """The result under `key`, or None."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()


FIGURES = Cache(60)  # an explorer does not send a figure again that is the very object it shows
MODELS = Cache(12)
RESULTS = Cache(600)  # maps, features' summaries, tables


def clear() -> None:
    """Forget every figure, model and result of all explorers."""
    for cache in (FIGURES, MODELS, RESULTS):
        cache.clear()
