"""The tutorial on strategies of one's own, run as a program: what was frozen, what was added, what was written."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from atlab import models, runs
from atlab.runs import execution

NOTEBOOK = Path(__file__).parents[2] / "notebooks/tutorials/04_your_own_strategy.ipynb"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("strategy")
    given = {"place": str(place / "tones"), "root": str(place / "runs"), "epochs": 2}
    execution.execute(NOTEBOOK, given, place / "out.ipynb", progress=False)
    return place


def test_all_four_strategies_trained_and_the_first_convolutions_stayed_the_speaker_networks(place):
    table = runs.table(place / "runs/own_strategy").set_index("strategy")
    assert sorted(table.index) == ["at", "baseline", "general_below", "sparse"]
    teacher = models.load(Path(runs.table(place / "runs/networks")["path"][0]) / "model.safetensors")
    trained = models.load(Path(table.loc["general_below", "path"]) / "model.safetensors")
    equal = {i: torch.equal(trained.features[i].weight, teacher.features[i].weight) for i in (0, 2, 5)}
    assert equal == {0: True, 2: True, 5: False}


def test_the_new_terms_are_in_the_histories(place):
    table = runs.table(place / "runs/own_strategy").set_index("strategy")
    columns = {name: set(pd.read_parquet(Path(path) / "history.parquet")) for name, path in table["path"].items()}
    assert "train_at" in columns["general_below"] and "train_sparse" in columns["sparse"]
    assert not {"train_at", "train_sparse"} & columns["baseline"]
