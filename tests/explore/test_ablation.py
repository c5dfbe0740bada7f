"""The ablation explorer: cells, curves, intervals, filters and exports against pandas and scipy here."""

from __future__ import annotations

import base64
import io
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from atlab import AtlabError, explore, runs
from atlab.explore.compute import ablation as compute
from atlab.explore.widgets.inputs import values
from tests.explore.small_study import page


@pytest.fixture
def explorer(study):
    return page("ablation", study=str(study))


@pytest.fixture
def at(study):
    table = runs.table(study)
    return table[table["strategy"] == "at"]


def interval(values) -> float:
    """Half the 95 % t interval."""
    values = np.asarray(values, float)
    return stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))


def test_it_finds_what_the_study_varies(explorer):
    assert explorer.controls["x"].options == ("strategy", "layers", "beta", "seed")
    assert explorer.state.metric == "test_accuracy" and (explorer.state.x, explorer.state.y) == ("layers", "beta")
    assert "A cell averages runs that differ in: seed (0, 1, 2)." in explorer.texts["pooled"].value
    assert "6 runs that have no layers or no beta" in explorer.texts["pooled"].value
    assert [label for label, _ in explorer.controls["metric"].options[:1]] == ["test accuracy"]
    assert set(values(explorer.controls["metric"])) == {
        "test_accuracy",
        "validation_accuracy",
        "train_accuracy",
        "epochs_run",
    }


def test_the_heat_map_has_the_mean_of_every_pair(explorer, at):
    explorer.change(x="beta", y="layers", where=(("strategy", ("at",)),))
    heat = explorer.views["cells"].figure.data[0]
    assert list(heat.x) == ["0.5", "1.0"] and list(heat.y) == ["conv1", "conv5"]
    for i, layer in enumerate(heat.y):
        for j, beta in enumerate(heat.x):
            mine = 100 * at[(at["layers"] == layer) & (at["beta"] == float(beta))]["test_accuracy"]
            assert np.asarray(heat.z)[i, j] == pytest.approx(mine.mean())
            half = interval(mine)
            assert (
                heat.text[i][j]
                == f"{mine.mean():.1f}<br>[{max(mine.mean() - half, 0):.1f}, {min(mine.mean() + half, 100):.1f}]<br>n = 3"
            )
    assert explorer.views["cells"].figure.layout.yaxis.title.text == "layers"


def test_curves_have_intervals_and_runs_as_points(explorer, at):
    explorer.change(x="beta", y="layers", kind="curves", metric="train_accuracy", where=(("strategy", ("at",)),))
    dots, line, *_ = explorer.views["cells"].figure.data
    mine = 100 * at[at["layers"] == "conv1"].sort_values(["beta", "seed"]).groupby("beta")["train_accuracy"].apply(list)
    np.testing.assert_allclose(
        line.y, [np.mean(v) * 100 for v in at[at["layers"] == "conv1"].groupby("beta")["train_accuracy"].apply(list)]
    )
    assert len(mine) == 2 * 100 or len(mine) == 2  # two betas
    groups = [100 * g for _, g in at[at["layers"] == "conv1"].groupby("beta")["train_accuracy"]]
    np.testing.assert_allclose(line.error_y.array, [min(interval(g), 100 - g.mean()) for g in groups])
    np.testing.assert_allclose(line.error_y.arrayminus, [min(interval(g), g.mean()) for g in groups])
    assert sorted(dots.y) == pytest.approx(sorted(100 * at[at["layers"] == "conv1"]["train_accuracy"]))
    assert explorer.views["cells"].figure.layout.xaxis.type == "linear"


def test_a_wide_numeric_axis_is_logarithmic():
    cells = pd.DataFrame({"x": ["0.01", "1", "10"], "y": "", "mean": 0.5, "low": 0.4, "high": 0.6, "n": 3})
    points = pd.DataFrame({"x": ["0.01"], "y": [""], "value": [0.5]})
    from atlab import plots

    assert plots.sweep_curves(cells, points, "beta", "", "test_accuracy").layout.xaxis.type == "log"
    text = plots.sweep_curves(cells.assign(x=["a", "b", "c"]), points.assign(x="a"), "kind", "", "loss")
    assert list(text.layout.xaxis.ticktext) == ["a", "b", "c"] and text.layout.yaxis.title.text == "loss"


