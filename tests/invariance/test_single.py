"""The card of one network, and the command that prints it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from atlab import models, runs
from atlab.cli.main import app
from atlab.data import splits
from atlab.errors import AtlabError
from atlab.invariance import report, single


@pytest.fixture
def run(tones, networks, tmp_path):
    given = {"target": "word", "orthogonal": "speaker", "split": "random", "seed": 3}
    with runs.open_run(tmp_path, "s", given) as opened:
        models.save(
            networks[0], opened.model_path, task="word", classes=networks[0].card["classes"], data=tones.content_hash
        )
        splits.random(tones).save(opened.path / "split.json", tones)
        opened.finish({})
    return opened


def call(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["measure", *map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_the_command_prints_what_the_card_holds(run, tones, tmp_path):
    code, text = call(
        run.model_path, tones.path, "--factors", "speaker", "--layers", "conv1,conv5", "--out", tmp_path / "card.csv"
    )
    assert code == 0
    table = pd.read_csv(tmp_path / "card.csv")
    row = table.query("name == 'network' and layer == 'conv5'").iloc[0]
    assert set(table["name"]) == {"network", "random weights"} and set(table["layer"]) == {"conv1", "conv5"}
    assert f"conv5 {100 * row['balanced_accuracy']:.1f} [" in " ".join(text.split())
    assert (
        f"{100 * row['target_accuracy']:.1f} % [" in text
        and f"{100 * row['changed']:.1f} % of predictions change" in text
    )
    assert "3 classes, chance 33.3 %, 1.58 bits; 96 clips" in text


def test_a_run_is_measured_on_its_test_part_and_elsewhere_on_all_clips(run, tones):
    found = single.measure(run.path, tones.path, ["speaker"], ["conv1"], device="cpu", progress=False)
    assert np.array_equal(found.rows, splits.random(tones).test)
    models.save(
        models.load(run.model_path), run.model_path, task="word", classes=[f"word{k}" for k in range(4)], data="other"
    )
    runs.mark_done(run.path)
    found = single.measure(run.path, tones.path, ["speaker"], ["conv1"], device="cpu", progress=False)
    assert np.array_equal(found.rows, np.arange(len(tones)))


def test_a_model_file_is_measured_on_clips_of_its_classes(networks, tones, tmp_path):
    known = [f"word{k}" for k in range(3)]
    models.save(models.vgg16(3, width=1 / 16).eval(), tmp_path / "model.safetensors", task="word", classes=known)
    found = single.measure(
        tmp_path / "model.safetensors", tones.path, ["speaker"], ["conv1"], device="cpu", progress=False
    )
    assert set(tones.labels("word", found.rows)) == set(known) and len(found.rows) == 3 * 3 * 8
    with pytest.raises(
        AtlabError, match=r"24 of 96 clips are of a word that the network does not know, such as 'word3'"
    ):
        network = models.load(tmp_path / "model.safetensors")
        report({"n": [network]}, tones, "speaker", "conv1", rows=np.arange(96), erase="", progress=False)


def test_a_factor_that_cannot_be_exchanged_has_no_use(run, tones):
    found = single.measure(run.model_path, tones.path, ["word"], ["conv1"], device="cpu", progress=False)
    assert "no pairs of clips that differ in word only" in single.lines(found, "word")


def test_no_network_is_said(tones, tmp_path):
    with pytest.raises(AtlabError, match="no network at"):
        single.measure(tmp_path / "nothing", tones.path, ["speaker"])
