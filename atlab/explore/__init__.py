"""The explorers: one application to see, hear and turn the knobs of data, networks and studies, in a notebook or through Voila.

`open()` opens it at the newest finished study; its pages share the study, data set, network, clip and layer that are looked at. All that
a page shows follows from its state, a dataclass (`MapsState`, `LayersState`, ...): `figures(state)` computes the same without any
widget, `open(state)` opens the page there.
"""

from __future__ import annotations

import importlib

from atlab.system.extras import check

check(__name__)

_HOMES = {
    "clear": "cache",
    "demo_study": "demo",
    "figures": "app",
    "open": "app",
    "open_data": "studies",
    "open_link": "app",
    "page": "app",
    "serve": "serving",
    "warm_up": "app",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f"atlab.explore.{_HOMES[name]}"), name)
    if name.endswith("State"):
        pages = importlib.import_module("atlab.explore.app").PAGES.values()
        for page in pages:
            if page.state.__name__ == name:
                return page.state
    raise AttributeError(f"module 'atlab.explore' has no attribute {name!r}")


def __dir__() -> list[str]:
    pages = importlib.import_module("atlab.explore.app").PAGES.values()
    return sorted([*__all__, *(page.state.__name__ for page in pages)])
