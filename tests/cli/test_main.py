"""The `atlab` command: what it prints, how it ends, and that a mistake is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from typer.testing import CliRunner

import atlab
from atlab import runs
from atlab.cli import doctor
from atlab.cli.main import app
from atlab.data import Clip, build
from atlab.runs import execution


def call(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in args])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def notebook(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    cell = nbformat.v4.new_code_cell("seed = 0  # >= 0\nname = ''", metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "trial.ipynb")

    def pretend(notebook, given, out, *_):
        nbformat.write(nbformat.v4.new_notebook(metadata={"papermill": {}, "given": dict(given)}), out)

    monkeypatch.setattr(execution, "_papermill", pretend)
    return Path("trial.ipynb")


def _convert(item):
    word, speaker, seconds = item
    wave = np.full(800, 100, dtype=np.int16)
    row = {"id": f"{word}-{speaker}", "source": f"{speaker}.wav", "duration": seconds, "word": word, "speaker": speaker}
    return [Clip(wave, row)]


CARD = {
    "name": "tiny",
    "kind": "audio",
    "licence": "CC0",
    "citation": "Nobody, 2020",
    "recipe": "tiny",
    "recipe_version": 1,
    "parameters": {},
    "seed": 0,
    "sample_rate": 8000,
}


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    items = [(word, speaker, 0.1) for word in ("no", "yes") for speaker in ("ann", "bob", "cid")]
    build(tmp_path / "data/tiny", items, _convert, card=CARD, factors=["word", "speaker"], workers=1)
    return tmp_path / "data/tiny"


def test_version_and_help():
    assert call("--version") == (0, f"atlab {atlab.__version__}\n")
    code, text = call("--help")
    assert code == 0 and all(command in text for command in ("run", "data", "doctor"))


def test_data_verify_says_whether_a_set_is_what_its_card_says(tiny):
    code, text = call("data", "verify", "tiny")
    assert code == 0 and "6 clips match the card" in text
    card = json.loads((tiny / "card.json").read_text())
    (tiny / "card.json").write_text(json.dumps(card | {"content_hash": "0" * 64}))
    code, text = call("data", "verify", tiny)
    assert code == 2 and "is not what its card says" in text
    code, text = call("data", "verify", "nowhere")
    assert code == 2 and "nowhere is not a prepared data set" in text


LOADED = """
import sys
from atlab.cli import command
try:
    command()
finally:
    print(*(name for name in {"torch", "torchaudio", "torchvision", "librosa", "pandas", "plotly"} if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("args", "allowed"),
    [
        (["--help"], set()),
        (["--version"], set()),
        (["run", "trial.ipynb", "-p", "sed", "3"], set()),
        (["run", "nowhere.ipynb"], set()),
        (["data", "list"], {"pandas"}),
        (["data", "show", "data/tiny"], {"pandas"}),
        (["data", "prepare", "gsc"], {"pandas"}),
        (["sweep", "small.yaml", "--dry-run"], {"pandas"}),
        (["report", "runs/small"], {"pandas", "plotly"}),
        (["explore", "nowhere"], {"pandas", "plotly"}),
    ],
)
def test_no_command_imports_what_it_does_not_need(notebook, tiny, args, allowed):
    """PyTorch takes seconds to import: none of these commands computes anything with it in its own process."""
    Path("small.yaml").write_text("study: small\nnotebook: trial.ipynb\naxes: {seed: 1..2}\n")
    with runs.open_run("runs", "small", {"seed": 1}) as run:
        run.finish({"test_accuracy": 0.5})
    environment = {**os.environ, "PYTHONPATH": str(Path(atlab.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *args], capture_output=True, text=True, env=environment, check=False
    )
    assert set(done.stdout.splitlines()[-1].split()) <= allowed, done.stderr


def test_a_notebook_is_found_by_its_name_and_runs_lie_in_the_project(notebook, monkeypatch, tmp_path):
    (tmp_path / "atlab.toml").touch()
    (tmp_path / "notebooks/mine").mkdir(parents=True)
    notebook.rename(tmp_path / "notebooks/mine/trial.ipynb")
    for place in (tmp_path, tmp_path / "notebooks/mine", tmp_path / "notebooks"):
        monkeypatch.chdir(place)
        code, text = call("run", "trial", "-p", "seed", "3")
        (folder,) = (tmp_path / "runs/trial").iterdir()
        assert code == 0 and folder.name in text.splitlines()[0]
    assert "(done before)" in text
    code, text = call("run", "trail")
    assert code == 2 and text.startswith("error: unknown notebook 'trail'; nearest: 'trial'")


def test_init_lays_out_a_project_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("init", "mine") == (0, "project   mine; next: cd mine && atlab run 01_quickstart\n")
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {
        "atlab.toml",
        ".gitignore",
        "data",
        "notebooks",
        "runs",
    }
    code, text = call("init", "mine")
    assert (
        code == 2
        and text == "error: expected a new or empty folder for the project, got mine, which has something in it\n"
    )


def test_run_says_where_everything_is(notebook):
    code, text = call(
        "run", notebook, "-p", "seed", "3", "-p", "name", "-x", "--study", "mine", "--root", "elsewhere", "--html"
    )
    (folder,) = Path("elsewhere/mine").iterdir()
    assert code == 0
    assert text.splitlines() == [f"run       {folder}", f"notebook  {folder}/out.ipynb", f"HTML      {folder}/out.html"]
    assert nbformat.read(folder / "out.ipynb", 4).metadata["given"] == {"seed": 3, "name": "-x"}
    assert (folder / "out.html").read_text().startswith("<!DOCTYPE html>")
    code, again = call(
        "run", notebook, "--study", "mine", "--root", "elsewhere", "-p", "seed=3", "--parameter", "name=-x"
    )
    assert code == 0 and again.splitlines()[0] == f"run       {folder} (done before)"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["run", "trial.ipynb", "-p", "sed", "3"],
            "error: unknown parameter of trial.ipynb 'sed'; nearest: 'seed'; allowed: seed, name\n",
        ),
        (["run", "trial.ipynb", "-p", "seed", "-3"], "error: parameter 'seed' is -3; allowed: >= 0\n"),
        (["run", "trial.ipynb", "-p", "seed"], "error: -p seed has no value; allowed: -p NAME VALUE\n"),
        (["run", "trial.ipynb", "-p", "=1"], "error: '=1' is not a name with a value; allowed: NAME=VALUE\n"),
        (["run", "trial.ipynb", "-p", "seed", "1", "-p", "seed", "2"], "error: 'seed' is given twice: '1' and '2'\n"),
        (["data", "show", "fsd"], "error: unknown recipe 'fsd'; nearest: 'fsdd'"),
        (["data", "show", "."], "error: . is not a prepared data set: it holds no card.json\n"),
        (["data", "prepare", "gsc"], "error: gsc needs its raw files: --raw DIR; to get them: "),
        (
            ["data", "prepare", "gsc", "--raw", ".", "--option", "wrds=yes"],
            "error: unknown option of gsc 'wrds'; nearest: 'words'",
        ),
    ],
)
def test_a_mistake_is_one_line(notebook, args, message):
    code, text = call(*args)
    assert code == 2 and text.startswith(message) and text.count("\n") == 1


