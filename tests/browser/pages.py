"""What the browser tests do on an explorer's page, and how they hold it against a twin of the explorer in their own process."""

from __future__ import annotations

import time

import ipywidgets as widgets
import numpy as np

PATIENCE = 60  # seconds until a page has to show what is computed
SHOWN = "[...document.querySelectorAll('.atlab-explorer')].find(e => e.offsetParent)"  # the page in view
TRACES = f"""name => {{
  const place = {SHOWN}?.querySelector(`.atlab-figure-${{name}} .js-plotly-plot`);
  const flat = v => v == null ? [] : Array.from(v).flatMap(row => row?.length === undefined || typeof row === "string" ? [row] : Array.from(row));
  return place?._fullData ? place._fullData.map(t => flat(t.type === "heatmap" ? t.z : t.y)) : null;
}}"""


def numbers(figure) -> list[np.ndarray]:
    """The values of every trace of a figure, flat."""
    return [np.asarray(t.z if t.type == "heatmap" else t.y, dtype=object).ravel() for t in figure.data]


def same(shown, figure) -> bool:
    """Whether the page's traces hold the figure's values."""
    wanted = numbers(figure)
    if shown is None or [len(s) for s in shown] != [len(w) for w in wanted]:
        return False
    for mine, theirs in zip(shown, wanted, strict=True):
        if len(mine) and isinstance(theirs[0], str):
            if list(mine) != list(theirs):
                return False
        elif not np.allclose(np.array(mine, float), np.array(theirs, float), rtol=1e-4, atol=1e-5, equal_nan=True):
            return False
    return True


def agree(page, twin, *names: str) -> None:
    """Wait until the page shows the twin's figures and code."""
    for name in names:
        limit = time.monotonic() + PATIENCE
        while not same(page.evaluate(TRACES, name), twin.views[name].figure):
            assert time.monotonic() < limit, f"figure {name} is not as computed; the page says {message(page)!r}"
            time.sleep(0.05)
    code = page.locator(".atlab-copy:visible pre").first
    limit = time.monotonic() + PATIENCE
    while code.text_content() != twin.code:
        assert time.monotonic() < limit, f"{code.text_content()}\n{twin.code}"
        time.sleep(0.05)


def written(twin, name: str) -> str:
    """All of a figure; "" where there is none."""
    figure = twin.views[name].figure
    return figure.to_json() if figure else ""


def move(page, twin, field: str, value, *names: str) -> None:
    """Move a control on the page as a person would, the twin's too, and compare the figures, which must have changed."""
    before = {name: written(twin, name) for name in names}
    control, place = twin.controls[field], page.locator(f".atlab-{field.replace('_', '-')}:visible").first
    if isinstance(control, widgets.SelectMultiple):
        place.locator("select").select_option(label=list(value))
    elif isinstance(control, widgets.Dropdown):
        values = [option[1] if isinstance(option, tuple) else option for option in control.options]
        place.locator("select").select_option(index=values.index(value))
    elif isinstance(control, widgets.Checkbox):
        place.locator("input").click()
    elif isinstance(control, widgets.IntSlider | widgets.FloatSlider):
        steps = round((value - control.value) / control.step)
        place.locator(".noUi-handle").focus()
        assert place.locator(".noUi-handle").get_attribute("aria-label") == control.description
        for _ in range(abs(steps)):
            page.keyboard.press("ArrowRight" if steps > 0 else "ArrowLeft")
    else:
        place.locator("input").fill(value)
        page.keyboard.press("Enter")
    twin.change(**{field: value})
    page.moved.add(field)
    agree(page, twin, *names)
    for name in names:
        assert written(twin, name) != before[name], f"{field} does not change {name}"


def hears(page, twin, name: str) -> None:
    """Choose a sound of the player, and wait until the page plays the twin's."""
    page.locator(f".atlab-player:visible .atlab-sound-{name}").click()
    played = f"""async () => {{
      const player = {SHOWN}.querySelector('.atlab-player audio');
      return [player.dataset.sound, Array.from(new Uint8Array(await (await fetch(player.src)).arrayBuffer()))];
    }}"""
    limit = time.monotonic() + PATIENCE
    while True:
        chosen, sound = page.evaluate(played)
        if chosen == name and bytes(sound) == twin.player.sounds[name]:
            return
        assert time.monotonic() < limit, f"the page plays another sound than {name}: {chosen}"
        time.sleep(0.1)


def message(page) -> str:
    """The sentences above the figures of the page in view."""
    return page.evaluate(f"{SHOWN}.querySelector('.atlab-message').innerText")


def says(page, words: str) -> None:
    """Wait until the sentences hold these words, in view above the figures."""
    page.wait_for_function(f"words => {SHOWN}?.querySelector('.atlab-message')?.innerText.includes(words)", arg=words)
    assert page.evaluate(f"{SHOWN}.querySelector('.atlab-message').getBoundingClientRect().bottom") < 900


def nothing_uploads(page) -> None:
    """There are buttons over the figures, and none sends a figure to a server."""
    titles = {button.get_attribute("data-title") for button in page.locator(".modebar-btn").all()}
    assert "Download plot as a PNG" in titles
    assert not [
        title for title in titles if any(word in title.lower() for word in ("share", "cloud", "edit in", "upload"))
    ]


def clean(page, copy) -> None:
    """Nothing went wrong or asked for another host, and the saved notebook is small."""
    assert page.outside == []
    assert (
        page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']", has_text="Error").count()
        == 0
    )
    page.locator(".jp-Notebook .jp-InputPrompt").first.click()  # a control that has the focus keeps the keys to itself
    page.keyboard.press("Control+s")
    limit = time.monotonic() + PATIENCE
    while b"widget-view" not in copy.read_bytes():
        assert time.monotonic() < limit, "the notebook was not saved with its explorer"
        time.sleep(0.2)
    assert copy.stat().st_size < 100_000 and b"widget-state" not in copy.read_bytes()


def tab(page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()
