"""Explorers in a real JupyterLab and through Voila: run all, move every control, and the figures are what is computed beside it.

Each page is compared with a twin of the explorer in this process: the figure on the page has to hold the twin's numbers,
and the code to be copied has to be the twin's, after every move.
"""

from __future__ import annotations

import socket
import time

import numpy as np
import pytest

import atlab
from atlab import explore, runs
from atlab.explore import serving
from tests.browser.pages import PATIENCE, TRACES, agree, clean, hears, move, says, tab
from tests.browser.test_lab import NOTEBOOKS
from tests.explore.small_study import write_study
from tests.transfer.studies import GRIDS, halves_accuracy, made

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return atlab.data.toy(tmp_path_factory.mktemp("data") / "toy", words=3, speakers=4, repetitions=4, samples=4096)


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
    hears(page, twin, "noisy")
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
    says(page, "No data set at")
    clean(page, twin, copy)


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
    move(page, twin, "score", True, "agreement")
    move(page, twin, "align", False)  # tones of the toy set begin together
    move(page, twin, "difference", True, "maps")
    move(page, twin, "reference", "WI seed 0", "maps")
    move(page, twin, "opacity", 0.65)
    page.wait_for_function(
        "Math.abs(document.querySelector('.atlab-figure-maps .js-plotly-plot')._fullData[2].opacity - 0.65) < 1e-6"
    )
    move(page, twin, "pair_by", "noise", "maps")
    move(page, twin, "snr_db", 9.0, "maps")
    move(page, twin, "models", ("baseline seed 0", "WI seed 1"), "maps")
    move(page, twin, "hear", "baseline seed 0")
    hears(page, twin, "selected")
    whole = twin.sounds["selected"].value
    move(page, twin, "threshold", 0.05)
    hears(page, twin, "selected")
    assert twin.sounds["selected"].value != whole
    move(page, twin, "extra", "gone.safetensors")
    says(page, "gone")
    move(page, twin, "extra", "")
    move(page, twin, "data", "nowhere")
    says(page, "No data set at")
    move(page, twin, "study", "runs/absent")
    says(page, "no study folder")
    clean(page, twin, copy)


def test_the_layer_explorer(opened, page, study, tmp_path):
    made(GRIDS / "transferability.yaml", tmp_path, halves_accuracy, "tiny")
    copy = opened("layers", ".atlab-figure-cka .main-svg", study=study)
    twin = explore.layers(study, threaded=False)
    agree(page, twin, "similarity", "cka", "effect")
    move(page, twin, "student", "WI seed 1", "similarity", "cka")
    move(page, twin, "teacher", "baseline seed 0", "similarity", "cka")
    move(page, twin, "clips", 25, "similarity", "cka")
    move(page, twin, "seed", 1, "similarity", "cka")
    move(page, twin, "similarity", "cka", "similarity")
    move(page, twin, "aggregation", "mean", "similarity")
    page.locator(".atlab-figure-cka .nsewdrag").first.click(position={"x": 5, "y": 5})  # the leftmost column: conv1
    twin.change(layer="conv1")
    tab(page, "One layer")
    agree(page, twin, "grams", "channels")
    move(page, twin, "layer", "conv3", "grams", "channels")
    move(page, twin, "clip", 1, "grams", "channels")
    move(page, twin, "channels", 3, "channels")
    tab(page, "Effect in the study")
    move(page, twin, "effect", "train", "effect")
    tab(page, "Transfer")
    move(page, twin, "transfer", str(tmp_path / "transferability"), "transfer", "causes")
    move(page, twin, "halves", "man_made", "transfer", "causes")
    tab(page, "Two networks")
    move(page, twin, "part", "test")
    says(page, "is not a stored split")
    move(page, twin, "data", "nowhere")
    says(page, "No data set at")
    move(page, twin, "study", "runs/absent")
    says(page, "no study folder")
    clean(page, twin, copy)


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
    says(page, "no study folder")
    clean(page, twin, copy)


def test_the_training_cockpit(opened, page, toy, lab):
    _, root = lab
    copy = opened("cockpit", ".atlab-run", data=str(toy.path), root=str(root / "runs"))
    twin = explore.cockpit(str(toy.path), str(root / "runs"), threaded=False)
    for field, value in (
        ("study", "tries"),
        ("target", "speaker"),
        ("orthogonal", "word"),
        ("split", "confounded"),
        ("layers", "conv3"),
        ("aggregation", "mean"),
        ("similarity", "cka"),
        ("beta", 1.1),
        ("seed", 1),
        ("strategy", "baseline"),
        ("width", 1 / 32),
        ("batch_size", 16),
        ("learning_rate", 2e-3),
        ("epochs", 7),
        ("clips", 299),
        ("split", "random"),
        ("target", "word"),
    ):
        move(page, twin, field, value)
    page.locator(".atlab-run").first.click()
    page.wait_for_function("document.querySelector('.atlab-text-status').innerText.startsWith('done')", timeout=180_000)
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
    says(page, "No data set at")
    clean(page, twin, copy)


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
            except Exception:
                assert time.monotonic() < limit and process.poll() is None
                time.sleep(0.3)
        page.goto(page.get_by_role("link", name="ablation.ipynb").evaluate("link => link.href"))
        page.wait_for_selector(".atlab-figure-cells .main-svg", timeout=300_000)
        twin = explore.ablation(study, threaded=False)
        agree(page, twin, "cells", "runs")
        move(page, twin, "metric", "train_accuracy", "cells")
        move(page, twin, "kind", "curves", "cells")
    assert page.outside == []
