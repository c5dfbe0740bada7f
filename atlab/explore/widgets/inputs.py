"""Input widgets with labels, as every explorer uses them."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as widgets

_LAYOUT = {"width": "265px", "margin": "2px 6px 2px 0"}


_STYLE = {"description_width": "92px"}


def choice(label: str, options: Sequence = (), help: str = "") -> widgets.Dropdown:
    """One of several."""
    return widgets.Dropdown(
        options=tuple(options), value=None, description=label, tooltip=help or label, layout=_LAYOUT, style=_STYLE
    )


def several(label: str, options: Sequence = (), rows: int = 5, width: str = _LAYOUT["width"]) -> widgets.SelectMultiple:
    """Any of several (Ctrl and arrow keys for more than one)."""
    return widgets.SelectMultiple(
        options=tuple(options),
        rows=rows,
        description=label,
        tooltip=f"{label}: Ctrl for more than one",
        layout=_LAYOUT | {"width": width, "flex": "0 0 auto"},
        style=_STYLE,
    )


def text(label: str, options: Sequence[str] = (), help: str = "") -> widgets.Combobox:
    """A text, with proposals; read when Enter is pressed or the field is left."""
    return widgets.Combobox(
        options=tuple(options),
        description=label,
        tooltip=help or label,
        continuous_update=False,
        ensure_option=False,
        layout=_LAYOUT,
        style=_STYLE,
    )


def whole(label: str, low: int, high: int, help: str = "") -> widgets.IntSlider:
    """A whole number."""
    return widgets.IntSlider(
        min=low,
        max=high,
        description=label,
        tooltip=help or label,
        continuous_update=False,
        layout=_LAYOUT,
        style=_STYLE,
    )


def number(label: str, low: float, high: float, step: float, help: str = "") -> widgets.FloatSlider:
    """A number on a scale."""
    return widgets.FloatSlider(
        min=low,
        max=high,
        step=step,
        description=label,
        tooltip=help or label,
        continuous_update=False,
        layout=_LAYOUT,
        style=_STYLE,
    )


def check(label: str, help: str = "") -> widgets.Checkbox:
    """Yes or no."""
    return widgets.Checkbox(description=label, tooltip=help or label, indent=False, layout=_LAYOUT, style=_STYLE)
