"""Every measure on networks whose dependence on the speaker was built in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atlab.invariance import planted
from atlab.runs import notebooks

NOTEBOOK = Path(__file__).parents[2] / "notebooks/tutorials/05_measure_invariance.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The tutorial, which shows this card."""
    root = tmp_path_factory.mktemp("planted")
    return notebooks.run(NOTEBOOK, {}, root=root, progress=False)


@pytest.fixture(scope="module")
def card(executed):
    import pandas as pd

    return pd.DataFrame(executed.result()).set_index("network")


def test_presence_is_what_was_planted(card):
    assert (card.loc[["free", "non-linear, unused"], "linear"] < 0.25).all()
    assert card.loc["free", "mlp"] < 0.25 < 0.33 < card.loc["non-linear, unused", "mlp"]
    assert (card.loc[["linear, unused", "used a little", "used much"], ["linear", "mlp"]] > 0.8).all(axis=None)
    assert (card["control"] < 0.25).all()
    assert card.loc["free", "bits"] == pytest.approx(np.log2(6), abs=0.1) and card.loc["linear, unused", "bits"] < 1


def test_use_is_what_was_planted_whatever_is_present(card):
    unused = card.loc[["free", "linear, unused", "non-linear, unused"]]
    assert (unused["excess_low"] < 0).all() and (unused["excess_high"] > 0).all()
    assert unused["excess"].max() < card.loc["used a little", "excess"] < card.loc["used much", "excess"]
    assert card.loc["used much", "excess_low"] > 0


def test_removal_helps_those_that_were_misled_and_nobody_else(card):
    gained = card["erased"] - card["accuracy"]
    assert gained["used much"] > 0.2 and gained["used much"] > gained["used a little"] > 0
    assert abs(gained["linear, unused"]) < 0.05


def predictions_are_what_the_features_say():
    network = planted.networks(2)["used much"]
    p = network.probabilities()
    assert p.shape == (96, 8) and np.allclose(p.sum(1), 1)
    assert np.array_equal(p.argmax(1), (network.features @ network.reads).argmax(1))
    silent = network.probabilities(0 * network.features)
    assert np.allclose(silent, 1 / 8)
