"""The application: pages share what they show, a run of the table opens elsewhere, and the home page says what a study found."""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest

from atlab import AtlabError, explore, runs, stats
from atlab.experiment.settings import Settings
from atlab.explore import app, studies
from atlab.explore.compute import overview
from tests.explore.small_study import page, write_run

AT = "AT conv5 beta 1.0 seed 1"


@pytest.fixture
def opened(study):
    return explore.open(str(study), threaded=False)


def tab(application, name) -> None:
    application.tabs.selected_index = list(app.PAGES).index(name)


def test_home_names_the_study_its_runs_and_its_verdicts(opened, study):
    explorer, table = opened.explorer, runs.table(study)
    assert (
        "18 finished runs; baseline, WI, AT compared; networks learn <b>word</b> on toy; against speaker"
        in explorer.texts["about"].value
    )
    rows = {row["run"]: row for row in explorer.tables["runs"].rows}
    assert list(rows) == [name for name, n in studies.networks(str(study)).items() if n.role != "teacher"]
    at = table.query("strategy == 'at' and layers == 'conv5' and beta == 1 and seed == 1").iloc[0]
    assert (rows[AT]["test %"], rows[AT]["layers"]) == (round(100 * at["test_accuracy"], 1), "conv5")
    arm = table.query("strategy == 'at' and layers == 'conv5' and beta == 1").sort_values("seed")["test_accuracy"]
    base = table.query("strategy == 'baseline'").sort_values("seed")["test_accuracy"]
    gain = stats.paired_difference(arm.to_numpy(), base.to_numpy())
    assert (
        f"conv5 beta 1 minus baseline: {gain.percent().replace(' [', ' points [')}: <b>not decided here</b> (3 seeds, p = "
        in explorer.texts["verdicts"].value
    )
    lines = explorer.views["parallel"].figure.data[0]
    assert [axis.label for axis in lines.dimensions] == ["strategy", "layers", "beta", "seed", "test accuracy (%)"]
    assert sorted(lines.dimensions[-1]["values"]) == pytest.approx(sorted(100 * table["test_accuracy"]))


def test_an_arm_is_decided_as_one_of_all_that_are_compared(tmp_path):
    """An interval of its own above zero does not decide for the best of seven arms; Holm's p does."""
    noise = np.random.default_rng(0)
    gains = {"conv1": 0.05, "conv2": 0.2} | {f"conv{n}": 0.0 for n in range(3, 8)}
    for seed in range(4):
        settings = Settings(data="toy", seed=seed)
        write_scores(tmp_path / "many", replace(settings, strategy="baseline"), 0.5)
        for layer, gain in gains.items():
            spread = 0.02 if gain else 0.08
            score = 0.5 + gain + spread * (seed - 1.5) + 0.001 * noise.random()
            write_scores(tmp_path / "many", replace(settings, strategy="at", layers=layer), score)
    text, _ = overview.verdicts(overview.read(str(tmp_path / "many")))
    found = runs.table(tmp_path / "many").set_index("seed").sort_index()
    base = found.query("strategy == 'baseline'")["test_accuracy"]
    tests = {layer: found.query("layers == @layer and strategy == 'at'")["test_accuracy"] for layer in gains}
    p = stats.holm([stats.paired_p(tests[layer], base) for layer in gains])
    own = stats.paired_difference(tests["conv1"], base)
    assert own.low > 0 and p[0] > 0.05 > p[1]
    assert (
        f"AT speaker conv1 minus baseline: {own.percent().replace(' [', ' points [')}: <b>not decided here</b> (4 seeds, p = {p[0]:.3f};"
        in text
    )
    second = stats.paired_difference(tests["conv2"], base).percent().replace(" [", " points [")
    assert f"AT speaker conv2 minus baseline: {second}: <b>above the baseline here</b>" in text
    assert "7 arms are compared" in text


def write_scores(root, settings, test: float) -> None:
    """A finished run without a network."""
    with runs.open_run(root.parent, root.name, asdict(settings)) as run:
        scores = {"train_accuracy": 0.9, "validation_accuracy": 0.5, "test_accuracy": test}
        run.finish(scores | {"epochs_run": 1, "classes": 10})


@pytest.mark.parametrize(("scores", "near"), [((0.08, 0.11, 0.14), True), ((0.5, 0.51, 0.52), False)])
def test_home_says_how_baselines_do_beside_chance(tmp_path, scores, near):
    for seed, score in enumerate(scores):
        write_scores(tmp_path / "digits", Settings(data="toy", strategy="baseline", seed=seed), score)
    said = overview.about(overview.read(str(tmp_path / "digits")))
    mean = f"{100 * np.mean(scores):.1f}"
    assert f"Baselines: {mean} % test accuracy, 90.0 % in training; chance is 10.0 % (10 classes)." in said
    assert ("not distinguishable from chance" in said) == near


