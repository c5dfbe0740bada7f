"""The explorer all explorers are: controls that change a `State`, and figures, sounds and texts computed from it."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import ipywidgets as widgets
import pandas as pd
import plotly.graph_objects as go

from atlab.errors import AtlabError, unknown
from atlab.explore.widgets.background import Ended, Runner, Step
from atlab.explore.widgets.figure import CodeButton, FigureView

SHOW_AFTER = 0.4  # seconds until a computation shows its progress
LONGEST = 300  # characters of a sentence that lists what is allowed


@dataclass
class Shown:
    """What a computation has to show so far; later parts add to it or replace it.

    Attributes:
        figures (None for none), texts (HTML), sounds (WAV bytes, b"" for none): by the name of their place.
        choices: what a control can be set to, by the name of its field.
        resolved: what an empty field of the state stands for; filled in where it is still empty.
        notes: sentences on what is missing or odd.
    """

    figures: dict[str, go.Figure | None] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    sounds: dict[str, bytes] = field(default_factory=dict)
    choices: dict[str, Sequence] = field(default_factory=dict)
    resolved: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, other: Shown) -> None:
        """Take over the parts of another."""
        for part in ("figures", "texts", "sounds", "choices", "resolved"):
            getattr(self, part).update(getattr(other, part))
        self.notes += other.notes


Steps = Callable[[Any], Iterator[Step | Shown]]


def collect(steps: Iterator[Step | Shown]) -> Shown:
    """All that a computation shows, when it is done; its errors are raised."""
    shown = Shown()
    for item in steps:
        if isinstance(item, Shown):
            shown.add(item)
    return shown


def as_code(state: Any) -> str:
    """The cell that computes the figures of a state, with the fields that differ from their defaults."""
    plain = type(state)()
    given = {f.name: getattr(state, f.name) for f in fields(state)}
    lines = [f"    {name}={value!r}," for name, value in given.items() if value != getattr(plain, name)]
    arguments = "\n" + "\n".join(lines) + "\n" if lines else ""
    return (
        f"from atlab import explore\n\nstate = explore.{type(state).__name__}({arguments})\n"
        "figures = explore.figures(state)  # by name; explore.show(state) opens the explorer at this view\n"
        "for figure in figures.values():\n    figure.show()"
    )


class Explorer(widgets.VBox):
    """Controls, figures, texts and sounds of one `State`.

    Set `state`, or change single fields with `change`, and everything follows; `wait` returns when it has.

    Attributes:
        controls: by field of the state; views, texts, sounds: by the names the computation gives them.
        code: the cell that reproduces the figures.
    """

    def __init__(
        self,
        title: str,
        state: Any,
        steps: Steps,
        controls: Mapping[str, widgets.Widget],
        body: Callable[[Explorer], Sequence[widgets.Widget]],
        threaded: bool | None = None,
        resets: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._steps, self._state, self.controls = steps, state, dict(controls)
        self._resets = dict(resets or {})
        self.views: dict[str, FigureView] = {}
        self.texts: dict[str, widgets.HTML] = {}
        self.sounds: dict[str, widgets.Audio] = {}
        self.notes: list[str] = []
        self._followers: list[Callable[[], None]] = []
        self._setting = threading.local()
        self._began = 0.0
        self._runner = Runner(self._receive, in_kernel() if threaded is None else threaded)
        self._message = widgets.HTML().add_class("atlab-message")
        self._bar = widgets.IntProgress(bar_style="info", layout={"width": "260px"})
        self._doing, stop = widgets.Label(), widgets.Button(description="Cancel", layout={"width": "90px"})
        stop.add_class("atlab-cancel").on_click(lambda _: self._runner.cancel())
        self._progress = widgets.HBox([self._bar, self._doing, stop], layout={"visibility": "hidden"})
        self._copy = CodeButton().add_class("atlab-copy")
        parts = body(self)
        heading = widgets.HTML(f"<h2 style='margin:4px 0'>{html.escape(title)}</h2>")
        super().__init__([heading, *parts, self._progress, self._message, self._copy])
        self.add_class("atlab-explorer")
        for name, control in self.controls.items():
            control.add_class(f"atlab-{name.replace('_', '-')}")
            control.observe(lambda change, name=name: self._changed(name, change["new"]), "value")
        self._follow()
        self.refresh()

    @property
    def state(self) -> Any:
        """What is shown, readable and complete: the same state shows the same figures."""
        return self._state

    @state.setter
    def state(self, state: Any) -> None:
        if type(state) is not type(self._state):
            raise AtlabError(f"this explorer shows a {type(self._state).__name__}, found a {type(state).__name__}")
        if state != self._state:
            self._state = state
            self._follow()
            self.refresh()

    @property
    def threaded(self) -> bool:
        """Whether computations run off the main thread."""
        return self._runner.threaded

    @property
    def code(self) -> str:
        return self._copy.code

    @property
    def message(self) -> str:
        """The sentences shown below the figures, as plain text."""
        return "\n".join(self.notes)

    def change(self, **values: Any) -> None:
        """Change fields of the state; what depends on them (`resets`) begins anew unless it is given too."""
        known = [f.name for f in fields(self._state)]
        for name in values:
            if name not in known:
                raise unknown(f"field of {type(self._state).__name__}", name, known)
        self.state = replace(self._state, **(self._emptied(values) | values))

    def _emptied(self, changed: Iterable[str]) -> dict[str, Any]:
        """Fields that meant something only beside what changes now (a clip of another data set), at their defaults."""
        plain = type(self._state)()
        return {name: getattr(plain, name) for field_ in changed for name in self._resets.get(field_, ())}

    def refresh(self) -> None:
        """Compute what the state shows; what was computed before is taken from memory."""
        self._copy.code = as_code(self._state)
        for follow in self._followers:
            follow()
        self._began = time.monotonic()
        self.notes = []
        self._runner.start(self._steps(self._state))

    def wait(self, seconds: float = 60.0) -> Explorer:
        """Return when everything is shown; TimeoutError after `seconds`."""
        self._runner.wait(seconds)
        return self

    # --- places that a body puts where it likes ---

    def view(self, name: str) -> FigureView:
        """The place of the figure `name`."""
        self.views[name] = FigureView(layout={"width": "100%"}).add_class(f"atlab-figure-{name}")
        return self.views[name]

    def text(self, name: str) -> widgets.HTML:
        """The place of the text `name`."""
        self.texts[name] = widgets.HTML(layout={"width": "100%"}).add_class(f"atlab-text-{name}")
        return self.texts[name]

    def sound(self, name: str, label: str) -> widgets.VBox:
        """The place of the sound `name`: a labelled player."""
        player = widgets.Audio(format="wav", autoplay=False, loop=False, controls=True, layout={"width": "260px"})
        self.sounds[name] = player.add_class(f"atlab-sound-{name}")
        told = widgets.Label(label)
        widgets.link((player.layout, "visibility"), (told.layout, "visibility"))
        return widgets.VBox([told, player])

    def row(self, *names: str) -> widgets.Box:
        """The controls of these fields side by side, in as many lines as they need."""
        return widgets.Box([self.controls[n] for n in names], layout={"flex_flow": "row wrap", "width": "100%"})

    def on_state(self, act: Callable[[], None]) -> None:
        """Call `act` at every change of the state: for widgets that are no control of a single field."""
        self._followers.append(act)

    # --- between controls, state and computation ---

    def _changed(self, name: str, value: Any) -> None:
        if not getattr(self._setting, "quiet", False) and value is not None:
            value = tuple(value) if isinstance(value, list) else value
            if value != getattr(self._state, name):
                self.change(**{name: value})

    def _follow(self) -> None:
        """Set the controls as the state says; a choice that is not offered is left open."""
        self._setting.quiet = True
        try:
            for name, control in self.controls.items():
                set_value(control, getattr(self._state, name))
        finally:
            self._setting.quiet = False

    def _receive(self, item: Step | Shown | Ended) -> None:
        if isinstance(item, Step):
            self._show_progress(item)
        elif isinstance(item, Shown):
            self._show(item)
        else:
            self._progress.layout.visibility = "hidden"
            if item.error is not None:
                self.notes.append(sentence(item.error))
            elif item.cancelled:
                self.notes.append("Cancelled: what is shown may be of an earlier view; any change starts again.")
            self._write_notes(alert=item.error is not None)

    def _show(self, shown: Shown) -> None:
        empty = {name: value for name, value in shown.resolved.items() if not getattr(self._state, name)}
        if empty:
            self._state = replace(self._state, **empty)
            self._copy.code = as_code(self._state)
        self._setting.quiet = True
        try:
            for name, value in empty.items():
                set_value(self.controls[name], value)
            for name, options in shown.choices.items():
                offer(self.controls[name], options, getattr(self._state, name))
        finally:
            self._setting.quiet = False
        for name, figure in shown.figures.items():
            self.views[name].layout.display = None if figure is not None else "none"
            if figure is not None:
                self.views[name].show(figure)
        for name, text in shown.texts.items():
            self.texts[name].value = text
        for name, sound in shown.sounds.items():
            if self.sounds[name].value != sound:
                self.sounds[name].value = sound
            self.sounds[name].layout.visibility = "visible" if sound else "hidden"
        self.notes += shown.notes

    def _show_progress(self, step: Step) -> None:
        if time.monotonic() - self._began >= SHOW_AFTER:
            self._bar.max, self._bar.value = max(1, step.total), step.done
            self._doing.value = f"{step.text} ({step.done} of {step.total})"
            self._progress.layout.visibility = "visible"

    def _write_notes(self, alert: bool) -> None:
        lines = "".join(f"<p style='margin:2px 0'>{html.escape(note)}</p>" for note in dict.fromkeys(self.notes))
        border = "border-left:4px solid #D55E00;padding-left:8px" if alert else ""
        self._message.value = f"<div role='{'alert' if alert else 'status'}' style='{border}'>{lines}</div>"


def sentence(error: Exception) -> str:
    """An error as one sentence: atlab's own say what to do, others where to look."""
    first = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, AtlabError):
        return first[:1].upper() + (
            first[1:] if len(first) <= LONGEST else first[1:LONGEST].rpartition(",")[0] + " ..."
        )
    return f"This view failed with {type(error).__name__} ({first}); the cell under “Copy as code” shows where."


