"""Planned differences, the dose of anti-transfer and the numbers of a report, against naive computations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from atlab import analysis, runs, stats
from atlab.analysis import dose, planned, report, study
from atlab.experiment.settings import Settings
from atlab.runs import precision
from atlab.runs.precision import Contrast, Plan

PLAN = Plan(2.0, 16, 8, (Contrast(("at.conv1", "at.conv5"), "baseline"), Contrast(("wi",), "baseline")))
ARMS = {
    "baseline": {"strategy": "baseline"},
    "at.conv1": {"strategy": "at", "layers": "conv1"},
    "at.conv5": {"strategy": "at", "layers": "conv5"},
    "wi": {"strategy": "wi"},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Sixteen repetitions; WI lies 5 points above the baseline, conv1 is not chosen and ends with the pilot."""
    root, rng, folders = tmp_path_factory.mktemp("runs"), np.random.default_rng(1), {}
    for arm, given in ARMS.items():
        for seed in range(16):
            parameters = {**Settings().__dict__, **given, "seed": seed, "split_seed": seed}
            run = runs.open_run(root, "s", parameters)
            folders.setdefault(arm, []).append(run.path)
            if arm == "at.conv1" and seed >= 8:
                continue
            losses = {
                "epoch": [1, 2],
                "train_loss": [2.0, 0.5],
                "validation_loss": [2.1, 1.5],
                "validation_accuracy": 0.4,
            }
            at = {"train_at": [0.2 + seed / 100, 0.01]} if given["strategy"] == "at" else {}
            run.save_history(pd.DataFrame(losses | at))
            result = {"test_accuracy": 0.7 + 0.05 * (arm == "wi") + rng.normal(0, 0.01), "train_accuracy": 1.0}
            result |= {"validation_accuracy": 0.6 + 0.1 * (arm == "at.conv5") + rng.normal(0, 0.01)}
            run.finish(result | {"train_clips": 208, "validation_clips": 50 + seed % 2, "test_clips": 99})
    precision.record(PLAN, root / "s", folders)
    return root


@pytest.fixture(scope="module")
def found(root):
    return study.read("s", root)


def scores(found, arm: str) -> np.ndarray:
    rows = found.table[np.logical_and.reduce([found.table[name] == value for name, value in ARMS[arm].items()])]
    return rows.sort_values("seed")["test_accuracy"].to_numpy()


def test_primary_differences_are_those_of_the_last_look(found):
    table, said = planned.primary(found.folder)
    table = table.set_index("contrast")
    d = (scores(found, "at.conv5") - scores(found, "baseline"))[8:]
    row = table.loc["at.conv1 or at.conv5 - baseline"]
    low, high = scipy_stats.t.interval(0.95, 7, d.mean(), scipy_stats.sem(d))
    assert row[["arm", "n", "verdict"]].tolist() == ["at.conv5", 8, "not decided"]
    assert row[["mean", "low", "high", "half_width"]].tolist() == pytest.approx([d.mean(), low, high, (high - low) / 2])
    assert row["could_have_seen"] == stats.could_have_seen(stats.Interval(d.mean(), low, high, 8), tests=2)
    wi = table.loc["wi - baseline"]
    p = scipy_stats.ttest_rel(scores(found, "wi"), scores(found, "baseline")).pvalue
    assert (wi["n"], wi["verdict"]) == (16, "above") and wi["p_holm"] == pytest.approx(2 * p)
    assert [line[:4] for line in said.splitlines()] == ["- 8 ", "- 16"] and said.endswith("reached")


def test_a_study_without_a_plan_has_no_primary_differences(tmp_path):
    table, said = planned.primary(tmp_path)
    assert table.empty and said == "" and list(table.columns) == list(planned.COLUMNS)


def test_the_numbers_hold_every_primary_difference_and_every_arm(found):
    numbers = report.numbers(found)
    assert numbers["primary"].tolist() == [True, True, False, False, False]
    assert numbers["arm"].tolist() == [
        "at.conv1 or at.conv5 - baseline",
        "wi - baseline",
        "baseline",
        "WI speaker",
        "AT speaker conv5",
    ]
    compared = analysis.comparison(found.table.query("layers != 'conv1'")).set_index("arm")
    row, want = numbers.iloc[4], compared.loc["AT speaker conv5"]
    assert row[["n", "test", "test_low", "mean", "low", "high", "p_holm"]].tolist() == pytest.approx(
        want[["n", "test", "low", "difference", "d_low", "d_high", "p_holm"]].tolist()
    )
    assert row["half_width"] == pytest.approx((want["d_high"] - want["d_low"]) / 2)
    interval = stats.Interval(want["difference"], want["d_low"], want["d_high"], 16)
    assert row["could_have_seen"] == pytest.approx(stats.could_have_seen(interval, tests=2))
    assert np.isnan(numbers.loc[2, "mean"]) and numbers.loc[2, "test"] == pytest.approx(
        scores(found, "baseline").mean()
    )


def test_the_dose_is_both_losses_at_start_and_end(found):
    table = found.table.query("layers != 'conv1'")
    (row,) = dose.losses(table, ["strategy", "orthogonal", "layers"]).to_dict("records")
    start = np.mean([0.2 + seed / 100 for seed in range(16)])
    assert row == {
        "arm": "AT speaker conv5",
        "AT loss, first epoch": f"{start:.3g}",
        "% of the cross-entropy, first": f"{100 * start / 2:.2g}",
        "AT loss, last epoch": "0.01",
        "% of the cross-entropy, last": "2",
    }
    assert dose.clips(table, found.units) == [
        "clips: train 208, validation 50 to 51, test 99",
        "16 repetitions on 16 splits",
    ]


def test_the_page_says_what_was_planned_and_the_dose(found, monkeypatch):
    monkeypatch.setattr(study, "commands", lambda found: [])  # reads every grid

    class Images:
        static = True

        def cell(self, figure):
            return report._text("figure")

    page = "\n".join(cell.source for cell in report._cells(found, Images()))
    for text in (
        "## Primary differences",
        "16 of at most 16 repetitions",
        "at.conv5",
        "<td>above</td>",
        "### Dose",
        "16 splits",
        "- baselines name 100.0 % of their training clips, the lowest 100.0 %\n",
    ):
        assert text in page


def test_baselines_that_did_not_learn_cast_doubt(found):
    table = found.table.copy()
    table.loc[(table["strategy"] == "baseline") & (table["seed"] == 3), "train_accuracy"] = 0.6
    assert dose.learned(table) == [
        "baselines name 97.5 % of their training clips, the lowest 60.0 %: not all have learned them, so differences to them say little"
    ]
    assert dose.learned(table[table["strategy"] == "wi"]) == []
