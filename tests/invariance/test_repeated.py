"""A planned study measured again: on the clips of each repetition's own split, paired by repetition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from atlab import models, runs
from atlab.data import splits
from atlab.errors import AtlabError
from atlab.invariance import repeated, report
from atlab.invariance.card import Report
from atlab.invariance.maps.agreement import agreement
from atlab.runs import notebooks, precision

NOTEBOOK = Path(__file__).parents[2] / "notebooks/experiments/study_invariance.ipynb"

PLANNED = {"half_width": 2.0, "at_most": 16, "look_every": 8}


def planned(root, arms: dict, primary: list[str], repetitions: int, data: str = "", finish=lambda run, arm, n: None):
    """A study's folder with its plan and its runs; `arms`: name -> validation accuracy."""
    folders = {arm: [] for arm in arms}
    for arm, validation in arms.items():
        for n in range(repetitions):
            given = {
                "strategy": arm,
                "seed": n,
                "split_seed": n,
                "data": data,
                "target": "word",
                "orthogonal": ["speaker"],
            }
            with runs.open_run(root, "study", given) as run:
                finish(run, arm, n)
                run.finish({"test_accuracy": 0.5 + 0.01 * n, "validation_accuracy": validation})
            folders[arm].append(run.path)
    plan = precision.parse(PLANNED, primary, list(arms), "the grid")
    precision.record(plan, root / "study", folders)
    return root / "study", folders


@pytest.fixture(scope="module")
def study(tones, networks, tmp_path_factory):
    def finish(run, arm, n):
        card = networks[0].card
        models.save(networks[(n + (arm == "at")) % 2], run.model_path, **card, data=tones.content_hash)
        splits.random(tones, (0.4, 0.1, 0.5), seed=n).save(run.path / "split.json", tones)

    arms = {"baseline": 0.5, "at": 0.5}
    root = tmp_path_factory.mktemp("repeated")
    return planned(root, arms, ["at - baseline"], 8, str(tones.path), finish)


@pytest.fixture(scope="module")
def executed(study):
    """The run of the notebook that measures the study."""
    given = {"study": "study", "layers": "conv5", "pairs": 3, "root": str(study[0].parent), "workers": 2}
    return notebooks.run(NOTEBOOK, given, root=study[0].parent, study="measured", progress=False)


@pytest.fixture(scope="module")
def card(executed):
    table = pd.read_csv(executed.path / "measured.csv", keep_default_na=False)
    return Report(table, "word", {"speaker": 3}, np.arange(0))


def test_each_repetition_is_measured_on_the_test_part_of_its_own_split(study, card, tones):
    assert card.table.groupby("name")["seed"].agg(list).to_dict() == {
        name: list(range(8)) for name in ("at", "baseline")
    }
    for n in (0, 5):
        rows = splits.random(tones, (0.4, 0.1, 0.5), seed=n).whole_test
        models_of = {arm: [paths[n]] for arm, paths in study[1].items()}
        want = report(models_of, tones, "speaker", "conv5", rows=rows, erase="", floor=False, progress=False).table
        maps = agreement(models_of, tones, rows, "speaker", most=3, progress=False).set_index("name")["counterfactual"]
        for arm in ("at", "baseline"):
            found = card.table.query("name == @arm and seed == @n").iloc[0]
            expected = want[want["name"] == arm].iloc[0]
            for column in ("balanced_accuracy", "excess_nats", "target_accuracy", "worst_group"):
                assert found[column] == pytest.approx(expected[column], rel=1e-4, abs=1e-6)
            assert found["maps"] == pytest.approx(maps[arm], rel=1e-4)


def test_differences_are_paired_by_repetition(study, executed, card):
    found = repeated.differences(study[0], card).set_index(["measure", "layer"])
    assert set(found["contrast"]) == {"at - baseline"} and set(found["n"]) == {8}
    for measure, layer in (("balanced_accuracy", "conv5"), ("excess_nats", ""), ("maps", "")):
        values = card.table.pivot(index="seed", columns="name", values=measure)
        test = scipy_stats.ttest_rel(values["at"], values["baseline"])
        low, high = test.confidence_interval(0.95)
        row = found.loc[(measure, layer)]
        np.testing.assert_allclose(
            [row["mean"], row["low"], row["high"], row["against"]],
            [(values["at"] - values["baseline"]).mean(), low, high, values["baseline"].mean()],
        )
        assert row["p_holm"] >= test.pvalue
    assert "changed" not in found.index.get_level_values("measure")  # where there is excess
    records = executed.result()["differences"]
    assert [r["mean"] for r in records] == pytest.approx(found["mean"].tolist())
    text = repeated.shown(found.reset_index()).loc["balanced accuracy conv5", "at - baseline"]
    row = found.loc[("balanced_accuracy", "conv5")]
    assert text.startswith(f"{100 * row['mean']:+.1f} [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}] from ")
    assert text.endswith(" *") == (row["p_holm"] < 0.05)


def made_up(arms, repetitions):
    rng = np.random.default_rng(0)
    rows = [
        {"name": arm, "seed": n, "layer": layer, "factor": "speaker", "chance": 0.1}
        | dict(zip(("balanced_accuracy", "target_accuracy", "changed", "maps"), rng.random(4), strict=True))
        for arm in arms
        for n in range(repetitions)
        for layer in ("conv5", "conv13")
    ]
    return Report(pd.DataFrame(rows), "word", {"speaker": 10}, np.arange(3))


def test_an_arm_that_the_pilot_chose_is_judged_on_later_repetitions(tmp_path):
    arms = {"baseline": 0.5, "at.conv1": 0.4, "at.conv5": 0.6}
    folder, _ = planned(tmp_path, arms, ["at.conv1 or at.conv5 - baseline"], 16)
    card = made_up(["baseline", "at.conv5"], 16)
    found = repeated.differences(folder, card)
    assert set(found["arm"]) == {"at.conv5"} and set(found["n"]) == {8}
    assert list(zip(found["measure"], found["layer"], strict=True)) == [
        ("balanced_accuracy", "conv5"),
        ("balanced_accuracy", "conv13"),
        ("target_accuracy", ""),
        ("changed", ""),  # there is no excess: no clip has a repetition
        ("maps", ""),
    ]
    values = card.table.query("layer == 'conv13' and seed >= 8").pivot(
        index="seed", columns="name", values="balanced_accuracy"
    )
    assert found["mean"][1] == pytest.approx((values["at.conv5"] - values["baseline"]).mean())


def test_a_study_without_a_plan_or_before_its_first_look_is_refused(tmp_path):
    with pytest.raises(AtlabError, match=r"has no plan: expected the folder of a study whose grid has `precision`"):
        repeated.measured(tmp_path, "conv5")
    folder, folders = planned(tmp_path, {"baseline": 0.5, "at": 0.5}, ["at - baseline"], 8)
    (folders["at"][3] / "done").unlink()
    with pytest.raises(AtlabError, match="not at its first look yet: expected 8 finished repetitions"):
        repeated.measured(folder, "conv5")