def offer(control: widgets.Widget, options: Sequence, value: Any) -> None:
    """Let a control choose among options, or a slider among whole numbers 0..n-1, and set it to `value`."""
    if isinstance(control, widgets.IntSlider):
        control.max = max(control.min, len(options) - 1)
    elif tuple(control.options) != tuple(options):
        if hasattr(control, "index") and not isinstance(control, widgets.SelectMultiple):
            control.options, control.index = tuple(options), None
        else:
            if isinstance(control, widgets.SelectMultiple):
                control.value = ()
            control.options = tuple(options)
    set_value(control, value)


def set_value(control: widgets.Widget, value: Any) -> None:
    """Show `value` in a control; nothing is chosen if a choice does not offer it."""
    if isinstance(control, widgets.SelectMultiple):
        wanted = {_plain(option) for option in control.options}
        control.value = tuple(item for item in value if item in wanted)
    elif isinstance(control, widgets.Combobox):
        control.value = str(value)
    elif isinstance(control, widgets.Dropdown | widgets.ToggleButtons | widgets.Select):
        control.value = value if value in [_plain(option) for option in control.options] else None
    else:
        control.value = value


def _plain(option: Any) -> Any:
    return option[1] if isinstance(option, tuple) else option


def table_html(table: pd.DataFrame, index: bool = True) -> str:
    """A table with room between its columns, that scrolls by itself where it is wider than the page."""
    look = "<style>.atlab-table :is(td, th) {padding: 2px 10px; text-align: right; white-space: nowrap}</style>"
    return f"{look}<div class='atlab-table' style='overflow-x: auto'>{table.to_html(index=index, border=0)}</div>"


def in_kernel() -> bool:
    """Whether this is a Jupyter kernel, where the main thread has messages to answer."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None


# --- controls, alike in all explorers ---
