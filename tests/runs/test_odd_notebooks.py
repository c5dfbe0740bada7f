"""Notebooks that a stranger wrote: whatever their metadata and parameters cells hold, the answer is a value or one AtlabError."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from atlab.errors import AtlabError
from atlab.runs import ipynb, parameters

PIECES = [
    "a",
    "b",
    "=",
    " = ",
    "1",
    "'x'",
    "None",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    ",",
    ":",
    "\n",
    "  ",
    ";",
    "\\",
    "\0",
    "\t",
    "%magic",
    "!ls",
]
PIECES += [
    "# one of: a, b",
    "# >= 1.2.3",
    "# < 1e999",
    "# > -",
    "a: int",
    "b: float | None = 0.5",
    "c: nowhere = 1",
    "*",
    "-",
    "**",
    "lambda: 0",
]
PIECES += [
    "1e999",
    "9" * 5000,
    "b'x'",
    "...",
    "1j",
    "{[]: 1}",
    "f'{a}'",
    "'''",
    "a = b = 1",
    "a, b = 1, 2",
    "a += 1",
    "(" * 300,
    "-" * 3000,
    "\ud800",
]
SOURCES = st.lists(st.sampled_from(PIECES) | st.text(max_size=2), max_size=12).map("".join)
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just("parameters"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.just("tags"), inner, max_size=3)
    ),
    max_leaves=6,
)
TRIED = settings(
    max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def notebook(source: object, **changes: object) -> dict:
    """A notebook with one parameters cell, as JSON."""
    cell = {"cell_type": "code", "id": "a", "metadata": {"tags": ["parameters"]}, "source": source}
    cell |= {"outputs": [], "execution_count": None}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]} | changes


def assert_read_or_refused(path, content: object) -> None:
    """What is read is of the expected type; whatever is raised is an AtlabError."""
    path.write_text(json.dumps(content))
    kinds = {parameters.specification: dict, ipynb.metadata: dict, parameters.defaults: dict, ipynb.source: str}
    for read, kind in kinds.items():
        with contextlib.suppress(AtlabError):
            assert isinstance(read(path), kind), read


@TRIED
@given(source=SOURCES)
@example(source="a: int")
@example(source="a = 1  # >= 1.2.3")
@example(source="a = " + "(" * 3000)
@example(source="a = " + "-" * 5000 + "1")
def test_a_parameters_cell_of_any_text(tmp_path, source):
    assert_read_or_refused(tmp_path / "n.ipynb", notebook(source))


@TRIED
@given(key=st.sampled_from(["cell_type", "id", "metadata", "source", "outputs"]), value=ODD)
@example(key="metadata", value={"tags": 5})
def test_cells_of_odd_forms(tmp_path, key, value):
    content = notebook("a = 1")
    content["cells"][0][key] = value
    assert_read_or_refused(tmp_path / "n.ipynb", content)


@TRIED
@given(key=st.sampled_from(["nbformat", "nbformat_minor", "metadata", "cells"]), value=ODD)
def test_notebooks_of_odd_forms(tmp_path, key, value):
    assert_read_or_refused(tmp_path / "n.ipynb", notebook("a = 1", **{key: value}))


@TRIED
@given(content=ODD)
def test_files_that_are_no_notebooks(tmp_path, content):
    assert_read_or_refused(tmp_path / "n.ipynb", content)


@TRIED
@given(text=SOURCES)
def test_values_typed_on_the_command_line(tmp_path, text):
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps(notebook("f = 1.0  # >= 0\nl = [1]\ns = 'x'\nb = False\nn = None\nd = {}\ni = 1")))
    for name in "flsbndi":
        with contextlib.suppress(AtlabError):
            assert set(parameters.parse(path, {name: text})) == {name}
        with contextlib.suppress(AtlabError):
            assert set(parameters.check(path, {name: text})) == set("flsbndi")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (notebook("a = b = 1"), "line 1: allowed: name = literal"),
        (notebook("a: int"), "line 1: 'a: int' is not a literal"),
        (notebook("a = " + "-" * 5000 + "1"), "is not"),
        (notebook("a = 1", metadata={"kernelspec": 3}), "is not a notebook"),
        (notebook("a = 1", cells=[3]), "is not a notebook"),
        (notebook(3), "is not a notebook"),
        ([], "is not a notebook"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, content, message):
    (tmp_path / "n.ipynb").write_text(json.dumps(content))
    with pytest.raises(AtlabError, match=message) as error:
        parameters.specification(tmp_path / "n.ipynb")
    assert "\n" not in str(error.value)


def test_a_number_with_too_many_digits_is_refused(tmp_path):
    (tmp_path / "n.ipynb").write_text(json.dumps(notebook("beta = 1.0")))
    with pytest.raises(AtlabError, match="parameter 'beta' has more digits than a number can have"):
        parameters.check(tmp_path / "n.ipynb", {"beta": 10**400})
