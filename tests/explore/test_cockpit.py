"""The cockpit: a training in its own process is watched, stopped, resumed with the same bits and kept."""

from __future__ import annotations

import html
import json
import os
import re
import time
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from atlab import AtlabError, explore, runs
from atlab.experiment.settings import Settings
from atlab.explore import process
from atlab.explore.process import Training, checkpoint_history, keep, run_path
from atlab.explore.views import cockpit as show_cockpit
from tests.explore.small_study import page

SMALL = {"strategy": "baseline", "width": 1 / 32, "epochs": 2, "batch_size": 16, "clips": 24}


def cockpit(toy, root, **fields):
    return page("cockpit", data=str(toy.path), study=str(root / "none"), **SMALL | fields)


def button(explorer, name):
    def every(widget):
        yield widget
        for child in getattr(widget, "children", ()):
            yield from every(child)

    return next(w for w in every(explorer) if f"atlab-{name}" in getattr(w, "_dom_classes", ()))


@pytest.fixture(scope="module")
def finished(toy, tmp_path_factory):
    """A root with one finished training, and its explorer."""
    root = tmp_path_factory.mktemp("cockpit")
    explorer = cockpit(toy, root)
    button(explorer, "run").click()
    show_cockpit.training_of(explorer.state).wait(300)
    explorer.refresh()
    return root, explorer


def test_a_training_ends_as_a_finished_run_and_its_curves_are_shown(finished, toy):
    root, explorer = finished
    run = runs.Run(next((root / "cockpit").glob("*/done")).parent)
    assert run.parameters["width"] == 1 / 32 and run.parameters["target"] == "word"
    assert "done" in explorer.texts["status"].value and explorer.message == ""
    history, figure = run.history(), explorer.views["curves"].figure
    np.testing.assert_allclose(figure.data[0].y, history["train_loss"])
    np.testing.assert_allclose(figure.data[1].y, history["validation_loss"])
    assert f"{run.result()['test_accuracy']:.4f}"[:5] in explorer.texts["result"].value


def test_it_is_the_run_that_experiment_train_would_make(finished, toy):
    from atlab import experiment

    root, explorer = finished
    settings = show_cockpit.settings_of(explorer.state)
    assert experiment.train(settings, root, "cockpit").done  # opened, not trained again
    assert run_path(settings, root, "cockpit") == next((root / "cockpit").glob("*/done")).parent


def test_a_finished_run_is_kept_in_another_study(finished, toy):
    root, explorer = finished
    button(explorer, "keep-as").value = "kept"
    button(explorer, "keep").click()
    kept = next((root / "kept").glob("*/done")).parent
    assert json.loads((kept / "params.json").read_text())["study"] == "kept"
    assert runs.Run(kept).result() == runs.Run(root / "cockpit" / kept.name).result()
    button(explorer, "keep").click()
    assert "This run is in kept already" in button(explorer, "kept").value
    button(explorer, "keep-as").value = "../away"
    button(explorer, "keep").click()
    assert "allowed: letters, digits" in button(explorer, "kept").value


def test_other_runs_of_the_study_stand_beside_it(finished):
    _root, explorer = finished
    assert explorer.controls["compare"].options == ("baseline seed 0",)
    explorer.change(compare=("baseline seed 0",), seed=1)
    assert [t.name for t in explorer.views["curves"].figure.data] == [
        "baseline seed 0, train",
        "baseline seed 0, validation",
    ]
    assert "not started" in explorer.texts["status"].value
    explorer.change(compare=(), seed=0)


def test_an_unfinished_run_is_not_kept(toy, tmp_path):
    explorer = cockpit(toy, tmp_path)
    with pytest.raises(AtlabError, match="only a finished run can be kept"):
        keep(show_cockpit.training_of(explorer.state), "kept")
    assert "not started" in explorer.texts["status"].value


def test_a_stopped_training_goes_on_where_it_was(toy, tmp_path, finished):
    """Its history is the one of a training that was never stopped: the first epochs are not done again."""
    explorer = cockpit(toy, tmp_path, epochs=40)
    training = show_cockpit.training_of(explorer.state)
    button(explorer, "run").click()
    limit = time.monotonic() + 200
    while len(checkpoint_history(training.path / "checkpoint.safetensors")) < 2 and time.monotonic() < limit:
        assert training.running, training.status()
        time.sleep(0.02)
    assert process.unfinished(tmp_path) == [training.path]
    other = page("cockpit", study=str(tmp_path / "none"), data=str(toy.path), watch="latest")
    assert re.search(r"epoch \d+ of at most 40, at most \d+:\d\d:\d\d left", other.texts["status"].value)
    assert len(other.views["curves"].figure.data) == 2 and "Trainings that run (1)" in other.texts["running"].value
    button(explorer, "stop").click()
    before = checkpoint_history(training.path / "checkpoint.safetensors")
    assert not training.running and 2 <= len(before) < 40
    assert "stopped" in explorer.texts["status"].value and button(explorer, "run").description == "Resume"
    assert len(explorer.views["curves"].figure.data[0].y) == len(before)
    button(explorer, "run").click()
    training.wait(300)
    explorer.refresh()
    after = runs.Run(training.path).history()
    assert len(after) == 40
    pd.testing.assert_frame_equal(after.head(len(before)), before)
    assert button(explorer, "run").description == "Start"


