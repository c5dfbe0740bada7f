"""The notebook on forms of anti-transfer, run with small data: its verdict is that of its runs."""

from __future__ import annotations

from pathlib import Path

import pytest

import atlab
from atlab import runs, stats
from atlab.analysis import tuned
from atlab.runs import notebooks
from tests.notebooks import in_process

NOTEBOOK = Path(__file__).parents[2] / "notebooks/experiments/which_form.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forms")
    data = atlab.data.toy(folder / "tones", words=3, speakers=8, repetitions=8, samples=4096)
    in_process.run(NOTEBOOK.parent / "grids/which_form.yaml", folder / "runs", "tiny", data=str(data.path))
    given = {"scale": "tiny", "data": str(data.path), "root": str(folder / "runs"), "workers": 2}
    return notebooks.run(NOTEBOOK, given, root=folder / "runs", progress=False)


def test_every_form_had_the_same_budget_and_the_numbers_are_those_of_the_runs(executed):
    table = runs.table(executed.path.parents[1] / "forms")
    assert len(table) == 12, "two repetitions of three forms with two settings each"
    compared = tuned.comparison(tuned.chosen(table)).set_index("form")
    saved = {row["form"]: row for row in executed.result()["rows"]}
    assert set(saved) == {"baseline", "AT clip_kernel, residual", "gradient reversal"}
    for name, row in saved.items():
        assert row["mean"] == pytest.approx(compared.loc[name, "mean"])
    a, b = (
        tuned.chosen(table).query("form == @name").sort_values("split_seed")["test_accuracy"]
        for name in ("gradient reversal", "baseline")
    )
    assert saved["gradient reversal"]["difference"] == pytest.approx(
        stats.paired_difference(a.to_numpy(), b.to_numpy()).mean
    )
    assert executed.result()["recommended"] is None, "one data set is not enough for a recommendation"


def test_adversaries_and_residual_teachers_left_their_losses_in_the_histories(executed):
    table = runs.table(executed.path.parents[1] / "forms")
    for strategy, column in (("gradient_reversal", "train_adversary"), ("at", "train_at")):
        run = runs.Run(table.loc[table["strategy"] == strategy, "path"].iloc[0])
        assert (run.history()[column].abs() > 0).all()
