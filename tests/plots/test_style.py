"""Every figure of atlab takes the shared layout, and with it no button that sends it anywhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import atlab
from atlab.plots.style import LAYOUT

PACKAGE = Path(atlab.__file__).parent
FILES = [path for path in PACKAGE.rglob("*.py") if re.search(r"\b(go\.Figure|make_subplots)\(", path.read_text())]
SHARED = {"LAYOUT", "PANELS"}


def names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def makes(node: ast.AST) -> bool:
    calls = (ast.unparse(part.func) for part in ast.walk(node) if isinstance(part, ast.Call))
    return any(call in ("go.Figure", "make_subplots") for call in calls)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_function_that_makes_a_figure_gives_it_the_shared_layout(path):
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    used = {node.name: names(node) for node in functions}
    users = {name: {other for other in used if name in used[other]} for name in used}
    for node in filter(makes, functions):
        helpers = used[node.name] | set().union(*(used[name] for name in used[node.name] & used.keys()))
        callers = set().union(*(used[name] for name in users[node.name]))
        assert SHARED & (helpers | callers), f"{path.name}: {node.name}"


def test_the_shared_layout_removes_the_button_that_uploads():
    assert "sendChartToCloud" in LAYOUT["modebar"]["remove"]
