"""A notebook as a researcher runs it: opened in JupyterLab, all cells run, the figures there."""

from __future__ import annotations

from pathlib import Path

import pytest

import atlab
from atlab import runs
from tests.browser.pages import nothing_uploads

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.mark.browser
def test_the_training_notebook_runs_in_jupyterlab_and_shows_the_run(lab, page, with_parameters, tmp_path):
    address, root = lab
    toy = atlab.data.toy(tmp_path / "toy", words=3, speakers=6, repetitions=8, samples=4096)
    values = {"data": str(toy.path), "width": 0.0625, "epochs": 2, "pairing": 0.8, "batch_size": 16, "strategy": "at"}
    with_parameters(NOTEBOOKS / "experiments/train.ipynb", root, values)
    page.goto(f"{address}/lab/tree/train.ipynb")
    page.wait_for_selector("text=atlab | Idle")  # before that, Run asks which kernel to take
    page.click("text=Run >> nth=0")
    page.click("text=Run All Cells")
    page.wait_for_selector(".js-plotly-plot .main-svg")
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot').length >= 2")
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']")
    assert (
        page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']", has_text="Error").count()
        == 0
    )
    figures = page.evaluate(
        "[...document.querySelectorAll('.js-plotly-plot')].map(f => f._fullData.map(t => Array.from(t.y)))"
    )
    table = runs.table(root / "runs/train")
    student = runs.Run(table.loc[table["role"] == "student", "path"].item())
    history = student.history()
    assert figures[0][0] == pytest.approx(history["train_loss"].tolist())
    assert figures[0][2] == pytest.approx(history["train_at"].tolist())
    nothing_uploads(page)
    assert page.outside == []
    page.screenshot(path=tmp_path / "train.png", full_page=True)
