"""Explorers in a real JupyterLab and through Voila: run all, move controls, and the figures are what is computed beside it.

Each page is compared with a twin of the explorer in this process: the figure on the page has to hold the twin's numbers,
and the code to be copied has to be the twin's, after every move.
"""

from __future__ import annotations

import socket
import time

import ipywidgets as widgets
import numpy as np
import pytest

import atlab
from atlab import explore, runs
from atlab.explore import serving
from tests.browser.test_lab import NOTEBOOKS
from tests.explore.small_study import write_study

pytestmark = pytest.mark.browser
PATIENCE = 240  # seconds until a page has to show what is computed
TRACES = """name => {
  const place = document.querySelector(`.atlab-figure-${name} .js-plotly-plot`);
  const flat = v => v == null ? [] : Array.from(v).flatMap(row => row?.length === undefined || typeof row === "string" ? [row] : Array.from(row));
  return place?._fullData ? place._fullData.map(t => flat(t.type === "heatmap" ? t.z : t.y)) : null;
}"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return atlab.data.toy(
        tmp_path_factory.mktemp("data") / "toy", words=3, speakers=4, repetitions=4, samples=4096
    )


@pytest.fixture(scope="module")
def study(toy, tmp_path_factory):
    return str(write_study(tmp_path_factory.mktemp("runs"), toy))


@pytest.fixture
def opened(lab, page, with_parameters):
    """Open an explorer's notebook with other parameters and run all its cells: -> the saved file."""

    def run(name: str, first: str, **values):
        address, root = lab
        copy = with_parameters(NOTEBOOKS / f"explorers/{name}.ipynb", root, values)
        page.goto(f"{address}/lab/tree/{name}.ipynb")
        page.wait_for_selector("text=atlab | Idle", timeout=300_000)
        page.click("text=Run >> nth=0")
        page.click("text=Run All Cells")
        page.wait_for_selector(first, timeout=300_000)
        return copy

    return run


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
        elif not np.allclose(
            np.array(mine, float), np.array(theirs, float), rtol=1e-4, atol=1e-5, equal_nan=True
        ):
            return False
    return True


def agree(page, twin, *names: str) -> None:
    """Wait until the page shows the twin's figures and code."""
    for name in names:
        limit = time.monotonic() + PATIENCE
        while not same(page.evaluate(TRACES, name), twin.views[name].figure):
            assert time.monotonic() < limit, (
                f"figure {name} is not as computed; the page says {page.locator('.atlab-message').inner_text()!r}"
            )
            time.sleep(0.05)
    code = page.locator(".atlab-copy pre")
    limit = time.monotonic() + PATIENCE
    while code.text_content() != twin.code:
        assert time.monotonic() < limit, f"{code.text_content()}\n{twin.code}"
        time.sleep(0.05)


def move(page, twin, field: str, value, *names: str) -> None:
    """Move a control on the page as a person would, the twin's too, and compare the figures, which must have changed."""
    before = {name: twin.views[name].figure.to_json() for name in names}
    control, place = twin.controls[field], page.locator(f".atlab-{field.replace('_', '-')}").first
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
    agree(page, twin, *names)
    for name in names:
        assert twin.views[name].figure.to_json() != before[name], f"{field} does not change {name}"


def clean(page, copy) -> None:
    """Nothing went wrong on the page or asked for another host, and the saved notebook is small."""
    assert page.outside == []
    assert (
        page.locator(
            ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']", has_text="Error"
        ).count()
        == 0
    )
    page.keyboard.press("Control+s")
    limit = time.monotonic() + 20
    while (
        b"atlab.explore" not in copy.read_bytes()
        and b"widget-view" not in copy.read_bytes()
        and time.monotonic() < limit
    ):
        time.sleep(0.2)
    assert copy.stat().st_size < 100_000 and b"widget-state" not in copy.read_bytes()


