"""Measure invariance: is a factor still in the features, does the prediction use it, what would it be without?

`presence` (probes), `similarity` (CKA, AT similarity), `use` and `groups` (counterfactuals, gaps between groups), `removal`
(LEACE) and `maps` measure one thing each; `report` puts them on one card.
"""

from __future__ import annotations

import importlib

from atlab.system.extras import check

check(__name__)

_HOMES = {
    "Eraser": "removal",
    "Features": "features",
    "Report": "card",
    "erase": "removal",
    "erased": "removal",
    "extract": "features",
    "measure": "single",
    "presence": "probes.presence",
    "random_weights": "similarities",
    "report": "card",
    "similarity": "similarities",
}
_ROOMS = (
    "card",
    "features",
    "groups",
    "maps",
    "planted",
    "probes",
    "reading",
    "removal",
    "repeated",
    "similarities",
    "single",
    "use",
)

__all__ = sorted({*_HOMES, *_ROOMS})


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f"atlab.invariance.{_HOMES[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"atlab.invariance.{name}")
    raise AttributeError(f"module 'atlab.invariance' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
