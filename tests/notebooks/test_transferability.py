"""The notebook on transferability: from a clean kernel, on runs with known numbers, and its runs themselves at tiny scale."""

from __future__ import annotations

from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml

from atlab import runs
from atlab.runs import grid, notebooks, sweep
from tests.notebooks import in_process
from tests.transfer.images import images
from tests.transfer.studies import made

FOLDER = Path(__file__).parents[2] / "notebooks/experiments"
ARMS = [
    {"halves": ["random", "made"], "treatment": "base", "n": 0},
    {"halves": "random", "treatment": ["BnB", "BnB+", "AnB", "AnB+", "random"], "n": [1, 7]},
    {"halves": "made", "treatment": ["BnB", "AnB"], "n": [1, 7]},
]
LOST = {
    "base": 0,
    "BnB": 0.01,
    "BnB+": 0,
    "AnB": 0.02,
    "AnB+": -0.01,
    "random": 0.05,
}  # accuracy, for each of the n layers


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transferability")
    images(folder / "pictures")
    return folder


def write_grid(place: Path, name: str, arms: list[dict], seeds: int) -> Path:
    content = {
        "study": name,
        "notebook": str(FOLDER / "train_transfer.ipynb"),
        "fixed": {"data": str(place / "pictures"), "width": 0.03125, "epochs": 1, "batch_size": 16},
        "axes": {"run": [{"seed": s, "halves_seed": s} for s in range(seeds)], "half": ["A", "B"], "arm": arms},
    }
    path = place / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def accuracy(p: dict) -> float:
    lost = LOST[p["treatment"]] * p["n"] * (2 if p["halves"] == "made" else 1)
    return 0.7 + 0.01 * p["seed"] + 0.02 * (p["half"] == "B") - lost


def test_the_notebook_reports_what_the_runs_hold(place):
    path, root = write_grid(place, "known", ARMS, seeds=3), place / "runs"
    made(path, root, accuracy)
    run = notebooks.run(
        FOLDER / "transferability.ipynb", {"grid": str(path), "root": str(root)}, root=root, progress=False
    )
    result = run.result()
    drops = {(r["halves"], r["n"], r["cause"]): r["drop"] for r in result["drops"]}
    for halves, factor in (("random", 1), ("made", 2)):
        for n in (1, 7):
            assert drops[halves, n, "co-adaptation"] == pytest.approx(0.01 * factor * n)
            assert drops[halves, n, "specificity"] == pytest.approx(0.01 * factor * n)
    by_layer = {(r["halves"], r["treatment"], r["n"]): r for r in result["by_layer"]}
    assert by_layer["random", "base", 0]["test"] == pytest.approx(np.mean([0.72, 0.71, 0.73]))
    assert by_layer["random", "AnB+", 7]["difference"] == pytest.approx(0.07)
    assert [round(r["over_base_points"], 6) for r in result["boosts"]] == [4.0, 7.0, 7.0]
    assert any("28.0 against 14.0" in line for line in result["claims"])
    stored = nbformat.read(run.notebook_path, 4)
    outputs = [o for c in stored.cells if c.cell_type == "code" for o in c.outputs]
    assert sum("application/vnd.plotly.v1+json" in o.get("data", {}) for o in outputs) == 3
    assert not any(o.output_type == "error" for o in outputs)


def test_the_runs_of_a_tiny_study_share_their_base_networks(place):
    arms = [{"halves": "made", "treatment": "base", "n": 0}, {"halves": "made", "treatment": ["BnB", "AnB"], "n": 7}]
    root = place / "trained"
    path = write_grid(place, "tiny", arms, seeds=1)
    in_process.run(path, root)
    outcome = sweep.run(path, "laptop", root, workers=1, progress=False).check()
    assert (outcome.done_before, outcome.done) == (6, 0) and len(list((root / "networks").glob("*/done"))) == 2 == len(
        list((root / "networks").iterdir())
    )
    table = outcome.table().set_index(["half", "treatment"])
    assert set(table["prefix"]) == {"learns", "cached"} and (table["classes"] == 2).all()
    for half in "AB":
        networks = runs.table(root / "networks").set_index("half")
        assert table.loc[(half, "base"), "test_accuracy"] == networks.loc[half, "test_accuracy"]


@pytest.mark.parametrize("name", ["transferability", "train_transfer"])
def test_the_notebook_is_stored_without_outputs(name):
    path = FOLDER / f"{name}.ipynb"
    assert path.stat().st_size < 100_000
    assert not any(c.outputs for c in nbformat.read(path, 4).cells if c.cell_type == "code")


def test_the_grid_has_every_layer_and_treatment_at_laptop_scale():
    jobs = grid.load(FOLDER / "grids/transferability.yaml", "laptop").jobs
    assert len({j["seed"] for j in jobs}) >= 3 and {j["half"] for j in jobs} == {"A", "B"}
    for treatment in ("BnB", "BnB+", "AnB", "AnB+", "random"):
        assert {j["n"] for j in jobs if j["treatment"] == treatment and j["halves"] == "random"} == set(range(1, 8))
    assert {j["n"] for j in jobs if j["treatment"] == "AnB" and j["halves"] == "man_made"} == set(range(1, 8))
