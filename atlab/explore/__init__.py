"""Explorers: see, hear and turn the knobs of data, networks and studies, in a notebook or through Voila.

Each explorer is a function (`data`, `maps`, `layers`, `ablation`, `cockpit`) that opens widgets, and a dataclass with all
that they show. `figures(state)` computes the same without any widget; `show(state)` opens the explorer there.
"""

from __future__ import annotations

import importlib

from atlab.system.extras import check

check(__name__)

_HOMES = {
    "AblationState": "views.ablation",
    "CockpitState": "views.cockpit",
    "DataState": "views.data",
    "LayersState": "views.layers",
    "MapsState": "views.maps",
    "ablation": "views.ablation",
    "clear": "cache",
    "cockpit": "views.cockpit",
    "data": "views.data",
    "demo_study": "demo",
    "layers": "views.layers",
    "maps": "views.maps",
    "open_data": "studies",
    "serve": "serving",
    "study": "demo",
}

__all__ = sorted([*_HOMES, "figures", "show"])


def figures(state) -> dict:
    """The figures of a state by name, computed here and now: {name: go.Figure}; errors are raised."""
    from atlab.explore.widgets.explorer import collect

    shown = collect(_room(state).steps(state)).figures
    return {name: figure for name, figure in shown.items() if figure is not None}


def show(state):
    """The explorer of a state, opened at it."""
    room = _room(state)
    return getattr(room, room.__name__.rpartition(".")[2])(state=state)


def _room(state):
    from atlab.errors import unknown

    name = type(state).__name__
    if not name.endswith("State") or name not in _HOMES:
        raise unknown("explorer state", name, [name for name in _HOMES if name.endswith("State")])
    return importlib.import_module(f"atlab.explore.{_HOMES[name]}")


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f"atlab.explore.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'atlab.explore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
