"""What a new user sees first: cells that say what they pool, intervals that are possible, values in their order."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from atlab import plots, runs
from atlab.experiment.settings import Settings
from atlab.explore.compute import data
from tests.explore.small_study import page


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """Aggregation x similarity at conv5, AT at conv1 and baselines, two seeds each that lie far apart."""
    root = tmp_path_factory.mktemp("runs")
    base = Settings(data="toy")
    arms = [replace(base, strategy="baseline"), replace(base, layers="conv1")]
    arms += [
        replace(base, layers="conv5", aggregation=a, similarity=s)
        for a in ("gram", "mean")
        for s in ("squared_cosine", "cka")
    ]
    for arm in arms:
        for seed, score in enumerate((0.5, 0.5) if arm.strategy == "baseline" else (0.1, 0.95)):
            with runs.open_run(root, "forms", asdict(replace(arm, seed=seed))) as run:
                run.save_history(pd.DataFrame({"epoch": [1], "train_loss": [1.0]}))
                run.finish({f"{part}_accuracy": score for part in ("train", "validation", "test")} | {"epochs_run": 1})
    return str(root / "forms")


def test_ablation_opens_on_the_forms_at_one_layer_and_says_what_a_cell_pools(forms):
    explorer = page("ablation", study=forms)
    state = explorer.state
    assert (explorer.message, {state.x, state.y}) == ("", {"aggregation", "similarity"})
    assert state.where == (("layers", ("conv5",)),)
    assert explorer.texts["pooled"].value == "A cell averages runs that differ in: seed (0, 1)."
    explorer.change(x="layers", y="-", where=())
    assert "2 runs that have no layers (a baseline, for example) are in no cell" in explorer.texts["pooled"].value
    assert "aggregation (gram, mean)" in explorer.texts["pooled"].value


def test_no_interval_leaves_what_is_possible(forms):
    explorer = page("ablation", study=forms)
    texts = "".join(np.asarray(explorer.views["cells"].figure.data[0].text, str).ravel())
    assert "[0.0, 100.0]" in texts and "-" not in texts
    home = page("home", study=forms)
    assert "left no network" in home.message  # and yet they are compared
    bars = home.views["differences"].figure.data[0]
    ends = np.concatenate([bars.x - bars.error_x.arrayminus, bars.x + bars.error_x.array])
    assert np.abs(ends).max() <= 100 + 1e-9


def test_the_layer_where_anti_transfer_acts_is_marked(study):
    explorer = page("layers", study=str(study), network="AT conv5 beta 1.0 seed 1")
    figure = explorer.views["similarity"].figure
    assert "AT acts here" in [note.text for note in figure.layout.annotations]
    assert "atlab sweep" in explorer.texts["transfer"].value  # an empty tab says what would fill it


def test_spoken_digits_are_in_their_order_and_equal_counts_have_one_colour():
    words = ["nine", "one", "two", "zero", "eight"]
    fs = type("Set", (), {"factor_names": ["word"], "factors": pd.DataFrame({"word": words})})
    assert list(data.counts(fs, np.arange(5))["word"].index) == ["zero", "one", "two", "eight", "nine"]
    heat = plots.crossing_table(pd.DataFrame(np.full((2, 2), 10), index=["a", "b"], columns=["c", "d"]), "equal").data[
        0
    ]
    assert (heat.zmin, heat.zmax) == (0, 10)
