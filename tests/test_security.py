"""SECURITY.md says what the code does: its limits are the code's, and the tests that it names exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from atlab.data import stored
from atlab.experiment.settings import LARGEST_BETA
from atlab.runs import grid, ipynb
from atlab.system import foreign
from data_recipes import audio, corpus, images

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text()


def test_every_test_that_is_named_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
    for path, name in named:
        functions = {
            node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)
        }
        assert name in functions, f"{path} has no {name}"
    assert len(named) >= 17 and TEXT.count("tests/") == len(named)


def test_the_limits_are_those_of_the_code():
    stated = {
        line.split("|")[1].strip(): line.split("|")[2]
        for line in TEXT.splitlines()
        if line.startswith("| a") or "beta" in line
    }
    for what, limits in {
        "a grid's file": (grid.BYTES, grid.DEPTH),
        "a grid": (grid.RUNS, grid.EXCLUSIONS),
        "a notebook's file": (ipynb.BYTES,),
        "a data set's card": (stored.CARD_BYTES,),
        "a data set's table": (stored.COLUMNS,),
        "a list of labels, parameters or results as text or JSON": (foreign.TEXT,),
        "a sound file": (audio.LONGEST, *audio.RATES),
        "an archive": (images.UNPACKED, images.BLOWN_UP),
        "an idx file": (images.LARGEST_IDX,),
        "a folder of raw files": (corpus.MOST_FILES,),
        "beta": (int(LARGEST_BETA),),
    }.items():
        numbers = re.findall(r"\d[\d,]*", stated[what])
        assert all(f"{limit:,}" in [n.rstrip(",") for n in numbers] for limit in limits), f"{what}: {stated[what]}"
