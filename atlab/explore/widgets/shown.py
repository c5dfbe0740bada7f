"""What a computation hands over to be shown, its state as code and as a link, and errors as sentences."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import parse_qs, urlencode

import plotly.graph_objects as go

from atlab.errors import AtlabError, unknown
from atlab.explore.widgets.background import Step

LONGEST = 300  # characters of a sentence that lists what is allowed
PARTS = ("figures", "texts", "sounds", "tables", "choices", "resolved")


@dataclass
class Shown:
    """What a computation has to show so far; later parts add to it or replace it.

    Attributes:
        figures, texts (HTML), sounds (WAV bytes), tables (rows): by the name of their place; what is not named by the end is hidden.
        choices: what a control can be set to, by the name of its field.
        resolved: what an empty field of the state ("", () or -1) stands for; filled in where it is still empty.
        notes: sentences on what is missing or odd.
        kind: of the data set, "audio" or "image": the page speaks of clips or of pictures.
        again: seconds after which to look again, 0 for never: something that is shown goes on.
    """

    figures: dict[str, go.Figure] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    sounds: dict[str, bytes] = field(default_factory=dict)
    tables: dict[str, list[dict]] = field(default_factory=dict)
    choices: dict[str, Sequence] = field(default_factory=dict)
    resolved: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    again: float = 0.0
    kind: str = ""

    def add(self, other: Shown) -> None:
        """Take over the parts of another."""
        for part in PARTS:
            getattr(self, part).update(getattr(other, part))
        self.notes += other.notes
        self.again = other.again or self.again
        self.kind = other.kind or self.kind


def collect(steps: Iterator[Step | Shown]) -> Shown:
    """All that a computation shows, when it is done; its errors are raised."""
    shown = Shown()
    for item in steps:
        if isinstance(item, Shown):
            shown.add(item)
    return shown


def _given(state: Any) -> dict[str, Any]:
    """The fields of a state that differ from their defaults."""
    plain = type(state)()
    return {f.name: value for f in fields(state) if (value := getattr(state, f.name)) != getattr(plain, f.name)}


def as_code(state: Any) -> str:
    """The cell that computes the figures of a state, with the fields that differ from their defaults."""
    lines = [f"    {name}={value!r}," for name, value in _given(state).items()]
    arguments = "\n" + "\n".join(lines) + "\n" if lines else ""
    return (
        f"from atlab import explore\n\nstate = explore.{type(state).__name__}({arguments})\n"
        "figures = explore.figures(state)  # by name; explore.open(state) opens the explorers at this view\n"
        "for figure in figures.values():\n    figure.show()"
    )


def as_query(page: str, state: Any) -> str:
    """The query of a link to a page at a state: texts as they are, everything else as JSON."""
    values = {n: v if isinstance(v, str) else json.dumps(v) for n, v in _given(state).items()}
    return urlencode({"page": page, **values}, safe="/")


def from_query(query: str, states: Mapping[str, type]) -> Any:
    """The state that a link's query names; AtlabError for an unknown page or field, or a value of another type.

    Of the parameters that are no field of the page, only the token is ignored.
    """
    given = {name: values[-1] for name, values in parse_qs(query).items() if name != "token"}
    page = given.pop("page", next(iter(states)))
    if page not in states:
        raise unknown("page", page, states)
    defaults = {f.name: f.default for f in fields(states[page])}
    for name in given:
        if name not in defaults:
            raise unknown(f"field of the page {page!r}", name, defaults)
    return states[page](**{name: _value(name, text, defaults[name]) for name, text in given.items()})


def _value(name: str, text: str, default: Any) -> Any:
    if isinstance(default, str):
        return text
    try:
        value = _tuples(json.loads(text))
    except ValueError:
        value = None
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        raise AtlabError(f"the link gives {text!r} for {name}: expected a value like {json.dumps(default)}")
    return value


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def sentence(error: Exception) -> str:
    """An error as one sentence: atlab's own say what to do, others where to look."""
    first = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, AtlabError):
        return first[:1].upper() + (
            first[1:] if len(first) <= LONGEST else first[1:LONGEST].rpartition(",")[0] + " ..."
        )
    return f"This view failed with {type(error).__name__} ({first}); the cell under “Copy as code” shows where."
