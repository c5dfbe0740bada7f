"""The tutorial on transferred layers: what it prints is what its runs hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest

from atlab.runs import execution

NOTEBOOK = Path(__file__).parents[2] / "notebooks/tutorials/06_transfer_layers.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tutorial")
    given = {"place": str(folder / "tones"), "root": str(folder / "runs"), "width": 0.03125, "epochs": 1}
    return folder, nbformat.read(execution.execute(NOTEBOOK, given, folder / "out.ipynb", progress=False), 4)


def texts(notebook) -> str:
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    return "\n".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in outputs)


def test_it_says_what_is_frozen_and_what_the_runs_reached(executed):
    folder, notebook = executed
    text = texts(notebook)
    assert "Halves(A=('word0', 'word2'), B=('word1', 'word3'))" in text or re.search(
        r"Halves\(A=\('word\d', 'word\d'\)", text
    )
    assert "10 frozen tensors, up to features.10.bias - equal to those of the base network: True" in text
    assert "torch.Size([8, 1, 33, 129]), torch.Size([8, 8, 8, 32])" in text
    found: dict[tuple[str, int], list[float]] = {}
    for path in (folder / "runs/transfer_tutorial").glob("*/result.json"):
        parameters = json.loads((path.parent / "params.json").read_text())["parameters"]
        found.setdefault((parameters["treatment"], parameters["n"]), []).append(
            json.loads(path.read_text())["test_accuracy"]
        )
    assert {key: len(scores) for key, scores in found.items()} == {
        ("base", 0): 4,
        ("BnB", 5): 4,
        ("BnB", 13): 4,
        ("AnB", 5): 4,
        ("AnB", 13): 4,
    }
    table = text[text.index("treatment") :]
    for treatment in ("AnB", "BnB"):
        shown = [float(v) for v in re.search(rf"^{treatment} .*$", table, re.MULTILINE)[0].split()[1:] if v != "NaN"]
        assert shown == pytest.approx([np.mean(found[treatment, n]) for n in (5, 13)], abs=1e-5)
    assert len(list((folder / "runs/networks").glob("*/done"))) == 4


def test_it_is_stored_without_outputs():
    assert NOTEBOOK.stat().st_size < 100_000
    assert not any(c.outputs for c in nbformat.read(NOTEBOOK, 4).cells if c.cell_type == "code")