def test_differences_are_to_the_baseline_of_the_seed(explorer, study, at):
    base = runs.table(study).query("strategy == 'baseline'").set_index("seed")["test_accuracy"]
    explorer.change(x="layers", y="-", where=(("strategy", ("at",)),), difference=True)
    heat = explorer.views["cells"].figure.data[0]
    for layer, value in zip(heat.x, np.asarray(heat.z)[0], strict=True):
        part = at[at["layers"] == layer]
        assert value == pytest.approx(
            100 * (part["test_accuracy"].to_numpy() - base.loc[part["seed"]].to_numpy()).mean()
        )
    assert heat.zmid == 0 and "minus baseline" in explorer.views["cells"].figure.layout.title.text


def test_a_click_opens_a_cell_its_runs_and_learning_curves(explorer, at):
    explorer.change(x="beta", y="layers", where=(("strategy", ("at",)),))
    explorer.views["cells"].clicked = {"x": "0.5", "y": "conv5", "curve": 0, "count": 1}
    assert explorer.state.cell == ("0.5", "conv5")
    chosen = at[(at["layers"] == "conv5") & (at["beta"] == 0.5)]
    points = next(t for t in explorer.views["runs"].figure.data if t.name == "test_accuracy, runs")
    assert sorted(points.y) == pytest.approx(sorted(chosen["test_accuracy"]))
    mean = next(t for t in explorer.views["runs"].figure.data if t.name == "test_accuracy, mean")
    accuracies = chosen["test_accuracy"]
    ends = min(accuracies.mean() + interval(accuracies), 1), max(accuracies.mean() - interval(accuracies), 0)
    assert mean.y[0] == pytest.approx(accuracies.mean())
    assert (mean.y[0] + mean.error_y.array[0], mean.y[0] - mean.error_y.arrayminus[0]) == pytest.approx(ends)
    curves = {t.name: t for t in explorer.views["curves"].figure.data if t.xaxis != "x2"}
    history = runs.Run(chosen.set_index("seed").loc[1, "path"]).history()
    assert list(curves["seed 1, train"].y) == pytest.approx(history["train_loss"].tolist())
    apart = [t for t in explorer.views["curves"].figure.data if t.xaxis == "x2" and t.name == "seed 1, train"]
    assert list(apart[0].y) == pytest.approx(history["train_at"].tolist())
    assert all(run in explorer.texts["table"].value for run in chosen["id"])
    frame = explorer.views["cells"].figure.layout.shapes[0]
    assert (frame.x0, frame.y0) == (-0.5, 0.5)
    explorer.controls["cell"].value = ("0.5", "conv1")  # the keyboard's way
    assert "layers conv1" in explorer.views["runs"].figure.layout.title.text


def test_a_click_on_a_curve_opens_its_cell(explorer):
    explorer.change(x="beta", y="layers", kind="curves", where=(("strategy", ("at",)),))
    explorer.views["cells"].clicked = {"x": 1, "y": 50, "curve": 1, "customdata": ["1.0", "conv1"], "count": 1}
    assert explorer.state.cell == ("1.0", "conv1")


def test_filters_add_up_and_are_taken_back(explorer):
    box = next(
        c for c in explorer.children if getattr(c, "children", ()) and "atlab-filter-by" in c.children[0]._dom_classes
    )
    name, values, clear, told = box.children
    name.value = "strategy"
    assert values.options == ("at", "baseline", "wi")
    values.value = ("at",)
    name.value = "seed"
    values.value = ("0", "2")
    assert explorer.state.where == (("strategy", ("at",)), ("seed", ("0", "2")))
    assert told.value == "strategy: at; seed: 0, 2"
    explorer.change(x="layers", y="beta")
    assert all("n = 2" in cell for row in explorer.views["cells"].figure.data[0].text for cell in row)
    name.value = "strategy"
    assert values.value == ("at",)
    clear.click()
    assert explorer.state.where == () and told.value == "all runs" and values.value == ()


def test_exports_hold_the_cells_and_the_runs(explorer, at):
    explorer.change(x="beta", y="layers", where=(("strategy", ("at",)),))
    links = dict(
        re.findall(r"download='([^']+)' href='data:text/plain;base64,([^']+)'", explorer.texts["export"].value)
    )
    files = {name: base64.b64decode(data).decode() for name, data in links.items()}
    assert set(files) == {"small_cells.csv", "small_cells.tex", "small_runs.csv"}
    cells = pd.read_csv(io.StringIO(files["small_cells.csv"])).set_index(["layers", "beta"])
    mine = at[(at["layers"] == "conv1") & (at["beta"] == 0.5)]["test_accuracy"]
    assert cells.loc[("conv1", 0.5), "mean"] == pytest.approx(mine.mean()) and cells.loc[("conv1", 0.5), "n"] == 3
    low, high = (100 * np.clip(mine.mean() + sign * interval(mine), 0, 1) for sign in (-1, 1))
    assert f"conv1 & {100 * mine.mean():.1f} [{low:.1f}, {high:.1f}] &" in files["small_cells.tex"]
    assert r"\toprule" in files["small_cells.tex"] and "layers / beta & 0.5 & 1.0" in files["small_cells.tex"]
    assert sorted(pd.read_csv(io.StringIO(files["small_runs.csv"]))["id"]) == sorted(at["id"])


