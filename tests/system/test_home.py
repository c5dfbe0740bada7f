"""One home: the same runs/, data/ and notebooks from every folder of a project, and from outside with $ATLAB_HOME."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import atlab
from atlab import runs
from atlab.errors import AtlabError
from atlab.runs import notebooks
from atlab.system import project
from atlab.system.home import home, in_home, named, packaged_notebooks

PLACES = ["project", "project/notebooks/tutorials", "project/runs/words/0123", "unrelated"]


@pytest.fixture
def made(tmp_path, monkeypatch) -> Path:
    """A project with a data set and a run, and a folder outside it."""
    monkeypatch.delenv("ATLAB_HOME", raising=False)
    monkeypatch.delenv("ATLAB_DATA", raising=False)
    root = tmp_path / "project"
    project.create(root)
    atlab.data.toy(root / "data/tones")
    (root / "runs/words/0123").mkdir(parents=True)
    (tmp_path / "unrelated").mkdir()
    return root


def _stand(place: str, made: Path, monkeypatch) -> None:
    monkeypatch.chdir(made.parent / place)
    if place == "unrelated":
        monkeypatch.setenv("ATLAB_HOME", str(made))


@pytest.mark.parametrize("place", PLACES)
def test_every_place_finds_the_same_folders(place, made, monkeypatch):
    _stand(place, made, monkeypatch)
    assert home() == made
    for name in ("tones", "data/tones"):
        assert atlab.experiment.load_data(name).path.resolve() == made / "data/tones"
    assert named("train", ".ipynb") == made / "notebooks/experiments/train.ipynb"
    with runs.open_run("runs", "words", {"seed": 1}) as run:
        run.finish({"test_accuracy": 0.5})
    assert run.path.resolve().parent == made / "runs/words"
    assert runs.table("runs/words")["test_accuracy"].tolist() == [0.5]


def test_a_run_has_one_id_from_every_place(made, monkeypatch):
    """The id holds the content of the data set, which is found from everywhere."""
    found = set()
    for place in PLACES:
        _stand(place, made, monkeypatch)
        (run,) = notebooks.places(named("train", ".ipynb"), [{"data": "data/tones"}])
        found.add(run.resolve())
    assert len(found) == 1
    card = made / "data/tones/card.json"
    card.write_text(card.read_text().replace("content_hash", "hash_of_content"))
    assert notebooks.places(named("train", ".ipynb"), [{"data": "data/tones"}])[0].resolve() not in found


@pytest.mark.parametrize("place", PLACES)
def test_the_command_line_and_another_process_agree(place, made, monkeypatch):
    _stand(place, made, monkeypatch)
    code = "import sys; from atlab.cli import command; sys.argv = ['atlab', 'data', 'show', 'tones']; command()"
    environment = {**os.environ, "PYTHONPATH": str(Path(atlab.__file__).parents[1])}
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "audio clips at" in listed.stdout


def test_without_a_project_the_current_folder_is_home(tmp_path, monkeypatch):
    monkeypatch.delenv("ATLAB_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert home() == tmp_path and in_home("runs") == Path("runs")


def test_a_home_that_is_no_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ATLAB_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(AtlabError, match=r"expected a folder in the environment variable ATLAB_HOME, got '.*nowhere'"):
        home()


def test_a_name_is_a_path_then_the_projects_then_packaged(made, monkeypatch):
    monkeypatch.chdir(made)
    shipped = packaged_notebooks() / "experiments/train.ipynb"
    mine = made / "notebooks/experiments/train.ipynb"
    assert named("train", ".ipynb") == named("experiments/train.ipynb", ".ipynb") == mine
    assert named("notebooks/experiments/train", ".ipynb") == mine
    mine.unlink()
    assert named("train", ".ipynb") == named("notebooks/experiments/train.ipynb", ".ipynb") == shipped
    Path("train").write_text("")
    assert named("train", ".ipynb") == Path("train")
    checkpoints = made / "notebooks/experiments/.ipynb_checkpoints"
    checkpoints.mkdir()
    (checkpoints / "draft.ipynb").write_text("")
    with pytest.raises(AtlabError, match="unknown notebook 'draft'"):
        named("draft", ".ipynb")


def test_a_name_that_is_missing_or_ambiguous_is_said(made, monkeypatch):
    monkeypatch.chdir(made)
    with pytest.raises(AtlabError, match=r"unknown grid 'table3_word'; nearest: 'table3_words'"):
        named("table3_word", ".yaml")
    with pytest.raises(AtlabError, match=r"unknown notebook 'rain'; nearest: 'train'"):
        named("rain.ipynb", ".ipynb")
    (made / "notebooks/train.ipynb").write_text("")
    with pytest.raises(
        AtlabError, match=r"notebook 'train' is one of 2: notebooks/experiments/train.ipynb, notebooks/train"
    ):
        named("train", ".ipynb")


def test_a_project_is_made_only_in_an_empty_folder(tmp_path):
    project.create(tmp_path / "new")
    assert (tmp_path / "new/notebooks/experiments/grids/table3_words.yaml").is_file()
    assert (tmp_path / "new/.gitignore").read_text().split()[:2] == ["/data/", "/runs/"]
    (tmp_path / "new/mine.txt").write_text("kept")
    with pytest.raises(AtlabError, match="expected a new or empty folder"):
        project.create(tmp_path / "new")
    with pytest.raises(AtlabError, match="expected a new or empty folder"):
        project.create(tmp_path / "new/mine.txt")
    assert (tmp_path / "new/mine.txt").read_text() == "kept"
