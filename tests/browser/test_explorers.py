"""The explorers in a real JupyterLab and through Voila: what a page shows is what is computed by a twin in this process.

The figure on the page has to hold the twin's numbers, and the code to be copied has to be the twin's, after every move.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

import atlab
from atlab import explore
from atlab.explore import app, serving, studies
from atlab.explore.compute import uploads
from tests.browser.pages import PATIENCE, SHOWN, TRACES, agree, clean, hears, move, nothing_uploads, says, tab
from tests.browser.test_lab import NOTEBOOKS
from tests.explore.small_study import write_study

pytestmark = pytest.mark.browser

WIDE = "[...document.querySelectorAll('*')].filter(e => e.offsetParent && e.clientWidth > 600 && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== 'hidden').map(e => e.className)"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A project with a finished study, and nothing else."""
    root = tmp_path_factory.mktemp("project")
    (root / "atlab.toml").touch()
    toy = atlab.data.toy(root / "data/toy", words=3, speakers=4, repetitions=4, samples=4096)
    write_study(root / "runs", toy)
    return root


def turn(page, twin, name: str):
    """Go to a page, there and in the twin: -> the twin's explorer."""
    tab(page, app.PAGES[name].title)
    twin.tabs.selected_index = list(app.PAGES).index(name)
    return twin.explorer


def unfold(page) -> None:
    page.locator(".jupyter-widget-Collapse-header:visible").first.click()


def test_the_pages_in_jupyterlab(lab, page, with_parameters, home):
    address, root = lab
    study = str(home / "runs/small")
    copy = with_parameters(NOTEBOOKS / "explorers/explore.ipynb", root, {"study": study})
    page.goto(f"{address}/lab/tree/explore.ipynb")
    page.wait_for_selector("text=atlab | Idle")
    page.click("text=Run >> nth=0")
    page.click("text=Run All Cells")
    page.wait_for_selector(".atlab-figure-differences .main-svg")
    twin = explore.open(study, threaded=False)
    agree(page, twin.explorer, "differences")
    ablation = turn(page, twin, "ablation")
    agree(page, ablation, "cells", "runs", "curves")
    move(page, ablation, "metric", "train_accuracy", "cells")
    move(page, ablation, "difference", True, "cells")
    move(page, ablation, "kind", "curves", "cells")
    page.locator(".atlab-copy:visible button").first.click()
    assert page.locator(".atlab-copy:visible pre").first.is_visible()
    data = turn(page, twin, "data")
    agree(page, data, "crossing", "counts")
    move(page, data, "filter_by", "word", "counts")
    tab(page, "Split and leaks")
    move(page, data, "split_by", "word")
    says(page, "they must differ")
    assert not page.locator(".atlab-figure-split:visible").count(), "a figure of an earlier state is gone"
    move(page, data, "target", "speaker")
    tab(page, "Clip and noise")
    before = data.state.clip
    page.locator(".atlab-player:visible").click(position={"x": 2, "y": 2})
    page.keyboard.press("n")  # JupyterLab keeps its own keys from the page
    data.browse("clip", 1)
    agree(page, data, "clip")
    assert data.state.clip != before and page.locator(".jp-Cell").count() == 3
    nothing_uploads(page)
    clean(page, copy)