def test_a_run_of_the_table_opens_on_another_page_with_what_is_shared(opened, study):
    table = opened.explorer.tables["runs"]
    table._handle_custom_msg({"run": AT, "action": "Layers"}, [])
    assert opened.explorer.page.title == "Layers"
    assert (opened.explorer.state.study, opened.explorer.state.network) == (str(study), AT)
    opened.explorer.change(layer="conv9", clip="word1-speaker0-1")
    tab(opened, "grad-cam")
    maps = opened.explorer
    assert (maps.state.network, maps.state.layer, maps.state.clip) == (AT, "conv9", "word1-speaker0-1")
    assert AT in maps.state.networks and maps.message == ""
    maps.change(clip="word2-speaker0-0")
    tab(opened, "data")
    assert opened.explorer.state.clip == "word2-speaker0-0"
    tab(opened, "layers")
    assert opened.explorer.state.clip == "word2-speaker0-0"
    assert not maps.awake and opened.explorer.awake
    assert "clip=word2-speaker0-0" in opened.query and opened.query.startswith("page=layers&")


def test_another_study_begins_anew_on_every_page(opened, study, tmp_path):
    tab(opened, "grad-cam")
    opened.explorer.change(clip="word2-speaker0-0")
    shutil.copytree(study, tmp_path / "other")
    tab(opened, "home")
    opened.explorer.change(study=str(tmp_path / "other"))
    tab(opened, "grad-cam")
    assert (opened.explorer.state.study, opened.explorer.state.clip) == (str(tmp_path / "other"), "word0-speaker0-0")


def test_a_layer_of_the_effect_opens_its_best_network(opened, study):
    tab(opened, "layers")
    opened.explorer.views["effect"].clicked = {"x": 1, "y": 0.0, "curve": 0, "customdata": "conv5", "count": 1}
    best = max(
        (n for n in studies.networks(str(study)).values() if n.layers == ("conv5",) and n.strategy == "at"),
        key=lambda n: n.validation,
    )
    assert opened.explorer.page.title == "Grad-CAM"
    assert (opened.explorer.state.network, opened.explorer.state.layer) == (best.label, "conv5")


def test_the_newest_finished_study_is_opened(study, tmp_path, monkeypatch):
    monkeypatch.setenv("ATLAB_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # the runs of the folder that the tests are started in come first
    (tmp_path / "runs").mkdir()
    assert studies.finished() == []
    with pytest.raises(AtlabError, match="there is no finished study yet"):
        explore.figures(explore.AblationState())
    for name in ("old", "new", "networks"):
        shutil.copytree(study, tmp_path / "runs" / name)
        for done in (tmp_path / "runs" / name).glob("*/done"):
            done.touch()
    assert studies.finished() == ["runs/new", "runs/old"]
    explorer = page("home")
    assert explorer.state.study == "runs/new" and explorer.controls["study"].options == ("runs/new", "runs/old")


def test_a_study_of_trained_networks_is_opened_before_the_record_of_a_notebook(study, tmp_path, monkeypatch):
    monkeypatch.setenv("ATLAB_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # the runs of the folder that the tests are started in come first
    shutil.copytree(study, tmp_path / "runs" / "small")
    write_scores(tmp_path / "runs" / "07_image_study", Settings(data="toy"), 0.5)  # the newest, without a network
    assert studies.finished() == ["runs/small", "runs/07_image_study"]
    assert page("home").state.study == "runs/small"
    absent = page("home", study="runs/absent")
    assert "There is no study folder" in absent.message and absent.controls["study"].value is None


def test_what_a_second_sweep_computed_again_is_listed_once(study, toy, tmp_path):
    shutil.copytree(study, tmp_path / "small")
    base = Settings(data=str(toy.path), width=1 / 32, epochs=2, layers="conv9")
    for seed in (0, 1, 2):
        for strategy in ("baseline", "wi"):
            write_run(tmp_path, "small", replace(base, strategy=strategy, seed=seed), toy, "word")
    explorer = page("home", study=str(tmp_path / "small"))
    assert "24 finished runs (6 repeat another run: they count once)" in explorer.texts["about"].value
    labels = [row["run"] for row in explorer.tables["runs"].rows]
    assert len(labels) == 18 and not any("(" in label for label in labels)
    assert "minus baseline" in explorer.texts["verdicts"].value and explorer.message == ""


def test_what_is_unfinished_is_counted_and_what_cannot_be_compared_is_said(study, tmp_path):
    baselines = runs.table(study).query("strategy == 'baseline'")["path"]
    for path in baselines:
        shutil.copytree(path, tmp_path / "few" / re.split(r"[/\\]", path)[-1])
    next((tmp_path / "few").glob("*/done")).unlink()
    explorer = page("home", study=str(tmp_path / "few"))
    assert "2 finished runs, 1 unfinished" in explorer.texts["about"].value
    assert (
        "nothing is compared" in explorer.texts["verdicts"].value
        and explorer.views["differences"].layout.display == "none"
    )
    assert overview.read(str(tmp_path / "few")).unfinished


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"page": "maps"}, "unknown page 'maps'"),
        ({"page": "layers", "lair": "conv5"}, "unknown field of the page 'layers' 'lair'; nearest: 'layer'"),
    ],
)
def test_an_unknown_page_or_field_is_refused(study, arguments, said):
    with pytest.raises(AtlabError, match=said):
        explore.open(str(study), **arguments)
