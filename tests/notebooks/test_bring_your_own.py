"""The tutorial on data of one's own, run as a program: what it shows is counted again from the files."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pandas as pd
import pytest

from atlab import experiment, runs
from atlab.data import FactorSet
from atlab.data.synthetic.toy import toy_recordings
from atlab.runs import execution, parameters
from data_recipes import folder

NOTEBOOK = Path(__file__).parents[2] / "notebooks/tutorials/03_bring_your_own_data.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    place = tmp_path_factory.mktemp("own")
    given = {"raw": str(place / "raw"), "prepared": str(place / "data"), "root": str(place / "runs"), "epochs": 6}
    execution.execute(NOTEBOOK, given, place / "out.ipynb", progress=False)
    return place


def outputs(notebook: Path, kind: str) -> list:
    cells = nbformat.read(notebook, 4).cells
    data = [o.get("data", {}) for c in cells if c.cell_type == "code" for o in c.outputs]
    return [d[kind] for d in data if kind in d]


def numbers(html: str) -> pd.DataFrame:
    """A table of numbers as pandas shows it."""
    table = ElementTree.fromstring(html[html.index("<table") : html.index("</table>") + len("</table>")])
    columns = [cell.text for cell in table.find("thead").find("tr").findall("th")][1:]
    rows = {
        row.find("th").text: [int(cell.text) for cell in row.findall("td")] for row in table.find("tbody").findall("tr")
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def test_both_ways_of_labelling_give_the_files_that_are_labelled(executed):
    paths, sources, table = (
        FactorSet.open(executed / "data" / name) for name in ("own_paths", "own_sources", "own_table")
    )
    there = {path.relative_to(executed / "raw").as_posix() for path in (executed / "raw").rglob("*.wav")}
    listed = pd.read_csv(executed / "raw/factors.csv").set_index("file")
    readable = there - {"fay/r18_up_2.wav"}
    assert set(paths.factors["id"]) == set(sources.factors["id"]) == readable - {"test.wav"} and len(paths) == 143
    assert set(table.factors["id"]) == readable & set(listed.index) and len(table) == 142
    for fs in (paths, table):
        for row in fs.factors.to_dict("records"):
            speaker, recording, word = re.fullmatch(r"(\w+)/(r\d\d)_(\w+)_\d\.wav", row["id"]).groups()
            assert (row["speaker"], row["word"]) == (speaker, word)
            assert recording == (row["recording"] if fs is paths else row["source"])
    assert table.labels("microphone").tolist() == listed.loc[table.factors["id"], "microphone"].tolist()
    assert paths.card["dropped"] == {"broken": 1, "pattern does not match": 1}
    assert table.card["dropped"] == {"broken": 1, "file without row": 2}


def test_the_leak_is_shown_and_then_gone(executed):
    tables = [html for html in outputs(executed / "out.ipynb", "text/html") if "also in training" in html]
    leaking, kept, by_speaker = map(numbers, tables)
    assert leaking.loc["test", "source also in training"] == 0 < leaking.loc["test", "recording also in training"]
    assert kept.loc[["validation", "test"], "source also in training"].tolist() == [0, 0]
    assert by_speaker.loc[["validation", "test"], "speaker also in training"].tolist() == [0, 0]
    assert leaking["clips"].sum() == kept["clips"].sum() == 143 and by_speaker["clips"].sum() == 142


def test_the_data_can_be_seen_and_heard(executed):
    figures = outputs(executed / "out.ipynb", "application/vnd.plotly.v1+json")
    assert len(figures) == 6
    assert figures[1]["layout"]["title"]["text"] == "speaker and microphone: Cramer's V 0.48 (plain 0.51)"
    assert sum(html.count("<audio") for html in outputs(executed / "out.ipynb", "text/html")) == 10


def test_the_network_was_trained_and_tested_on_other_speakers(executed):
    (run,) = (runs.Run(path) for path in (executed / "runs/own_data").iterdir() if (path / "params.json").exists())
    fs = FactorSet.open(executed / "data/own_table")
    tested = pd.read_parquet(run.path / "predictions.parquet")
    assert set(fs.labels("speaker", tested["row"].to_numpy())) == {"fay"}
    result = run.result()
    assert result["test_clips"] == 23 == len(tested) and result["epochs_run"] == 6
    assert result["test_accuracy"] == pytest.approx((tested["code"] == tested["prediction"]).mean())
    assert result["test_accuracy"] > 0.55  # by chance, 0.26, 13 of 23 clips are right once in 500 times


def test_the_same_steps_elsewhere_give_the_same_bits(executed, tmp_path):
    toy_recordings(tmp_path / "raw")
    pattern = parameters.defaults(NOTEBOOK)["by_path"]
    again = {
        "own_paths": folder.prepare(tmp_path / "raw", tmp_path / "paths", pattern=pattern, workers=0),
        "own_table": folder.prepare(tmp_path / "raw", tmp_path / "table", workers=0),
    }
    for name, fs in again.items():
        assert fs.content_hash == FactorSet.open(executed / "data" / name).content_hash
    (first,) = (runs.Run(path) for path in (executed / "runs/own_data").iterdir() if (path / "params.json").exists())
    settings = experiment.Settings(**json.loads((first.path / "params.json").read_text())["parameters"])
    second = experiment.train(
        replace(settings, data=str(again["own_table"].path)), root=tmp_path / "runs", progress=False
    )
    one, other = (pd.read_parquet(run.path / "predictions.parquet") for run in (first, second))
    pd.testing.assert_frame_equal(one, other)
    assert first.result() == second.result()


def test_the_raw_folder_is_made_once_and_left_alone(executed, tmp_path):
    files = toy_recordings(tmp_path / "raw")
    assert files == toy_recordings(executed / "raw") and len(files) == 145
    for name in (*files, "factors.csv"):
        assert (tmp_path / "raw" / name).read_bytes() == (executed / "raw" / name).read_bytes(), name
    (tmp_path / "raw/test.wav").unlink()
    assert len(toy_recordings(tmp_path / "raw")) == 144


def test_it_is_stored_without_outputs_and_without_logic():
    stored = nbformat.read(NOTEBOOK, 4)
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code) and "widgets" not in stored.metadata
    assert stored.metadata.kernelspec.name == "atlab"
    assert not any(
        re.match(r"\s*(def|class|for|while|if|try|with)\b", line) for cell in code for line in cell.source.splitlines()
    )
