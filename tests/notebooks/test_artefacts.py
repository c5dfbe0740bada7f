"""Notebooks of the papers' tables, run with small data: what they report is what their runs' folders hold."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml

import atlab
from atlab.labels import shown
from atlab.runs import notebooks
from tests.notebooks import in_process

FOLDER = Path(__file__).parents[2] / "notebooks/experiments"
FIXED = {
    "target": "word",
    "orthogonal": "speaker",
    "split": "disjoint",
    "split_by": "speaker",
    "width": 0.0625,
    "epochs": 1,
    "clips": 60,
    "learning_rate": 0.001,
}
WORDS = [{"strategy": "baseline"}, {"strategy": "wi"}, {"strategy": "at", "layers": ["conv1", "conv5"]}]
SIMILARITY = [{"strategy": "baseline"}, {"strategy": "at", "layers": "conv5", "aggregation": ["gram", "mean"]}]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two grids of one study on tones, so that their equal runs are trained once."""
    folder = tmp_path_factory.mktemp("tables")
    data = atlab.data.toy(folder / "tones", words=3, speakers=6, repetitions=6, samples=4096)
    for name, arms in (("words", WORDS), ("similarity", SIMILARITY)):
        content = {
            "study": "tones",
            "notebook": str(FOLDER / "train.ipynb"),
            "fixed": {**FIXED, "data": str(data.path)},
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**content, "axes": {"seed": "0..1", "arm": arms}}))
    return folder


def executed(place: Path, notebook: str, grid: str):
    given = {"grid": str(place / f"{grid}.yaml"), "root": str(place / "runs"), "workers": 1}
    return notebooks.run(FOLDER / notebook, given, root=place / "runs", progress=False)


def accuracies(place: Path, part: str = "test", **wanted) -> np.ndarray:
    """Straight from the runs' files, in the order of their seeds."""
    found = {}
    for path in (place / "runs/tones").glob("*/result.json"):
        parameters = json.loads((path.parent / "params.json").read_text())["parameters"]
        if all(shown(parameters[name]) == value for name, value in wanted.items()):
            found[parameters["seed"]] = json.loads(path.read_text())[f"{part}_accuracy"]
    return np.array([found[seed] for seed in sorted(found)])


def markdown(path: Path) -> str:
    cells = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
    return "\n".join(o.data["text/markdown"] for c in cells for o in c.outputs if "text/markdown" in o.get("data", {}))


@pytest.fixture(scope="module")
def words(place):
    in_process.run(place / "words.yaml", place / "runs")
    return executed(place, "table3_words.ipynb", "words")


def test_table_3_reports_its_runs(place, words):
    result = words.result()
    assert set(result["arms"]) == {"baseline", "WI speaker", "AT speaker conv1", "AT speaker conv5"}
    baseline = accuracies(place, strategy="baseline")
    for arm, wanted in {
        "baseline": {"strategy": "baseline"},
        "WI speaker": {"strategy": "wi"},
        "AT speaker conv1": {"strategy": "at", "layers": "conv1"},
        "AT speaker conv5": {"strategy": "at", "layers": "conv5", "aggregation": "gram"},
    }.items():
        row, scores = result["arms"][arm], accuracies(place, **wanted)
        assert len(scores) == 2 and row["n"] == 2
        assert row["test"] == pytest.approx(scores.mean())
        assert row["train"] == pytest.approx(accuracies(place, "train", **wanted).mean())
        if arm != "baseline":
            assert row["difference"] == pytest.approx((scores - baseline).mean())


AT = {layer: {"strategy": "at", "layers": layer, "aggregation": "gram"} for layer in ("conv1", "conv5")}


def test_table_3_reads_its_claims_from_a_layer_chosen_on_the_first_seed(place, words):
    validation = {layer: accuracies(place, "validation", **of) for layer, of in AT.items()}
    layer = max(AT, key=lambda name: validation[name][0])
    gain = 100 * (accuracies(place, **AT[layer]) - accuracies(place, strategy="baseline"))[1]
    said = words.result()["claims"]
    assert f"({gain:+.1f} [" in next(line for line in said if f"({layer}, chosen among 2 by validation" in line)
    assert said[0] in markdown(words.notebook_path) and "Layer n of the code ends before" in markdown(
        words.notebook_path
    )


def test_table_6_takes_the_runs_that_are_done_and_trains_the_others(place, words):
    before = {path.parent.name for path in (place / "runs/tones").glob("*/done")}
    result = executed(place, "table6_similarity.ipynb", "similarity").result()
    after = {path.parent.name for path in (place / "runs/tones").glob("*/done")}
    assert before < after and len(after - before) == 2, "only the mean of two seeds is new"
    gram, mean = (accuracies(place, strategy="at", layers="conv5", aggregation=name) for name in ("gram", "mean"))
    assert set(result["arms"]) == {"baseline", "AT gram squared_cosine", "AT mean squared_cosine"}
    assert result["arms"]["AT mean squared_cosine"]["test"] == pytest.approx(mean.mean())
    line = next(line for line in result["claims"] if "is above mean with squared_cosine" in line)
    assert f"({100 * (gram - mean).mean():+.1f} [" in line
