"""Choosing by validation under one budget, and the comparison that follows, against naive computations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from atlab import plots
from atlab.analysis import tuned
from atlab.errors import AtlabError

FORMS = {
    "baseline": {"strategy": "baseline", "aggregation": "gram", "residual": False, "start": "random"},
    "AT gram": {"strategy": "at", "aggregation": "gram", "residual": False, "start": "random"},
    "AT clip_kernel, residual": {"strategy": "at", "aggregation": "clip_kernel", "residual": True, "start": "random"},
}


@pytest.fixture
def table() -> pd.DataFrame:
    """Two data sets, three forms, four repetitions, three settings each; AT gram is made 10 points better."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "data": data,
            "split": "disjoint",
            "split_seed": k,
            "beta": beta,
            **parameters,
            "validation_accuracy": rng.integers(50, 60) / 100,
            "validation_loss": rng.random(),
            "test_accuracy": 0.5 + rng.normal(0, 0.01) + 0.1 * (name == "AT gram"),
        }
        for data in ("speech", "fsdd")
        for name, parameters in FORMS.items()
        for k in range(4)
        for beta in (0.1, 1.0, 5.0)
    ]
    return pd.DataFrame(rows)


def test_validation_alone_chooses_and_loss_breaks_ties(table):
    picked = tuned.chosen(table)
    assert len(picked) == 2 * 3 * 4 and set(picked["budget"]) == {3} and set(picked["form"]) == set(FORMS)
    for _, row in picked.iterrows():
        same = table[(table["data"] == row["data"]) & (table["split_seed"] == row["split_seed"])]
        same = same[[tuned.form(r) == row["form"] for _, r in same.iterrows()]]
        ties = same[same["validation_accuracy"] == same["validation_accuracy"].max()]
        want = ties.loc[ties["validation_loss"].idxmin()]
        assert (row["beta"], row["test_accuracy"]) == (want["beta"], want["test_accuracy"])


def test_differences_are_paired_by_repetition(table):
    picked = tuned.chosen(table)
    compared = tuned.comparison(picked).set_index(["condition", "form"])
    part = picked[picked["data"] == "fsdd"].sort_values("split_seed")
    a, b = (part.loc[part["form"] == name, "test_accuracy"].to_numpy() for name in ("AT gram", "baseline"))
    row = compared.loc[("fsdd, disjoint", "AT gram")]
    low, high = scipy_stats.t.interval(0.95, 3, (a - b).mean(), scipy_stats.sem(a - b))
    assert (row["difference"], row["d_low"], row["d_high"]) == pytest.approx(((a - b).mean(), low, high))
    other = compared.loc[("fsdd, disjoint", "AT clip_kernel, residual")]
    assert row["p"] == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue)
    assert row["p_holm"] == pytest.approx(2 * row["p"] if row["p"] < other["p"] else max(row["p"], 2 * other["p"]))
    assert np.isnan(compared.loc[("fsdd, disjoint", "baseline"), "difference"])


def test_a_form_is_recommended_only_if_it_wins_on_two_data_sets(table):
    found = tuned.findings(tuned.comparison(tuned.chosen(table)), budget=3)
    assert found.recommended == "AT gram" and "**Recommended: AT gram**" in found.text
    spoiled = table.copy()
    lost = (spoiled["data"] == "fsdd") & (spoiled["strategy"] == "at") & (spoiled["aggregation"] == "gram")
    spoiled.loc[lost, "test_accuracy"] -= 0.3
    found = tuned.findings(tuned.comparison(tuned.chosen(spoiled)), budget=3)
    assert found.recommended is None and "No form is recommended" in found.text
    assert "Below the baseline, with an interval that excludes zero: AT gram" in found.text


def test_two_splits_of_one_data_set_count_once(table):
    twice = pd.concat([table[table["data"] == "speech"], table[table["data"] == "speech"].assign(split="confounded")])
    assert tuned.findings(tuned.comparison(tuned.chosen(twice)), budget=3).recommended is None


def test_unequal_budgets_and_a_missing_baseline_are_refused(table):
    with pytest.raises(AtlabError, match="compared under one budget"):
        tuned.chosen(table.drop(index=table.index[0]))
    with pytest.raises(AtlabError, match="no runs of 'baseline'"):
        tuned.comparison(tuned.chosen(table[table["strategy"] != "baseline"]))


def test_the_figure_shows_every_difference_in_points(table):
    compared = tuned.comparison(tuned.chosen(table))
    figure = plots.differences_by_form(compared)
    assert len(figure.data) == 2 and "points" in figure.layout.xaxis.title.text
    speech = compared[compared["condition"] == figure.data[0].name].set_index("form")
    for name, x in zip(figure.data[0].y, figure.data[0].x, strict=True):
        assert x == pytest.approx(100 * speech.loc[name, "difference"])