def test_debugging_shows_the_traceback(notebook, monkeypatch):
    monkeypatch.setenv("ATLAB_DEBUG", "1")
    with pytest.raises(atlab.AtlabError, match="'sed'"):
        call("run", notebook, "-p", "sed", "3")


def test_data_list_has_every_recipe(tiny):
    import data_recipes

    (tiny.parent / "fsdd").mkdir()
    (tiny.parent / "fsdd/card.json").write_text("{}")
    code, text = call("data", "list")
    assert code == 0
    for name, recipe in data_recipes.recipes().items():
        line = next(line for line in text.splitlines() if line.startswith(f"{name} "))
        assert line.split()[1] == ("data/fsdd" if name == "fsdd" else "no"), name
        assert next(iter(recipe.FACTORS)) in text


def test_data_show_counts_what_is_there(tiny):
    for name in ("tiny", tiny):
        code, text = call("data", "show", name)
        assert code == 0
        assert "tiny  6 audio clips at 8000 Hz, 3 sources" in text
        assert "durations 0.10 to 0.10 s, median 0.10 s" in text and "licence   CC0" in text and "Nobody, 2020" in text
        rows = [line.split() for line in text.splitlines()]
        assert ["word", "2", "no", "3,", "yes", "3"] in rows and [
            "speaker",
            "3",
            "ann",
            "2,",
            "bob",
            "2,",
            "cid",
            "2",
        ] in rows


def test_data_show_of_a_recipe_tells_how_to_get_it(tiny):
    import data_recipes

    code, text = call("data", "show", "timit")
    assert code == 0 and "not prepared in data" in text and "atlab data prepare timit --raw DIR" in text
    assert data_recipes.get("timit").LICENCE in text


def test_data_prepare_hands_options_over_as_typed(tmp_path, monkeypatch):
    import data_recipes

    monkeypatch.setenv("ATLAB_DATA", str(tmp_path / "sets"))
    handed = {}

    def prepare(
        raw: str | Path | None,
        out: str | Path,
        *,
        workers=None,
        words: tuple | str = (),
        rate: float = 1.0,
        part: str = "",
        all: bool = False,
    ):
        handed.update(raw=raw, out=out, workers=workers, words=words, rate=rate, part=part, all=all)
        return range(7)

    recipe = type("Recipe", (), {"prepare": staticmethod(prepare), "ACCESS": "free"})
    monkeypatch.setattr(data_recipes, "get", lambda name: recipe)
    options = "words=['a','b']", "rate=2", "part=1", "all=true"
    code, text = call(
        "data", "prepare", "it", "--workers", "2", *(word for option in options for word in ("--option", option))
    )
    out = tmp_path / "sets/it"
    assert handed == {"raw": None, "out": out, "workers": 2, "words": ["a", "b"], "rate": 2, "part": "1", "all": True}
    assert (code, text) == (0, f"7 clips in {out}; summary: atlab data show {out}\n")
    call("data", "prepare", "it", "--raw", "raw", "--out", "there", "--option", "words=a,b")
    assert (handed["raw"], handed["out"], handed["words"]) == (Path("raw"), Path("there"), "a,b")


def test_doctor_reports_each_subject():
    code, text = call("doctor")
    subjects = [line.split()[1] for line in text.splitlines()]
    assert code == 0 and subjects == ["Python", "versions", "device", "eSpeak", "browser", "kernel", "disk"]


def test_doctor_ends_with_1_when_something_is_bad(monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda: [("ok", "a", "fine"), ("bad", "b", "broken")])
    code, text = call("doctor")
    assert code == 1 and "BAD   b" in text


def test_doctor_names_versions_that_differ(monkeypatch):
    installed = doctor.metadata.version
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "0.0.1" if name == "numpy" else installed(name))
    state, _, finding = doctor._versions()
    assert state == "note" and "numpy 0.0.1 (pinned 2.4.6)" in finding