def test_latex_escapes_and_marks_what_is_missing():
    cells = pd.DataFrame(
        [("a_b", "u", 0.5, np.nan, np.nan, 1), ("c", "v&w", 2.0, 1.0, 3.0, 2)],
        columns=["x", "y", "mean", "low", "high", "n"],
    )
    text = compute.latex(cells, "x_1", "y", "loss", percent=False)
    assert r"y / x\_1 & a\_b & c \\" in text and r"u & 0.5 & -- \\" in text and r"v\&w & -- & 2.0 [1.0, 3.0] \\" in text


def test_layers_and_numbers_are_in_their_order():
    table = pd.DataFrame({"layers": ["conv13", "conv2", "-", "conv1,conv5"], "beta": [10.0, 2.0, 0.5, 1.0]})
    assert compute.values_of(table, "layers") == ["-", "conv1,conv5", "conv2", "conv13"]
    assert compute.values_of(table, "beta") == ["0.5", "1.0", "2.0", "10.0"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"study": "runs/none"}, "There is no study folder 'runs/none'"),
        ({"x": "temperature"}, "Unknown parameter that runs differ in 'temperature'"),
        ({"metric": "test_acuracy"}, "Unknown result 'test_acuracy'; nearest: 'test_accuracy'"),
        ({"kind": "pie"}, "Unknown kind of figure 'pie'"),
        ({"where": (("strategy", ("wii",)),)}, "Unknown value of 'strategy' among the runs left 'wii'; nearest: 'wi'"),
        ({"where": (("colour", ("red",)),)}, "Unknown parameter 'colour'"),
        ({"cell": ("conv9", "1.0")}, "No run has layers conv9 and beta 1.0: the best cell is shown"),
        (
            {"where": (("strategy", ("baseline",)),), "difference": True},
            "None of the runs shown has a value of test_accuracy",
        ),
    ],
)
def test_what_cannot_be_shown_is_said(explorer, change, said):
    explorer.change(**change)
    assert said in explorer.message and "Traceback" not in explorer.message


def test_an_unfinished_or_foreign_study_is_said(explorer, study, tmp_path):
    run = next(path.parent for path in study.glob("*/done"))
    shutil.copytree(run, tmp_path / "unfinished" / run.name, ignore=lambda *_: ["done"])
    explorer.change(study=str(tmp_path / "unfinished"))
    assert "has no finished run yet" in explorer.message
    shutil.copytree(run, tmp_path / "bare" / run.name, ignore=lambda *_: ["history.parquet", "model.safetensors"])
    runs.mark_done(tmp_path / "bare" / run.name)
    explorer.change(study=str(tmp_path / "bare"))
    assert "has no history.parquet" in explorer.message and explorer.views["curves"].layout.display == "none"
    (tmp_path / "bare" / run.name / "result.json").write_text("{}")
    runs.mark_done(tmp_path / "bare" / run.name)
    explorer.refresh()
    assert "no numbers among their results" in explorer.message
    with pytest.raises(AtlabError, match="no run is left"):
        compute.filtered(pd.DataFrame({"seed": []}), ())


def test_a_changed_axis_starts_with_a_cell_of_its_own(explorer):
    explorer.change(x="strategy", y="-", cell=("wi", ""))
    explorer.controls["x"].value = "beta"
    assert explorer.message == "" and explorer.state.cell == explorer.controls["cell"].value != ("wi", "")


def test_new_runs_are_seen(explorer, study, toy, tmp_path):
    shutil.copytree(study, tmp_path / "growing")
    explorer.change(study=str(tmp_path / "growing"), x="strategy", y="-")
    before = explorer.views["cells"].figure.data[0].text[0][1]
    shutil.rmtree(next(path for path in runs.table(tmp_path / "growing").query("strategy == 'baseline'")["path"]))
    explorer.refresh()
    assert before.endswith("n = 3") and explorer.views["cells"].figure.data[0].text[0][1].endswith("n = 2")


def test_state_and_code_bring_the_view_back(explorer):
    explorer.change(x="layers", y="beta", where=(("strategy", ("at",)),), kind="curves")
    assert explore.open(explorer.state, threaded=False).explorer.state == explorer.state
    space: dict = {}
    exec(explorer.code.rpartition("for figure")[0], space)
    assert space["figures"]["cells"] == explorer.views["cells"].figure
