"""Notebooks as programs: run with small data from a clean kernel, then what they computed is checked."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pandas as pd
import pytest

import atlab
from atlab import runs, stats
from atlab.analysis import quickstart
from atlab.runs import execution, notebooks

ROOT = Path(__file__).parents[2] / "notebooks"


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return atlab.data.toy(tmp_path_factory.mktemp("data") / "toy", words=3, speakers=6, repetitions=8, samples=4096)


def outputs(notebook: Path) -> str:
    """All text that the cells left, Markdown and plain."""
    cells = nbformat.read(notebook, 4).cells
    data = [o.get("data", {}) for c in cells if c.cell_type == "code" for o in c.outputs]
    return "\n".join(d.get("text/markdown", d.get("text/plain", "")) for d in data)


@pytest.fixture(scope="module")
def quickstarted(toy, tmp_path_factory) -> Path:
    """The quickstart, executed on tones, with its page."""
    folder = tmp_path_factory.mktemp("quickstart")
    given = {
        "data": str(toy.path),
        "pairing": 0.8,
        "width": 0.0625,
        "epochs": 2,
        "seeds": 2,
        "root": str(folder / "runs"),
    }
    return execution.execute(ROOT / "tutorials/01_quickstart.ipynb", given, folder / "out.ipynb", html=True)


def test_the_quickstart_says_what_its_runs_say(quickstarted):
    table = runs.table(quickstarted.parent / "runs/quickstart")
    students = table[table["role"] == "student"]
    assert sorted(students["strategy"]) == ["at", "at", "baseline", "baseline", "wi", "wi"]
    findings = quickstart.findings(students)
    assert findings.text in outputs(quickstarted)
    accuracy = students.pivot(index="seed", columns="strategy", values="test_accuracy")
    want = stats.paired_difference(accuracy["at"], accuracy["wi"])
    assert findings.differences["wi"] == want and f"{abs(100 * want.mean):.1f} points" in findings.text


def test_the_quickstart_can_be_seen_and_heard(quickstarted):
    cells = [c for c in nbformat.read(quickstarted, 4).cells if c.cell_type == "code"]
    shown = [o.get("data", {}) for c in cells for o in c.outputs]
    assert sum("application/vnd.plotly.v1+json" in data for data in shown) == 6
    assert sum("<audio" in data.get("text/html", "") for data in shown) == 4


def test_the_quickstarts_page_has_its_title_and_folds_its_code(quickstarted):
    page = quickstarted.with_suffix(".html").read_text()
    codes = sum(cell.cell_type == "code" for cell in nbformat.read(quickstarted, 4).cells)
    assert "<title>Anti-transfer in one notebook</title>" in page and page.count("<details><summary>code") == codes


def test_the_quickstarts_page_asks_no_other_host_for_anything(quickstarted):
    page = quickstarted.with_suffix(".html").read_text()
    for attribute in ('src="http', "src='http", "@import url(http", 'src="//', 'link href="http'):
        assert attribute not in page


def test_the_training_notebook_fills_its_run_folder(toy, tmp_path):
    given = {
        "data": str(toy.path),
        "pairing": 0.8,
        "width": 0.0625,
        "epochs": 1,
        "batch_size": 16,
        "strategy": "baseline",
        "seed": 3,
    }
    run = notebooks.run(ROOT / "experiments/train.ipynb", given, root=tmp_path, study="one")
    assert run.done and run.notebook_path.exists()
    result = run.result()
    assert 0 <= result["test_accuracy"] <= 1 and result["epochs_run"] == 1
    assert json.loads((run.path / "params.json").read_text())["parameters"]["seed"] == 3
    assert notebooks.run(ROOT / "experiments/train.ipynb", given, root=tmp_path, study="one").path == run.path
    assert pd.read_parquet(run.path / "history.parquet")["epoch"].tolist() == [1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stratgy": "at"}, "nearest: 'strategy'"),
        ({"strategy": "att"}, "baseline, wi, frozen_wi, at"),
        ({"epochs": 0}, "epochs"),
        ({"width": "full"}, "width"),
    ],
)
def test_wrong_parameters_are_refused_before_a_kernel_starts(tmp_path, monkeypatch, given, message):
    monkeypatch.setattr("papermill.execute_notebook", lambda *a, **k: pytest.fail("a kernel was started"))
    with pytest.raises(atlab.AtlabError, match=message):
        notebooks.run(ROOT / "experiments/train.ipynb", given, root=tmp_path, study="one")