def test_the_whole_loop_through_voila(page, home, monkeypatch, tmp_path):
    """Newest study, the layer where anti-transfer works most, the pair's maps, their sound, and the code of it."""
    monkeypatch.setenv("ATLAB_HOME", str(home))
    page.set_viewport_size({"width": 1440, "height": 900})
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with serving.served("", port) as (process, address):
        page.goto(address)
        page.wait_for_selector(".atlab-table-runs tbody tr")
        twin = explore.open(threaded=False)
        assert "small" in page.locator(".atlab-text-about").inner_text() and page.title() == "atlab explorers"
        assert page.locator(".atlab-table-runs tbody tr").count() == 18
        page.get_by_label("filter the runs").fill("AT conv5 0.5")
        assert page.locator(".atlab-table-runs tbody tr").count() == 3
        layers = turn(page, twin, "layers")
        agree(page, layers, "similarity", "cka")
        tab(page, "Effect in the study")
        page.locator(".atlab-figure-effect .main-svg").first.wait_for()
        best = max(
            (n for n in studies.networks("runs/small").values() if n.strategy == "at" and n.layers == ("conv5",)),
            key=lambda n: n.validation,
        )
        click_point(page, "effect", "conv5")
        layers.views["effect"].clicked = {"x": 1, "y": 0.0, "curve": 0, "customdata": "conv5", "count": 1}
        maps = twin.explorer
        assert (maps.page.title, maps.state.network, maps.state.layer) == ("Grad-CAM", best.label, "conv5")
        page.wait_for_selector(".atlab-figure-maps .main-svg")
        agree(page, maps, "maps", "agreement")
        assert page.evaluate(WIDE) == [], "nothing scrolls sideways"
        hears(page, maps, "selected")
        hears(page, maps, "pair")
        cursors(page, 0.1, panels=1 + len(maps.state.networks))
        unfold(page)
        move(page, maps, "opacity", 0.65)
        for kind, start in (("PNG", b"\x89PNG"), ("SVG", b"<svg"), ("PDF", b"%PDF")):
            with page.expect_download() as download:
                page.locator(f".atlab-figure-maps .modebar-btn[data-title*='{kind}']").click()
            assert Path(download.value.path()).read_bytes().startswith(start)
        space: dict = {}
        exec(page.locator(".atlab-copy:visible pre").first.text_content().rpartition("for figure")[0], space)
        shown = page.evaluate(TRACES, "maps")
        for mine, theirs in zip(shown, space["figures"]["maps"].data, strict=True):
            assert np.allclose(np.array(mine, float), np.asarray(theirs.z, float).ravel(), atol=1e-5)
        page.wait_for_function("address => location.search === address", arg="?" + twin.query.replace("%20", "+"))
        page.goto(page.url)  # the address is a link to the view
        page.wait_for_selector(".atlab-figure-maps .main-svg")
        agree(page, maps, "maps")
        page.locator(".atlab-figure-maps .nsewdrag").first.click()  # the focus is nowhere after that
        assert page.evaluate("document.activeElement === document.body")
        for key in ("]", "["):
            page.keyboard.press(key)
            maps.browse("layer", 1 if key == "]" else -1)
            agree(page, maps, "maps")
        page.keyboard.press("?")
        assert page.locator(".atlab-keys-list:visible").count() == 1
        page.keyboard.press("?")
        soundfile.write(tmp_path / "mine.wav", 0.1 * np.sin(np.arange(4800)), 48_000)
        unfold(page)
        page.locator(".atlab-recorder:visible input").set_input_files(tmp_path / "mine.wav")
        page.wait_for_function(
            f"{SHOWN}.querySelector('.atlab-pair-value select').selectedOptions[0]?.text.startsWith('mine')"
        )
        maps.change(pair_by="own sound", pair_value=uploads.kept()[0])
        agree(page, maps, "maps")
        page.goto(page.url.partition("?")[0] + "?page=layers&study=runs/absent")
        says(page, "There is no study folder")
        assert (
            json.loads(
                page.evaluate(
                    f"JSON.stringify([...{SHOWN}.querySelectorAll('.js-plotly-plot')].filter(e => e.offsetParent).length)"
                )
            )
            == 0
        )
        limit = time.monotonic() + PATIENCE
        kernels = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while len(kernels.read_text().split()) > 2:  # of the page in view, and one that waits; others ended with theirs
            assert time.monotonic() < limit, "a kernel outlives its page"
            time.sleep(0.2)
    assert page.outside == []


def cursors(page, moment: float, panels: int) -> None:
    """Where the sound is at that moment, a line crosses each of the panels that show it."""
    page.evaluate(
        f"t => {{ const audio = {SHOWN}.querySelector('audio'); audio.pause(); audio.currentTime = t; }}", moment
    )
    page.wait_for_function(f"document.querySelectorAll('.atlab-cursor').length === {panels}")
    places = page.evaluate(
        f"""t => {{
          const plot = {SHOWN}.querySelector('.atlab-figure-maps .js-plotly-plot'), lines = [...plot.querySelectorAll('.atlab-cursor')];
          const panels = Object.values(plot._fullLayout._plots).slice(-lines.length);
          return [lines.map(line => parseFloat(line.style.left)), panels.map(p => p.xaxis._offset + p.xaxis.l2p(t))];
        }}""",
        moment,
    )
    assert np.allclose(*map(sorted, places), atol=0.5)


def click_point(page, name: str, which: str) -> None:
    """Click the first marker of a figure whose customdata is `which`."""
    plot = f"{SHOWN}.querySelector('.atlab-figure-{name} .js-plotly-plot')"
    # A tab that has just been opened is drawn anew, as wide as the page: until then the marker is elsewhere.
    page.wait_for_function(f"{plot}._fullLayout.width === {plot}.offsetWidth")
    x, y = page.evaluate(
        f"""which => {{
          const plot = {plot}, trace = plot._fullData[0];
          const n = Array.from(trace.customdata).indexOf(which), box = plot.getBoundingClientRect(), {{xaxis, yaxis}} = plot._fullLayout;
          return [box.x + xaxis._offset + xaxis.d2p(trace.x[n]), box.y + yaxis._offset + yaxis.d2p(trace.y[n])];
        }}""",
        which,
    )
    page.mouse.move(x - 3, y)
    page.mouse.move(x, y)
    page.wait_for_timeout(300)
    page.mouse.click(x, y)