def test_a_training_ends_with_its_notebook(toy, tmp_path):
    training = show_cockpit.training_of(cockpit(toy, tmp_path, epochs=50, seed=5).state)
    training.start()
    assert training.running
    training._process.stdin.close()  # what the end of the kernel does
    training.wait(60)
    assert not training.running and not (training.path / "done").exists()


def test_the_networks_that_a_strategy_takes_come_first(toy, tmp_path):
    settings = Settings(data=str(toy.path), split="random", width=1 / 32, epochs=1, strategy="at")
    training = Training(settings, tmp_path, "cockpit")
    need, path = training._present()
    assert need.role == "teacher" and path.parent.name == "networks"
    path.mkdir(parents=True)
    runs.mark_done(path)
    assert training._present() == (settings, training.path)
    assert Training(settings, tmp_path, "cockpit") is training


def test_a_root_that_is_made_by_the_run_is_the_same_root(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = show_cockpit.CockpitState(data=str(toy.path), study="trials/none")
    training = show_cockpit.training_of(state)
    (tmp_path / "trials").mkdir()
    assert show_cockpit.training_of(state) is training


def test_a_training_that_fails_says_why(toy, tmp_path):
    settings = Settings(data=str(toy.path), split="random", width=1 / 32, epochs=1, strategy="at", layers="features.99")
    training = Training(settings, tmp_path, "cockpit")
    training.start()
    status = training.wait(300).status()
    assert status.state == "failed" and "unknown layer" in status.sentence and "features.99" in status.sentence


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": "nowhere"}, "No data set at 'nowhere'"),
        ({"split": "even"}, "Unknown split 'even'"),
        ({"strategy": "dual_at"}, "takes two orthogonal factors"),
    ],
)
def test_what_cannot_be_trained_is_said(toy, tmp_path, change, said):
    explorer = cockpit(toy, tmp_path)
    explorer.change(**change)
    assert said in explorer.message
    button(explorer, "run").click()
    assert said in html.unescape(button(explorer, "kept").value)


def test_a_damaged_checkpoint_has_no_history(tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"{}")
    assert checkpoint_history(tmp_path / "checkpoint.safetensors").empty
    assert checkpoint_history(tmp_path / "none.safetensors").empty


def test_the_time_left_is_the_epochs_left_at_their_usual_length(toy, tmp_path, monkeypatch):
    with runs.open_run(tmp_path, "sweep", asdict(Settings(data=str(toy.path), epochs=10))) as run:
        run.checkpoint_path.touch()
        monkeypatch.setattr(
            process, "checkpoint_history", lambda path: pd.DataFrame({"epoch": [1, 2, 3], "seconds": [9.0, 20.0, 21.0]})
        )
        assert process.watched(run.path).sentence == "epoch 3 of at most 10, at most 0:02:20 left"
        assert process.unfinished(tmp_path) == [run.path]
        for file in run.path.iterdir():
            os.utime(file, (0, 0))
        assert process.unfinished(tmp_path) == []  # given up long ago
        assert "last sign of life" in process.watched(run.path).sentence


def test_noise_belongs_to_the_runs_name(toy, tmp_path):
    settings = Settings(data=str(toy.path), noise="low")
    assert run_path(settings, tmp_path, "s") != run_path(
        Settings(**asdict(settings) | {"noise": "none"}), tmp_path, "s"
    )
    with pytest.raises(AtlabError, match="unknown noise 'rain'"):
        run_path(Settings(data=str(toy.path), noise="rain"), tmp_path, "s")


def test_state_and_code_bring_the_view_back(finished):
    _, explorer = finished
    assert explore.open(explorer.state, threaded=False).explorer.state == explorer.state
    space: dict = {}
    exec(explorer.code.rpartition("for figure")[0], space)
    assert space["figures"]["curves"] == explorer.views["curves"].figure
    assert process.STATES[-1] == "done"


def test_it_says_what_a_start_would_do(toy, tmp_path):
    explorer = cockpit(toy, tmp_path, strategy="at")
    said = html.unescape(explorer.texts["status"].value)
    assert "Start trains AT conv5 speaker for" in said and "after the speaker network" in said
    explorer.change(strategy="baseline")
    assert "after" not in explorer.texts["status"].value


def test_trainings_that_run_are_named_by_what_they_differ_in(toy, tmp_path):
    for layer in ("conv1", "conv5"):
        with runs.open_run(tmp_path, "sweep", asdict(Settings(data=str(toy.path), layers=layer))):
            pass
    alive = process.unfinished(tmp_path)
    names = {show_cockpit._name(path, alive) for path in alive}
    assert names == {"AT conv1 speaker seed 0", "AT conv5 speaker seed 0"}