def tab(page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def test_the_data_explorer(opened, page, toy, tmp_path, study):
    copy = opened("data", ".atlab-figure-crossing .main-svg", data=str(toy.path))
    twin = explore.data(str(toy.path), threaded=False)
    agree(page, twin, "crossing", "counts")
    move(page, twin, "down", "speaker")
    move(page, twin, "across", "word", "crossing")
    move(page, twin, "filter_by", "word", "counts")
    move(page, twin, "filter_value", "word2", "counts")
    tab(page, "Clip and noise")
    move(page, twin, "clip", "word2-speaker3-1", "clip")
    move(page, twin, "noise", "hum", "clip")
    move(page, twin, "snr_db", 9.0, "clip")
    page.locator(".atlab-next button, button.atlab-next").first.click()
    twin.change(clip="word2-speaker3-2")
    agree(page, twin, "clip")
    heard = page.evaluate(
        "async () => Array.from(new Uint8Array(await (await fetch(document.querySelector('audio.atlab-sound-noisy, .atlab-sound-noisy audio').src)).arrayBuffer()))"
    )
    assert bytes(heard) == twin.sounds["noisy"].value
    tab(page, "Split and leaks")
    agree(page, twin, "split")
    move(page, twin, "pairing", 0.85)
    move(page, twin, "seed", 1)
    move(page, twin, "split", "disjoint", "split")
    move(page, twin, "split_by", "word")
    assert "single class of 'word'" in twin.message
    page.wait_for_function("m => document.querySelector('.atlab-message').innerText == m", arg=twin.message)
    move(page, twin, "target", "speaker")
    move(page, twin, "data", "nowhere")
    page.wait_for_function("document.querySelector('.atlab-message').innerText.includes('No data set at')")
    clean(page, copy)


def test_the_grad_cam_explorer(opened, page, study):
    copy = opened("gradcam", ".atlab-figure-maps .main-svg", study=study)
    twin = explore.maps(study, threaded=False)
    agree(page, twin, "maps", "profiles")
    move(page, twin, "method", "EigenCAM", "maps", "profiles")
    move(page, twin, "layer", "conv5", "maps", "profiles")
    move(page, twin, "clip", "word1-speaker2-1", "maps")
    move(page, twin, "target", "predicted")
    move(page, twin, "pair_by", "speaker", "maps")
    move(page, twin, "pair_value", "speaker3", "maps")
    page.locator(".atlab-score input").click()
    twin.change(score=True)
    agree(page, twin, "agreement")
    move(page, twin, "align", False)  # tones of the toy set begin together
    move(page, twin, "difference", True, "maps")
    move(page, twin, "reference", "WI seed 0", "maps")
    move(page, twin, "opacity", 0.65)
    page.wait_for_function(
        "Math.abs(document.querySelector('.atlab-figure-maps .js-plotly-plot')._fullData[2].opacity - 0.65) < 1e-6"
    )
    clean(page, copy)


def test_the_layer_explorer(opened, page, study):
    copy = opened("layers", ".atlab-figure-cka .main-svg", study=study)
    twin = explore.layers(study, threaded=False)
    agree(page, twin, "similarity", "cka", "effect")
    move(page, twin, "student", "WI seed 1", "similarity", "cka")
    move(page, twin, "teacher", "baseline seed 0", "similarity", "cka")
    move(page, twin, "clips", 25, "similarity", "cka")
    move(page, twin, "seed", 1, "similarity", "cka")
    move(page, twin, "similarity", "cka", "similarity")
    move(page, twin, "aggregation", "mean", "similarity")
    page.locator(".atlab-figure-cka .nsewdrag").first.click(
        position={"x": 5, "y": 5}
    )  # the leftmost column: conv1
    twin.change(layer="conv1")
    tab(page, "One layer")
    agree(page, twin, "grams", "channels")
    move(page, twin, "layer", "conv3", "grams", "channels")
    move(page, twin, "clip", 1, "grams", "channels")
    clean(page, copy)


def test_the_ablation_explorer(opened, page, study):
    copy = opened("ablation", ".atlab-figure-curves .main-svg", study=study)
    twin = explore.ablation(study, threaded=False)
    agree(page, twin, "cells", "runs", "curves")
    page.locator(".atlab-filter-by select").select_option(label="strategy")
    page.locator(".atlab-filter-values select").select_option(label=["at"])
    twin.change(where=(("strategy", ("at",)),))
    agree(page, twin, "cells")
    move(page, twin, "x", "beta", "cells")
    move(page, twin, "metric", "train_accuracy", "cells")
    page.locator(".atlab-figure-cells .nsewdrag").first.click(
        position={"x": 8, "y": 8}
    )  # top left: the last row's first cell
    twin.change(cell_x="0.5", cell_y="conv5")
    agree(page, twin, "cells", "runs", "curves")
    move(page, twin, "cell_x", "1.0", "runs", "curves")
    move(page, twin, "cell_y", "conv1", "runs", "curves")
    move(page, twin, "difference", True, "cells")
    move(page, twin, "kind", "curves", "cells")
    move(page, twin, "y", "seed", "cells")
    page.locator(".atlab-clear").first.click()
    twin.change(where=())
    agree(page, twin, "cells")
    with page.expect_download() as saved:
        page.locator(".atlab-text-export a", has_text="small_cells.csv").click()
    assert saved.value.path().read_text().startswith("beta,seed,mean,low,high,n")
    page.locator(".atlab-copy button").click()
    assert page.locator(".atlab-copy pre").is_visible()
    move(page, twin, "study", "runs/absent")
    page.wait_for_function("document.querySelector('.atlab-message').innerText.includes('no study folder')")
    clean(page, copy)


def test_the_training_cockpit(opened, page, toy, lab):
    _, root = lab
    copy = opened("cockpit", ".atlab-run", data=str(toy.path), root=str(root / "runs"))
    twin = explore.cockpit(str(toy.path), str(root / "runs"), threaded=False)
    for field, value in (
        ("study", "tries"), ("target", "speaker"), ("orthogonal", "word"), ("split", "confounded"), ("layers", "conv3"), ("aggregation", "mean"),
        ("similarity", "cka"), ("beta", 1.1), ("seed", 1), ("strategy", "baseline"), ("width", 1 / 32), ("batch_size", 16),
        ("learning_rate", 2e-3), ("epochs", 7), ("clips", 299), ("split", "random"), ("target", "word"),
    ):  # fmt: skip
        move(page, twin, field, value)
    page.locator(".atlab-run").first.click()
    page.wait_for_function(
        "document.querySelector('.atlab-text-status').innerText.startsWith('done')", timeout=180_000
    )
    run = runs.Run(next((root / "runs/tries").glob("*/done")).parent)
    twin.refresh()
    agree(page, twin, "curves")
    assert np.allclose(page.evaluate(TRACES, "curves")[0], run.history()["train_loss"])
    page.locator(".atlab-keep-as input").fill("kept")
    page.keyboard.press("Enter")
    page.locator(".atlab-keep").first.click()
    page.wait_for_function("document.querySelector('.atlab-kept').innerText.startsWith('kept in')")
    assert runs.Run(root / "runs/kept" / run.id).result() == run.result()
    move(page, twin, "seed", 2)
    move(page, twin, "compare", ("baseline seed 1",), "curves") if twin.views["curves"].figure else None
    move(page, twin, "root", str(root / "elsewhere"))
    move(page, twin, "data", "nowhere")
    page.wait_for_function("document.querySelector('.atlab-message').innerText.includes('No data set at')")
    clean(page, copy)


def test_the_explorers_without_jupyterlab(page, study):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with serving.served(study, port) as (process, address):
        limit = time.monotonic() + PATIENCE
        while True:
            try:
                page.goto(address)
                break
            except Exception:  # noqa: BLE001 - the server is starting
                assert time.monotonic() < limit and process.poll() is None
                time.sleep(0.3)
        page.goto(page.get_by_role("link", name="ablation.ipynb").evaluate("link => link.href"))
        page.wait_for_selector(".atlab-figure-cells .main-svg", timeout=300_000)
        twin = explore.ablation(study, threaded=False)
        agree(page, twin, "cells", "runs")
        move(page, twin, "metric", "train_accuracy", "cells")
        move(page, twin, "kind", "curves", "cells")
    assert page.outside == []
