"""The notebook on invariance, run with small data: its card and its sentences are those of its runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import atlab
from atlab import runs, stats
from atlab.data import FactorSet
from atlab.invariance import features, reading
from atlab.invariance.probes import presence
from atlab.runs import notebooks
from tests.notebooks import in_process

NOTEBOOK = Path(__file__).parents[2] / "notebooks/experiments/invariance.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("invariance")
    data = atlab.data.toy(folder / "tones", words=3, speakers=4, repetitions=24, samples=4096)
    grid = NOTEBOOK.parent / "grids/invariance.yaml"
    in_process.run(grid, folder / "runs", "tiny", data=str(data.path))
    given = {
        "scale": "tiny",
        "data": str(data.path),
        "root": str(folder / "runs"),
        "layers": "conv1,conv13",
        "pairs": 4,
    }
    return notebooks.run(NOTEBOOK, {**given, "workers": 1}, root=folder / "runs", study="card", progress=False)


def row(executed, **wanted):
    rows = [r for r in executed.result()["summary"] if all(r[key] == value for key, value in wanted.items())]
    assert len(rows) == 1
    return rows[0]


def test_every_network_is_on_the_card(executed):
    summary = executed.result()["summary"]
    assert {r["name"] for r in summary} == {"baseline", "at", "gradient_reversal", "LEACE", "random weights"}
    assert {r["layer"] for r in summary} == {"conv1", "conv5", "conv13"} and {r["factor"] for r in summary} == {
        "speaker"
    }
    assert {r["seeds"] for r in summary} == {2} and {r["chance"] for r in summary} == {0.25}


def test_its_numbers_are_those_of_the_runs(executed):
    table = runs.table(executed.path.parents[1] / "invariance")
    models, teachers = reading.networks(table)
    assert list(teachers) == ["speaker"] and [len(of) for of in models.values()] == [2, 2, 2]
    assert (
        runs.Run(table["path"].iloc[0]).parameters["teacher_clips"] == teachers["speaker"].parameters["teacher_clips"]
    )
    fs = FactorSet.open(table["data"].iloc[0])
    found = row(executed, name="at", layer="conv5")
    part = table[table["strategy"] == "at"]
    # The runs' own test was cut to as many clips as they trained on; the card measures the whole part.
    test = atlab.data.splits.confounded(fs, "word", "speaker", p=0.9, seed=0).test
    assert len(test) == executed.result()["clips"]
    accuracy, read = [], []
    for path in part["path"]:
        model = atlab.models.load(Path(path) / "model.safetensors")
        inside = features.extract(model, features.batches_of(fs, test), "conv5")
        accuracy.append(np.mean(inside.logits.argmax(1) == fs.codes("word")[test]))
        labels, sources = {"speaker": fs.labels("speaker", test)}, fs.factors["source"].to_numpy()[test]
        read.append(presence.presence(inside, labels, sources)["balanced_accuracy"][0])
    assert found["target_accuracy"] == pytest.approx(np.mean(accuracy))
    assert found["balanced_accuracy"] == pytest.approx(np.mean(read), abs=1e-6)
    low, high = np.clip(stats.mean_interval(read)[1:3], 0, 1)  # a balanced accuracy is no more
    assert (found["balanced_accuracy_low"], found["balanced_accuracy_high"]) == pytest.approx((low, high), abs=1e-5)


def test_its_sentences_say_these_numbers(executed):
    lines = executed.result()["findings"]["speaker"]
    titles = ["Cost.", "Presence at conv5", "Where.", "Use", "Use or presence?", "AT", "Removal.", "Floor."]
    assert [line.split("**")[1].removesuffix(" minus gradient reversal") for line in lines] == titles
    base, ours = (row(executed, name=name, layer="conv5") for name in ("baseline", "at"))
    assert f"baseline {100 * base['balanced_accuracy']:.1f} %" in lines[1]
    assert f"AT {100 * (ours['balanced_accuracy'] - base['balanced_accuracy']):+.1f} points" in lines[1]
    share = executed.result()["lowered"]["speaker"]["presence"][0]
    want = (base["balanced_accuracy"] - ours["balanced_accuracy"]) / (base["balanced_accuracy"] - 0.25)
    assert share == pytest.approx(want)
