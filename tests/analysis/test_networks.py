"""Weak orthogonal networks are said; good ones are not called so."""

from __future__ import annotations

import pandas as pd
import pytest

from atlab.analysis import networks


def runs(**accuracies: float) -> pd.DataFrame:
    columns = {}
    for name, accuracy in accuracies.items():
        columns[f"orthogonal_networks.{name}.test_accuracy"] = [accuracy, accuracy, None]
        columns[f"orthogonal_networks.{name}.chance"] = [0.2, 0.2, None]
    return pd.DataFrame({"strategy": ["at", "at", "baseline"], **columns})


def test_every_network_counts_once_and_weak_is_a_quarter_of_the_way():
    found = networks.accuracies(runs(speaker=0.39, emotion=0.41)).set_index("task")
    assert found["networks"].tolist() == [1, 1] and found["weak"].to_dict() == {"speaker": True, "emotion": False}
    assert found.loc["speaker", "accuracy"] == pytest.approx(0.39)


def test_sentences_warn_of_weak_ones_only():
    first, second = networks.sentences(runs(speaker=0.39, emotion=0.9)).splitlines()
    assert "39.0 %" in first and "weak" in first and "90.0 %" in second and "weak" not in second
    assert networks.sentences(pd.DataFrame({"strategy": ["baseline"]})) == ""


def test_names_from_data_are_plain_text():
    assert "<img" not in networks.sentences(runs(**{"x@<img src=x>": 0.9}))


def test_a_network_that_no_run_of_the_table_took_goes_unsaid():
    columns = {"orthogonal_networks.speaker.test_accuracy": [0.9], "orthogonal_networks.speaker.chance": [0.1]}
    columns |= {name.replace("speaker", "noise"): [float("nan")] for name in columns}
    assert networks.accuracies(pd.DataFrame(columns))["task"].tolist() == ["speaker"]
