"""`atlab data list` and `atlab data show` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import atlab
import data_recipes
from atlab.cli.main import app


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATLAB_DATA", "sets")
    return atlab.data.toy(tmp_path / "sets/toy", words=2, speakers=3, repetitions=2).path


def call(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    return result.exit_code, result.output


def pretend(folder: Path, card: str) -> None:
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(card)


def entry(text: str, name: str) -> list[str]:
    """The lines of a recipe in the list."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"{name} "))
    end = next(
        (n for n in range(start + 1, len(lines)) if not lines[n].startswith(" ") and lines[n].strip()), len(lines)
    )
    return [line for line in lines[start:end] if line.strip()]


def test_list_finds_prepared_sets_by_the_recipe_that_wrote_them(toy):
    sets = toy.parent
    pretend(sets / "gsc", json.dumps({"recipe": "gsc", "clips": 10_000}))
    pretend(sets / "noisy-words", json.dumps({"recipe": "gsc", "clips": 9_990}))
    pretend(sets / ".gsc.new", json.dumps({"recipe": "gsc", "clips": 3}))
    for name, card in (("timit", "{"), ("svhn", "[]"), ("mnist", "{}")):
        pretend(sets / name, card)
    code, text = call("data", "list")
    assert code == 0 and entry(text, "gsc")[0].split()[1] == "sets/gsc"
    assert "(10,000" in text and "sets/noisy-words" in text and "(9,990" in text and "(3 clips)" not in text
    for name in ("timit", "svhn", "mnist"):
        assert entry(text, name)[0].split()[1] != "no"
    assert entry(text, "fsdd")[0].split()[1] == "no"


def test_list_says_of_every_recipe_what_it_is(toy):
    code, text = call("data", "list")
    assert code == 0
    for name, recipe in data_recipes.recipes().items():
        found = "".join("".join(entry(text, name)).split())
        for word in " ".join(
            [recipe.LICENCE, recipe.SIZE, recipe.ACCESS, *data_recipes.availability(name), *recipe.FACTORS]
        ).split():
            # Long words are broken where a column ends.
            assert word[:8] in found, (name, word)


def test_list_and_show_say_what_stands_in_for_a_licensed_corpus(toy):
    code, text = call("data", "list")
    assert code == 0 and "open stand-ins:" in " ".join(entry(text, "iemocap")) and "stands in for: " in text
    assert "fully crossed: emotion" in text and "fully crossed" not in " ".join(entry(text, "iemocap"))
    code, text = call("data", "show", "iemocap")
    assert code == 0 and "data      needs a licence; open stand-ins: crema_d, emodb, ravdess, tess\n" in text
    assert "atlab data prepare iemocap --raw DIR\n" in text
    assert "atlab data prepare synthetic_digits\n" in call("data", "show", "synthetic_digits")[1]
    code, text = call("data", "show", "tess")
    assert code == 0 and "data      open; fully crossed: emotion x word x speaker; stands in for: iemocap\n" in text


def test_show_crosses_the_factors_asked_for(toy):
    for name in ("toy", toy):
        code, text = call("data", "show", name, "--cross", "speaker", "word")
        rows = [line.split() for line in text.splitlines()]
        assert code == 0 and "toy  12 audio clips at 16000 Hz, 12 sources" in text
        assert "speaker and word: Cramer's V 0.00 (plain 0.00), 0 of 6 cells empty, 2 to 2 clips in a cell" in text
        assert ["speaker", "word0", "word1"] in rows and ["speaker2", "2", "2"] in rows
    assert sum(line.startswith("  word") for line in text.splitlines()) == 10


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--cross", "word", "speker"), "error: unknown factor 'speker'; nearest: 'speaker'; allowed: word, speaker\n"),
        (
            ("--cross", "word", "word"),
            "error: two different factors are crossed, found ['word', 'word']; allowed: word, speaker\n",
        ),
    ],
)
def test_a_wrong_crossing_is_one_line(toy, args, message):
    assert call("data", "show", "toy", *args) == (2, message)


def test_show_of_a_spoilt_set_is_one_line(toy):
    (toy / "inputs.npy").unlink()
    code, text = call("data", "show", "toy")
    assert code == 2 and text.startswith("error: ") and "inputs.npy missing" in text and text.count("\n") == 1
