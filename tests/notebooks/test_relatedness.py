"""The notebook on related tasks, from a clean kernel, on runs with known numbers."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from atlab import runs
from atlab.runs import notebooks
from tests.transfer.studies import made

FOLDER = Path(__file__).parents[2] / "notebooks/experiments"
GIVEN = {
    "word": 0.02,
    "emotion": -0.01,
}  # accuracy that each frozen layer gives the target, when n of them are transferred


def accuracy(p: dict) -> float:
    base = 0.6 + 0.01 * p["seed"] + 0.1 * (p["target"] == "word")
    if p["treatment"] == "base":
        return base
    varied = 0.0001 * (2 * p["seed"] - 1)  # differences that do not vary have no interval
    return base + varied + p["n"] * (GIVEN[p["target"]] if p["treatment"] == "AnB" else 0.005)


def anti_transfer(root: Path, study: str, target: str, orthogonal: str, gain: float) -> None:
    form = {
        "target": target,
        "orthogonal": orthogonal,
        "aggregation": "gram",
        "similarity": "squared_cosine",
        "beta": 1.0,
        "published": False,
        "warm_up": 0,
        "start": "random",
        "residual": False,
        "noise": "none",
        "data": "synthetic_speech",
        "split": "disjoint",
        "width": 0.0625,
    }
    for seed in range(2):
        for strategy, layers in (("baseline", "conv5"), ("at", "conv5"), ("at", "conv13")):
            with runs.open_run(root, study, form | {"strategy": strategy, "layers": layers, "seed": seed}) as run:
                run.finish({"test_accuracy": 0.5 + 0.01 * seed + (gain * int(layers[4:]) if strategy == "at" else 0)})


def test_the_notebook_reports_what_the_runs_hold(tmp_path):
    made(FOLDER / "grids/transfer_matrix.yaml", tmp_path, accuracy, "tiny")
    anti_transfer(tmp_path, "words", "word", "emotion", -0.002)
    anti_transfer(tmp_path, "emotions", "emotion", "word", 0.004)
    given = {"scale": "tiny", "root": str(tmp_path), "anti_transfer": "words,emotions"}
    run = notebooks.run(FOLDER / "relatedness.ipynb", given, root=tmp_path, progress=False)
    result = run.result()
    cells = {(r["target"], r["base"], r["n"]): r["difference"] for r in result["pairs"]}
    for n in (5, 13):
        assert cells["word", "emotion", n] == pytest.approx(0.02 * n)
        assert cells["emotion", "word", n] == pytest.approx(-0.01 * n)
        assert cells["word", "word", n] == pytest.approx(0.005 * n)
    points = {(r["pair"], r["layer"]): (r["transfer"], r["gain"]) for r in result["points"]}
    assert points["emotion against word", "conv13"] == pytest.approx((-0.13, 0.052))
    assert points["word against emotion", "conv5"] == pytest.approx((0.1, -0.01))
    assert result["correlation"]["spearman"] == pytest.approx(-1) and result["correlation"]["points"] == 4
    stored = nbformat.read(run.notebook_path, 4)
    outputs = [o for c in stored.cells if c.cell_type == "code" for o in c.outputs]
    assert sum("application/vnd.plotly.v1+json" in o.get("data", {}) for o in outputs) == 2
    text = "".join(o.data.get("text/markdown", "") for o in outputs if "data" in o)
    assert "emotion from word, n = 13 (-13.0)" in text and "-26" not in text
    assert "+26.0 points from word to emotion" not in text


def test_the_notebook_is_stored_without_outputs():
    path = FOLDER / "relatedness.ipynb"
    assert path.stat().st_size < 100_000
    assert not any(c.outputs for c in nbformat.read(path, 4).cells if c.cell_type == "code")
