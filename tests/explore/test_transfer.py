"""The layer explorer's tab of transfer: pictures of made studies against what was put into them."""

from __future__ import annotations

import numpy as np
import pytest

from atlab import explore, runs
from atlab.explore import naming, studies
from atlab.transfer import relatedness
from tests.explore.small_study import page
from tests.transfer.studies import GRIDS, halves_accuracy, made


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    root = tmp_path_factory.mktemp("halves")
    made(GRIDS / "transferability.yaml", root, halves_accuracy, "tiny")
    return str(root / "transferability")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    root = tmp_path_factory.mktemp("tasks")
    made(
        GRIDS / "transfer_matrix.yaml",
        root,
        lambda p: 0.6 - 0.01 * p.get("n", 0) + 0.02 * (p["target"] == "emotion") + 0.003 * p["seed"],
        "tiny",
    )
    return str(root / "transfer_matrix")


def opened(study, **fields):
    return page("layers", study=str(study), teacher="speaker network", clips=4, **fields)


def test_halves_show_every_treatment_and_the_causes(study, halves):
    explorer = opened(study, transfer=halves)
    assert explorer.message == "" and explorer.controls["halves"].options == ("random", "man_made")
    assert explorer.state.halves == "random"
    lines = {t.name: t for t in explorer.views["transfer"].figure.data if t.mode == "lines+markers"}
    drawn = dict(zip(np.round(lines["transfer AnB"].x), lines["transfer AnB"].y, strict=True))
    middle = np.mean([0.8 + 0.05 * (half == "B") + 0.01 * seed for half in "AB" for seed in (0, 1)])
    assert drawn == pytest.approx({n: 100 * (middle - 0.05 * n / 7) for n in (1, 4, 7)})
    bars = {t.name: t for t in explorer.views["causes"].figure.data}
    assert list(bars["specificity"].y) == pytest.approx([100 * 0.03 * n / 7 for n in (1, 4, 7)])
    explorer.change(halves="man_made")
    bars = {t.name: t for t in explorer.views["causes"].figure.data}
    assert list(bars["co-adaptation"].y) == pytest.approx([100 * 0.04 * n / 7 for n in (1, 7)])


def test_tasks_show_the_matrix_and_say_what_lacks_for_the_scatter(study, tasks):
    explorer = opened(study, transfer=tasks)
    assert explorer.controls["halves"].options == ()
    pairs = relatedness.matrix(runs.table(tasks)).set_index(["n", "target", "base"])["difference"]
    for heat, n in zip(explorer.views["transfer"].figure.data, (5, 13), strict=True):
        cell = heat.z[list(heat.y).index("word")][list(heat.x).index("emotion")]
        assert cell == pytest.approx(100 * pairs[n, "word", "emotion"]) == pytest.approx(-n)
    assert "no pair of tasks and layer has both" in explorer.message
    assert explorer.views["causes"].layout.display == "none"


def test_the_gain_of_the_study_stands_beside_the_transfer(study, tasks, monkeypatch):

    table = studies.study_table(str(study))
    alike = {name: runs.table(tasks)[name].iloc[0] for name in relatedness.SAME}
    as_emotion = table.assign(orthogonal=table["orthogonal"].replace("speaker", "emotion"), **alike)
    monkeypatch.setattr(studies, "study_table", lambda name: as_emotion if name == str(study) else runs.table(name))
    explorer = opened(study, transfer=tasks)
    points, layer = explorer.views["causes"].figure.data
    assert layer.name == "conv5" and points.marker.symbol == (layer.marker.symbol,)
    at = table[(table["strategy"] == "at") & (table["layers"] == "conv5") & (table["beta"] == 1.0)]
    gain = (
        at.set_index("seed")["test_accuracy"]
        - table[table["strategy"] == "baseline"].set_index("seed")["test_accuracy"]
    )
    assert points.name == "word against emotion" and list(points.text) == ["conv5"]
    assert points.x[0] == pytest.approx(-5) and points.y[0] == pytest.approx(100 * gain.mean())


@pytest.mark.parametrize(
    ("transfer", "message"),
    [
        ("", ""),
        ("nowhere", "no study folder"),
        ("{study}", "say nothing of transfer"),
        ("{halves}", "division into halves"),
    ],
)
def test_what_is_no_study_of_transfer_is_a_sentence(study, halves, transfer, message):
    explorer = opened(
        study, transfer=transfer.format(study=study, halves=halves), halves="made" * (transfer == "{halves}")
    )
    assert message in explorer.message and bool(message) == bool(explorer.message)
    assert "<code>atlab sweep transferability</code>" in explorer.texts["transfer"].value
    assert explorer.views["transfer"].layout.display == explorer.views["causes"].layout.display == "none"
    assert explorer.views["cka"].figure is not None, "the other tabs go on"


def test_a_study_of_transfer_is_shown_for_itself(halves, tasks):
    explorer = page("layers", study=halves)
    assert explorer.state.transfer == halves and explorer.state.halves == "random"
    assert explorer.views["transfer"].figure is not None and "left no network" in explorer.message
    explorer = page("layers", study=tasks)
    assert len(explorer.views["transfer"].figure.data) == 2 and "left no network" in explorer.message


def test_networks_of_transfer_have_names():
    parameters = {"treatment": "AnB+", "n": 3, "halves": "random", "half": "B", "seed": 2}
    assert naming.arm_name(parameters, {"half"}) == "AnB+ n = 3 half B"


def test_the_code_reproduces_the_tab(study, halves):
    state = opened(study, transfer=halves, halves="man_made").state
    figures = explore.figures(state)
    assert figures["causes"] == opened(study, transfer=halves, halves="man_made").views["causes"].figure
    assert figures["transfer"].layout.title.text == "transferability, man_made halves"
