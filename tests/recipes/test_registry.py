"""The registry finds every recipe of the folder, and each says what a user must know."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import data_recipes
from atlab.errors import AtlabError

SHARED = {"__init__", "audio", "corpus", "images", "matlab", "named_sounds", "records", "torchvision_sets"}


def test_every_module_of_the_folder_is_a_recipe_or_shared():
    modules = {path.stem for path in Path(data_recipes.__file__).parent.glob("*.py")}
    assert set(data_recipes.recipes()) == modules - SHARED
    assert list(data_recipes.recipes()) == sorted(data_recipes.recipes())


@pytest.mark.parametrize("name", sorted(data_recipes.recipes()))
def test_a_recipe_says_what_it_is(name):
    recipe = data_recipes.get(name)
    assert recipe is data_recipes.recipes()[name] and name == recipe.NAME
    for constant in ("LICENCE", "CITATION", "ACCESS", "SIZE", "__doc__"):
        assert isinstance(getattr(recipe, constant), str) and getattr(recipe, constant).strip()
    assert recipe.FACTORS and all(
        isinstance(meaning, str) and "\n" not in meaning for meaning in recipe.FACTORS.values()
    )
    parameters = list(inspect.signature(recipe.prepare).parameters.values())
    assert [p.name for p in parameters[:2]] == ["raw", "out"]
    assert all(
        p.kind is p.VAR_KEYWORD or (p.kind is p.KEYWORD_ONLY and p.default is not p.empty) for p in parameters[2:]
    )
    assert "workers" in {p.name for p in parameters[2:]}


@pytest.mark.parametrize("name", sorted(data_recipes.recipes()))
def test_a_recipe_says_who_can_have_its_data(name):
    recipe, found = data_recipes.get(name), data_recipes.recipes()
    assert set(getattr(recipe, "CROSSED", ())) <= set(recipe.FACTORS)
    assert set(getattr(recipe, "STANDS_IN_FOR", ())) <= set(found) - {name}
    told = data_recipes.availability(name)
    assert (told[0] == "open") == (name not in ("folder", "iemocap", "imagenet", "timit"))
    for other in getattr(recipe, "STANDS_IN_FOR", ()):
        assert told[0] == "open" and name in data_recipes.availability(other)[-1].removeprefix(
            "open stand-ins: "
        ).split(", ")


@pytest.mark.parametrize("name", ["fsd", "audio", "corpus", ""])
def test_an_unknown_recipe_is_named_with_the_nearest(name):
    with pytest.raises(AtlabError, match=f"unknown recipe '{name}'" + ("; nearest: 'fsdd'" if name == "fsd" else "")):
        data_recipes.get(name)


def test_listing_recipes_does_not_wait_for_torch():
    code = "import sys, data_recipes; data_recipes.recipes(); print({'torch', 'librosa'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(data_recipes.__file__).parents[1],
    )
    assert done.stdout.strip() == "set()"


def test_a_recipe_that_lacks_a_constant_is_told_which(monkeypatch):
    monkeypatch.delattr(data_recipes.get("fsdd"), "SIZE")
    with pytest.raises(AtlabError, match=r"data_recipes/fsdd\.py is not a recipe yet: it has no SIZE"):
        data_recipes.get("fsdd")
    with pytest.raises(AtlabError, match="unknown recipe 'audio'"):
        data_recipes.get("audio")
