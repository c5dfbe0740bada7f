"""A page: controls that change a state, and figures, sounds, tables and texts computed from it."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import ipywidgets as widgets

from atlab.errors import AtlabError, unknown
from atlab.explore.widgets.background import Ended, Runner, Step, in_kernel
from atlab.explore.widgets.figure import CodeButton, FigureView
from atlab.explore.widgets.inputs import offer, set_value, values
from atlab.explore.widgets.keys import PLAYER, Keys
from atlab.explore.widgets.player import Player
from atlab.explore.widgets.shown import Shown, as_code, sentence
from atlab.explore.widgets.table import RunTable

CALLED = {"clip": ("clip", "picture"), "pair_value": ("other clip", "other one")}  # a control of clips, of pictures
SHOW_AFTER = 0.4  # seconds until a computation shows its progress


@dataclass(frozen=True)
class Page:
    """What an explorer is made of.

    Attributes:
        title: of its tab; state: the dataclass of all that it shows.
        steps: what a state shows, part by part.
        controls: makes its controls, by field of the state; body: arranges controls and places of figures.
        resets: fields that begin anew when another one changes.
    """

    title: str
    state: type
    steps: Callable[[Any], Iterator[Step | Shown]]
    controls: Callable[[], dict[str, widgets.Widget]]
    body: Callable[[Explorer], Sequence[widgets.Widget]]
    resets: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Explorer(widgets.VBox):
    """A page at a state. Set `state`, or change single fields with `change`, and everything follows; `wait` returns when it has.

    Attributes:
        controls: by field of the state; views, texts, tables: by the names that the computation gives them.
        player: plays the sounds, None on a page without any.
        code: the cell that reproduces the figures.
        kind: of the data set that is shown, "audio" or "image".
        awake: whether the page is in view: only then it looks again at what goes on.
        go: called with the title of another page and fields of its state, to open it there.
    """

    def __init__(self, page: Page, state: Any = None, threaded: bool | None = None) -> None:
        self.page, self._state, self.controls = page, state or page.state(), page.controls()
        self.views: dict[str, FigureView] = {}
        self.texts: dict[str, widgets.HTML] = {}
        self.tables: dict[str, RunTable] = {}
        self.player: Player | None = None
        self.notes: list[str] = []
        self.awake = True
        self.go: Callable[..., None] = lambda page, **fields: None
        self.shortcuts = Keys().add_class("atlab-keys")
        self.kind = ""
        self._of_kind: list[Callable[[str], None]] = []
        self._followers: list[Callable[[], None]] = []
        self._current: set[widgets.Widget] = set()  # places that hold what belongs to the state
        self._setting = threading.local()
        self._began = self._again = 0.0
        self._runner = Runner(self._receive, in_kernel() if threaded is None else threaded)
        self._message = widgets.HTML().add_class("atlab-message")
        self._bar = widgets.IntProgress(bar_style="info", layout={"width": "200px"})
        self._doing, stop = widgets.Label(), widgets.Button(description="Cancel", layout={"width": "90px"})
        stop.add_class("atlab-cancel").on_click(lambda _: self._runner.cancel())
        self._progress = widgets.HBox([self._bar, self._doing, stop], layout={"visibility": "hidden"})
        self._copy = CodeButton().add_class("atlab-copy")
        parts = page.body(self)
        head = widgets.Box([self._copy, self.shortcuts, self._progress], layout={"flex_flow": "row wrap"})
        super().__init__([head, self._message, *parts])
        self.add_class("atlab-explorer")
        for name, control in self.controls.items():
            control.add_class(f"atlab-{name.replace('_', '-')}")
            control.observe(lambda change, name=name: self._changed(name, change["new"]), "value")
        for name, label, back, on in (("clip", "clip", "p", "n"), ("layer", "layer", "[", "]")):
            if name in self.controls:
                self.shortcuts.add({on: (f"next {label}", lambda n=name: self.browse(n, 1))})
                self.shortcuts.add({back: (f"previous {label}", lambda n=name: self.browse(n, -1))})
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
        """The sentences shown above the figures, as plain text."""
        return "\n".join(self.notes)

    def change(self, **values: Any) -> None:
        """Change fields of the state; what depends on them (`Page.resets`) begins anew unless it is given too."""
        known = [f.name for f in fields(self._state)]
        for name in values:
            if name not in known:
                raise unknown(f"field of {type(self._state).__name__}", name, known)
        self.state = replace(self._state, **(self._emptied(values) | values))

    def _emptied(self, changed: Iterable[str]) -> dict[str, Any]:
        """Fields that meant something only together with what changes now (a clip of another data set), at their defaults."""
        plain = self.page.state()
        return {name: getattr(plain, name) for field_ in changed for name in self.page.resets.get(field_, ())}

    def browse(self, name: str, by: int) -> None:
        """Choose the next (1) or the previous (-1) of the values that a control offers."""
        offered = values(self.controls[name])
        if offered:
            present = getattr(self._state, name)
            place = offered.index(present) if present in offered else -by
            self.change(**{name: offered[(place + by) % len(offered)]})

    def refresh(self) -> None:
        """Compute what the state shows; what was computed before is taken from memory."""
        self._copy.code = as_code(self._state)
        for follow in self._followers:
            follow()
        self._began, self._again = time.monotonic(), 0.0
        self.notes, self._current = [], set()
        for place in self._places():
            _dim(place, True)
        self._runner.start(self.page.steps(self._state))

    def wait(self, seconds: float = 60.0) -> Explorer:
        """Return when everything is shown; TimeoutError after `seconds`."""
        self._runner.wait(seconds)
        return self

    # --- places that a body puts where it likes ---

    def view(self, name: str) -> FigureView:
        """The place of the figure `name`."""
        self.views[name] = FigureView(layout={"width": "auto"}).add_class(f"atlab-figure-{name}")
        return self.views[name]

    def text(self, name: str) -> widgets.HTML:
        """The place of the text `name`."""
        self.texts[name] = widgets.HTML(layout={"width": "auto"}).add_class(f"atlab-text-{name}")
        return self.texts[name]

    def table(self, name: str, *actions: str) -> RunTable:
        """The place of the table `name`, whose rows offer these actions."""
        self.tables[name] = RunTable(actions=list(actions)).add_class(f"atlab-table-{name}")
        return self.tables[name]

    def sound(self, figure: str, **sounds: tuple[str, int, int]) -> Player:
        """The player of some sounds over a figure: (label, row and column of the panels that show it, column -1 for all)."""
        self.player = Player(
            labels={name: label for name, (label, *_) in sounds.items()},
            places={name: place for name, (_, *place) in sounds.items()},
            figure=figure,
        ).add_class("atlab-player")
        self.shortcuts.add({key: (label, None) for key, label in PLAYER.items()})
        return self.player

    def row(self, *names: str) -> widgets.Box:
        """The controls of these fields side by side, in as many lines as they need."""
        return widgets.Box([self.controls[n] for n in names], layout={"flex_flow": "row wrap"})

    def on_state(self, act: Callable[[], None]) -> None:
        """Call `act` at every change of the state."""
        self._followers.append(act)

    def on_kind(self, act: Callable[[str], None]) -> None:
        """Call `act` with the kind of the data set ("audio" or "image") when it is known or changes."""
        self._of_kind.append(act)

    def _suit(self, kind: str) -> None:
        """Speak of pictures instead of clips, and offer no keys of the player, where the data set holds pictures."""
        self.kind = kind
        picture = kind == "image"
        for name, (clip, instead) in CALLED.items():
            if name in self.controls:
                self.controls[name].description = instead if picture else clip
        self.shortcuts.suit(PLAYER if picture else (), "picture" if picture else "clip")
        for act in self._of_kind:
            act(kind)

    def _places(self) -> list[widgets.Widget]:
        player = [self.player] if self.player else []
        return [*self.views.values(), *self.texts.values(), *self.tables.values(), self._message, *player]

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
            self._end(item)

    def _end(self, ended: Ended) -> None:
        self._progress.layout.visibility = "hidden"
        if ended.error is not None:
            self.notes.append(sentence(ended.error))
        elif ended.cancelled:
            self.notes.append("Cancelled: what is dimmed belongs to an earlier view; any change starts again.")
        if not ended.cancelled:
            self._drop()
        lines = "".join(f"<p>{html.escape(note)}</p>" for note in dict.fromkeys(self.notes))
        role = "status" if ended.error is None else "alert"
        self._message.value = f"<div role='{role}'>{lines}</div>"
        _dim(self._message, False)
        for follow in self._followers:
            follow()
        if self._again and self.threaded:
            timer = threading.Timer(self._again, self._look_again, [self._began])
            timer.daemon = True
            timer.start()

    def _look_again(self, began: float) -> None:
        if self.awake and began == self._began:
            self.refresh()

    def _drop(self) -> None:
        """Take away what does not belong to the state."""
        left = [place for place in self._places() if place not in self._current]
        for place in left:
            _dim(place, False)
            if isinstance(place, FigureView):
                place.layout.display = "none"
            elif isinstance(place, RunTable):
                place.rows = []
            elif isinstance(place, Player):
                place.sounds = {}
            elif place is not self._message:
                place.value = ""

    def _show(self, shown: Shown) -> None:
        empty = {name: value for name, value in shown.resolved.items() if getattr(self._state, name) in ("", (), -1)}
        if empty:
            self._state = replace(self._state, **empty)
            self._copy.code = as_code(self._state)
        if shown.kind not in ("", self.kind):
            self._suit(shown.kind)
        self._setting.quiet = True
        try:
            for name, value in empty.items():
                if name in self.controls:
                    set_value(self.controls[name], value)
            for name, options in shown.choices.items():
                offer(self.controls[name], options, getattr(self._state, name))
        finally:
            self._setting.quiet = False
        for name, figure in shown.figures.items():
            self.views[name].layout.display = None
            self.views[name].show(figure)
            self._belongs(self.views[name])
        for name, text in shown.texts.items():
            self.texts[name].value = text
            self._belongs(self.texts[name])
        for name, rows in shown.tables.items():
            self.tables[name].rows = rows
            self._belongs(self.tables[name])
        if shown.sounds:
            self.player.sounds = shown.sounds
            self._belongs(self.player)
        self.notes += shown.notes
        self._again = shown.again or self._again

    def _belongs(self, place: widgets.Widget) -> None:
        self._current.add(place)
        _dim(place, False)

    def _show_progress(self, step: Step) -> None:
        if time.monotonic() - self._began >= SHOW_AFTER:
            self._bar.max, self._bar.value = max(1, step.total), step.done
            self._doing.value = f"{step.text} ({step.done} of {step.total})"
            self._progress.layout.visibility = "visible"


def _dim(place: widgets.Widget, dim: bool) -> None:
    """Show that a place holds what belongs to another state, or that it does not."""
    if hasattr(place, "stale"):
        place.stale = dim
    else:
        (place.add_class if dim else place.remove_class)("atlab-stale")
