"""The tutorial on reading a study, run as a program: what its made-up studies show, and what it reads from its own."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import numpy as np
import pytest
from scipy import stats as scipy_stats

from atlab import runs, stats
from atlab.runs import execution

NOTEBOOK = Path(__file__).parents[2] / "notebooks/tutorials/09_reading_a_study.ipynb"
KEPT = """
import json, pathlib
kept = {name: table.to_dict() for name, table in dict(nothing=nothing_true, one=one_true, primary=primary).items()}
kept |= dict(stopping=list(stopping), family=list(family), half_widths=[d.half_width for d in seen.differences.values()])
pathlib.Path(root, "kept.json").write_text(json.dumps(kept))
"""
WAYS = ("test_once", "validation_each_time", "best_against_best", "chosen_before")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The tutorial, with a cell at its end that keeps what it computed."""
    place = tmp_path_factory.mktemp("reading")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(KEPT))
    nbformat.write(notebook, place / NOTEBOOK.name)
    given = {"place": str(place / "tones"), "root": str(place / "runs"), "studies": 200, "epochs": 1, "workers": 1}
    execution.execute(place / NOTEBOOK.name, given, place / "out.ipynb", progress=False)
    return place


@pytest.fixture(scope="module")
def kept(place):
    return json.loads((place / "runs/kept.json").read_text())


def columns(kept, table):
    """{column: {way of reporting: value}}, ways by their order in the notebook."""
    return {name: dict(zip(WAYS, of.values(), strict=True)) for name, of in kept[table].items()}


def test_the_best_of_several_layers_misleads_and_an_equal_budget_does_not(kept):
    nothing = columns(kept, "nothing")
    alarms, gain = nothing["above zero (% of studies)"], nothing["mean gain (points)"]
    assert alarms["validation_each_time"] > 30 and alarms["test_once"] > 4
    assert max(alarms["best_against_best"], alarms["chosen_before"]) < 7
    assert abs(gain["best_against_best"]) < 0.4 and abs(gain["chosen_before"]) < 0.4
    luck, noise = 3.0, 2.0  # of a run, of a measurement: validation picks by both, the test repeats the first alone
    picked = stats.expected_best_of(4, np.hypot(luck, noise)) * luck**2 / (luck**2 + noise**2)
    assert gain["validation_each_time"] == pytest.approx(picked, abs=0.3)


def test_one_layer_named_in_time_is_found_more_often(kept):
    found = columns(kept, "one")["above zero (% of studies)"]
    assert found["chosen_before"] > found["best_against_best"] > 5


def test_stopping_by_width_and_holm_keep_their_promise_and_their_opposites_do_not(kept):
    by_verdict, by_width = kept["stopping"]
    assert by_verdict > 10 and by_width < 10
    each, family = kept["family"]
    assert each == pytest.approx(100 * (1 - 0.95**10), abs=12) and family < 10


def test_the_primary_differences_are_those_of_the_runs(place, kept):
    table = runs.table(place / "runs/reading").sort_values("seed")
    scores = {s: part["test_accuracy"].to_numpy() for s, part in table.groupby("strategy")}
    assert {len(of) for of in scores.values()} == {8} and table["split_seed"].nunique() == 8
    p = [scipy_stats.ttest_rel(scores[s], scores["baseline"]).pvalue for s in ("at", "wi")]
    for row, strategy in enumerate(("at", "wi")):
        d = scores[strategy] - scores["baseline"]
        low, high = scipy_stats.t.interval(0.95, 7, d.mean(), scipy_stats.sem(d))
        found = {name: of[str(row)] for name, of in kept["primary"].items()}
        assert found["points"] == stats.Interval(d.mean(), low, high, 8).percent()
        holm = min(1.0, max(2 * min(p), p[row]) if p[row] > min(p) else 2 * p[row])
        assert found["p (Holm)"] == pytest.approx(holm, abs=6e-4)
        side = "above" if d.mean() > 0 else "below"
        assert found["verdict"] == (side if holm < 0.05 else "not decided")
        assert kept["half_widths"][row] == pytest.approx((high - low) / 2)
