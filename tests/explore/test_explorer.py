"""What all explorers share: state, controls, background computation, cancelling, sentences instead of tracebacks."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import plotly.graph_objects as go
import pytest

from atlab import AtlabError, explore
from atlab.explore.cache import Cache
from atlab.explore.widgets import explorer as explorer_module
from atlab.explore.widgets import inputs
from atlab.explore.widgets.background import COMPUTING, Ended, Runner, Step
from atlab.explore.widgets.explorer import Explorer, Page
from atlab.explore.widgets.shown import Shown, as_code, as_query, from_query


@dataclass(frozen=True)
class CountState:
    """A state to test with."""

    number: int = 1
    name: str = ""
    chosen: tuple = ()


def steps(s: CountState):
    yield Step(0, 2, "counting")
    if s.number == 13:
        raise AtlabError("13 is no number")
    if s.number == 14:
        raise KeyError("broken")
    yield Shown(choices={"name": ["a", "b"], "chosen": ["x", "y"]}, resolved={"name": "a"})
    yield Shown(
        figures={"bars": go.Figure(go.Bar(y=[s.number] * 2))}, texts={"said": f"<b>{s.number}</b>"}, notes=["counted"]
    )


def counter(threaded=False, state=CountState(), how=steps) -> Explorer:
    def controls():
        return {
            "number": inputs.whole("number", 0, 20),
            "name": inputs.choice("name"),
            "chosen": inputs.several("chosen"),
        }

    def body(e):
        return [e.row("number", "name", "chosen"), e.view("bars"), e.view("more"), e.text("said")]

    return Explorer(Page("Counter", CountState, how, controls, body), state, threaded)


def test_a_control_changes_state_figure_text_and_code():
    explorer = counter()
    assert (explorer.state.name, explorer.controls["name"].value) == ("a", "a")  # the empty field was filled in
    explorer.controls["number"].value = 7
    explorer.controls["chosen"].value = ("y",)
    assert explorer.state == CountState(7, "a", ("y",))
    assert list(explorer.views["bars"].figure.data[0].y) == [7, 7]
    assert explorer.texts["said"].value == "<b>7</b>"
    assert explorer.message == "counted"
    assert "number=7" in explorer.code and "chosen=('y',)" in explorer.code


def test_a_view_is_restored_from_its_state():
    explorer = counter()
    explorer.state = CountState(9, "b", ("x",))
    assert (explorer.controls["number"].value, explorer.controls["name"].value, explorer.controls["chosen"].value) == (
        9,
        "b",
        ("x",),
    )
    assert list(explorer.views["bars"].figure.data[0].y) == [9, 9]
    with pytest.raises(AtlabError, match="shows a CountState, found a DataState"):
        explorer.state = explore.DataState()
    with pytest.raises(AtlabError, match="unknown field of CountState 'numbr'; nearest: 'number'"):
        explorer.change(numbr=1)


def test_the_code_names_what_differs_from_the_defaults():
    code = as_code(explore.DataState(clip="c", snr_db=3.0))
    assert "explore.DataState(\n    clip='c',\n    snr_db=3.0,\n)" in code
    assert as_code(explore.DataState()).splitlines()[2] == "state = explore.DataState()"
    with pytest.raises(AtlabError, match="unknown explorer state 'CountState'"):
        explore.figures(CountState())


def test_errors_are_sentences_and_the_explorer_goes_on():
    explorer = counter()
    explorer.change(number=13)
    assert explorer.message == "13 is no number" and "role='alert'" in explorer._message.value
    assert (
        explorer.views["bars"].layout.display == "none" and explorer.texts["said"].value == ""
    )  # they were of another number
    explorer.change(number=14)
    assert explorer.message.startswith("This view failed with KeyError") and "Traceback" not in explorer.message
    explorer.change(number=2)
    assert explorer.message == "counted" and list(explorer.views["bars"].figure.data[0].y) == [2, 2]


def test_what_belongs_to_another_state_is_dimmed_until_it_is_replaced_or_gone():
    dimmed = []

    def look(s):
        dimmed.append({name: explorer.views[name].stale for name in ("bars", "more")} if s.number > 1 else {})
        figure = go.Figure(go.Bar(y=[s.number]))
        yield Shown(figures={"bars": figure})
        dimmed.append({name: explorer.views[name].stale for name in ("bars", "more")} if s.number > 1 else {})
        if s.number == 3:
            yield Shown(figures={"more": figure})

    explorer = counter(how=look)
    explorer.change(number=3)
    assert dimmed[2:] == [{"bars": True, "more": True}, {"bars": False, "more": True}]
    assert explorer.views["more"].layout.display is None
    explorer.change(number=2)
    assert explorer.views["bars"].layout.display is None and explorer.views["more"].layout.display == "none"


def test_progress_and_sentences_stand_above_controls_and_figures():
    explorer = counter()
    head, message = explorer.children[:2]
    assert explorer._progress in head.children and message is explorer._message


def test_keys_browse_what_a_control_offers():
    clips = explore.page(explore.DataState(), threaded=False)
    assert {"n", "p"} <= set(clips.shortcuts.labels) and "[" not in clips.shortcuts.labels
    explorer = counter()
    explorer.shortcuts.add({"x": ("next name", lambda: explorer.browse("name", 1))})
    explorer.shortcuts.press("x")
    assert explorer.state.name == "b"
    explorer.shortcuts.press("x")
    assert explorer.state.name == "a"


def test_a_link_brings_the_state_back():
    state = CountState(7, "a & b", ("x", "y"))
    query = as_query("count", state)
    assert from_query(f"{query}&token=secret", {"count": CountState}) == state
    assert from_query("", {"count": CountState}) == CountState()
    for bad, said in (
        ("page=cont", "unknown page 'cont'; nearest: 'count'"),
        ("numbr=1", "unknown field of the page 'count' 'numbr'"),
        ("number=one", "gives 'one' for number: expected a value like 1"),
        ("number=true", "gives 'true' for number"),
        ("chosen=3", "gives '3' for chosen"),
    ):
        with pytest.raises(AtlabError, match=said):
            from_query(bad, {"count": CountState})


def test_a_value_that_is_not_offered_leaves_the_control_open():
    explorer = counter(state=CountState(name="zzz", chosen=("x", "gone")))
    assert explorer.controls["name"].value is None
    assert explorer.controls["chosen"].value == ("x",)
    assert explorer.state.name == "zzz"


def test_computations_run_off_the_main_thread_and_the_newest_wins():
    threads = set()

    def slow(s):
        for n in range(4):
            threads.add(threading.current_thread())
            time.sleep(0.02)
            yield Step(n, 4, "waiting")
        yield Shown(figures={"bars": go.Figure(go.Bar(y=[s.number]))})

    explorer = counter(threaded=True, how=slow)
    for number in (3, 4, 5, 6):
        explorer.change(number=number)
    assert list(explorer.wait().views["bars"].figure.data[0].y) == [6]
    assert threading.main_thread() not in threads
    assert not explorer._runner.running


def test_a_computation_shows_its_progress_and_can_be_cancelled(monkeypatch):
    monkeypatch.setattr(explorer_module, "SHOW_AFTER", 0.0)
    counted = []

    def endless(s):
        while True:
            counted.append(1)
            time.sleep(0.01)
            yield Step(len(counted), 1000, "counting on")

    explorer = counter(threaded=True, how=endless)
    time.sleep(0.2)
    assert explorer._progress.layout.visibility == "visible" and "counting on" in explorer._doing.value
    explorer._runner.cancel()
    explorer.wait(5)
    assert explorer.message.startswith("Cancelled") and explorer._progress.layout.visibility == "hidden"
    with pytest.raises(TimeoutError, match="not done"), COMPUTING:
        explorer.refresh()
        explorer.wait(0.05)
    explorer._runner.cancel()
    explorer.wait(5)


def test_the_runner_hands_over_events_in_order_and_closes_what_it_ends():
    seen, closed = [], []

    def failing():
        try:
            yield 1
            raise OSError("disk")
        finally:
            closed.append(True)

    Runner(seen.append, threaded=False).start(failing())
    assert seen[0] == 1 and isinstance(seen[1], Ended) and isinstance(seen[1].error, OSError) and closed == [True]


def test_the_cache_keeps_the_latest_and_no_failure():
    cache = Cache(2)
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: 1 / 0)
    assert "a" not in cache
    for key in ("a", "b", "a", "c"):
        cache.get(key, lambda key=key: key.upper())
    assert "b" not in cache and cache.get("a", lambda: "new") == "A" and len(cache) == 2


def test_the_same_figure_is_not_sent_twice(monkeypatch):
    from atlab.explore.widgets.figure import FigureView

    view, figure = FigureView(), go.Figure(go.Bar(y=[1]), {"title": "bars", "width": 300})
    view.show(figure)
    sent = view._figure
    monkeypatch.setattr(go.Figure, "to_dict", lambda *_: pytest.fail("sent again"))
    view.show(figure)
    assert view._figure is sent and view.label == "bars" and '"width":300' not in sent
    assert figure.layout.width == 300  # the caller's figure is left as it was


def test_plotly_is_handed_over_when_a_page_asks(monkeypatch):
    from atlab.explore.widgets.figure import FigureView

    view, sent = FigureView(), []
    monkeypatch.setattr(FigureView, "send", lambda self, content, buffers=None: sent.append((content, len(buffers[0]))))
    view._answer(view, {"kind": "other"}, [])
    view._answer(view, {"kind": "plotly.js"}, [])
    assert sent[0][0] == {"kind": "plotly.js"} and sent[0][1] > 1_000_000


def test_a_pdf_is_drawn_when_it_is_asked_for_or_it_is_said_what_it_takes(monkeypatch):
    from atlab.explore.widgets.figure import FigureView

    view, sent, asked = FigureView(), [], []
    monkeypatch.setattr(FigureView, "send", lambda self, content, buffers=None: sent.append((content, buffers)))

    def draw(figure, kind, **size):
        asked.append((kind, size))
        if size["width"] == 1:
            raise RuntimeError("no Chrome here")
        return b"%PDF"

    monkeypatch.setattr(go.Figure, "to_image", draw)
    view._answer(view, {"kind": "pdf", "width": 800}, [])  # nothing is shown yet
    view.show(go.Figure(go.Bar(y=[1]), {"height": 300}))
    for width in (800, 1):
        view._answer(view, {"kind": "pdf", "width": width}, [])
        limit = time.monotonic() + 10
        while len(sent) < len(asked) or not asked:
            assert time.monotonic() < limit
            time.sleep(0.01)
    assert asked[0] == ("pdf", {"width": 800, "height": 300})
    assert sent[0] == ({"kind": "pdf", "error": ""}, [b"%PDF"])
    assert "takes Chrome or Chromium" in sent[1][0]["error"] and sent[1][1] is None
