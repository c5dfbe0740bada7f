"""Input widgets with labels, as every page uses them, and how they are set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets

_LOOK = {"layout": {"width": "244px", "margin": "2px 4px 2px 0"}, "style": {"description_width": "84px"}}


def choice(label: str, options: Sequence = (), help: str = "") -> widgets.Dropdown:
    """One of several."""
    return widgets.Dropdown(options=tuple(options), value=None, description=label, tooltip=help or label, **_LOOK)


def several(label: str, options: Sequence = (), rows: int = 4, width: str = "244px") -> widgets.SelectMultiple:
    """Any of several (Ctrl and arrow keys for more than one)."""
    found = widgets.SelectMultiple(
        options=tuple(options), rows=rows, description=label, tooltip=f"{label}: Ctrl for more than one", **_LOOK
    )
    found.layout.width, found.layout.flex = width, "0 0 auto"
    return found


def text(label: str, options: Sequence[str] = (), help: str = "") -> widgets.Combobox:
    """A text, with proposals; read when Enter is pressed or the field is left."""
    return widgets.Combobox(
        options=tuple(options),
        description=label,
        tooltip=help or label,
        continuous_update=False,
        ensure_option=False,
        **_LOOK,
    )


def whole(label: str, low: int, high: int, help: str = "") -> widgets.IntSlider:
    """A whole number."""
    return widgets.IntSlider(
        min=low, max=high, description=label, tooltip=help or label, continuous_update=False, **_LOOK
    )


def count(label: str, help: str = "") -> widgets.BoundedIntText:
    """A whole number without a scale."""
    return widgets.BoundedIntText(min=0, max=10_000_000, description=label, tooltip=help or label, **_LOOK)


def number(label: str, low: float, high: float, step: float, help: str = "") -> widgets.FloatSlider:
    """A number on a scale."""
    return widgets.FloatSlider(
        min=low, max=high, step=step, description=label, tooltip=help or label, continuous_update=False, **_LOOK
    )


def check(label: str, help: str = "") -> widgets.Checkbox:
    """Yes or no."""
    return widgets.Checkbox(description=label, tooltip=help or label, indent=False, **_LOOK)


def button(label: str, name: str, act, help: str = "", width: str = "max-content") -> widgets.Button:
    """A button that calls `act()`; a page finds it by its class `atlab-NAME`."""
    found = widgets.Button(description=label, tooltip=help or label, layout={"width": width})
    found.on_click(lambda _: act())
    return found.add_class(f"atlab-{name}")


def wide(control: widgets.Widget) -> widgets.Widget:
    """The control with room for long values."""
    control.layout.width = "490px"
    return control


def folded(title: str, *parts: widgets.Widget) -> widgets.Accordion:
    """What is needed rarely, behind a line that opens it."""
    return widgets.Accordion([widgets.VBox(parts)], titles=[title], selected_index=None)


def offer(control: widgets.Widget, options: Sequence, value: Any) -> None:
    """Let a control choose among options, and set it to `value`."""
    if tuple(control.options) != tuple(options):
        if isinstance(control, widgets.SelectMultiple):
            control.value = ()
            control.options = tuple(options)
        elif hasattr(control, "index"):
            control.options, control.index = tuple(options), None
        else:
            control.options = tuple(options)
    set_value(control, value)


def set_value(control: widgets.Widget, value: Any) -> None:
    """Show `value` in a control; nothing is chosen if a choice does not offer it."""
    if isinstance(control, widgets.SelectMultiple):
        wanted = values(control)
        control.value = tuple(item for item in value if item in wanted)
    elif isinstance(control, widgets.Combobox):
        control.value = str(value)
    elif isinstance(control, widgets.Dropdown):
        control.value = value if value in values(control) else None
    else:
        control.value = value


def values(control: widgets.Widget) -> list:
    """What a control offers, without the labels."""
    return [option[1] if isinstance(option, tuple) else option for option in control.options]
