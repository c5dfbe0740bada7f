"""The second embedded speech set shares neither words, speakers nor clips with the first, only the emotions."""

from __future__ import annotations

import inspect

import pytest

import data_recipes
from atlab.data import synthetic_commands, synthetic_speech
from atlab.data.synthetic import speech
from atlab.data.synthetic.commands import COMMANDS
from atlab.errors import AtlabError

SMALL = {"speakers": 2, "emotions": 2, "repetitions": 1, "workers": 1}


def test_other_words_by_other_speakers(tmp_path):
    commands = synthetic_commands(tmp_path / "commands", words="yes,go", **SMALL)
    digits = synthetic_speech(tmp_path / "digits", words="one,two", **SMALL)
    assert commands.card["name"] == commands.card["recipe"] == "synthetic_commands"
    assert digits.card["name"] == digits.card["recipe"] == "synthetic_speech"
    assert commands.classes("word") == ["go", "yes"] and commands.classes("speaker") == ["cmd00", "cmd01"]
    assert commands.classes("emotion") == digits.classes("emotion")
    assert not set(COMMANDS) & set(speech.DIGITS) and len(set(COMMANDS)) == 10


def test_no_voice_is_in_both_sets():
    first, second = (inspect.signature(f).parameters["seed"].default for f in (synthetic_speech, synthetic_commands))
    known = {(voice.pitch, voice.formants) for voice in speech.draw_voices(24, first)}
    assert len(known) == 24
    assert not known & {(voice.pitch, voice.formants) for voice in speech.draw_voices(24, second, "cmd")}


def test_the_recipe_is_the_renderer(tmp_path):
    recipe = data_recipes.get("synthetic_commands")
    fs = recipe.prepare(None, tmp_path / "recipe", words="off", **SMALL)
    assert fs.content_hash == synthetic_commands(tmp_path / "set", words="off", **SMALL).content_hash
    assert fs.factor_names == list(recipe.FACTORS)
    with pytest.raises(AtlabError, match="takes no raw folder"):
        recipe.prepare(tmp_path, tmp_path / "other")
