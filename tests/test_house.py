"""The house: which room may import which, read from the imports themselves."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Imports go down this list, never up; rooms of one storey do not import each other in a circle.
STOREYS = [
    ["cli"],
    ["data_recipes"],
    ["explore"],
    ["invariance", "transfer"],
    ["analysis"],
    ["experiment"],
    ["paper"],
    ["strategies", "training"],
    ["cost"],
    ["losses"],
    ["runs"],
    ["data"],
    ["teachers"],
    ["plots", "models", "stats"],
    ["taps", "functional", "system", "labels", "errors"],
]
LEVEL = {room: level for level, rooms in enumerate(STOREYS) for room in rooms}
CORE = ("functional", "taps", "teachers", "losses")
NEVER = [  # rooms, what they never import, files excepted
    (CORE, ("atlab.data", "atlab.runs", "atlab.models", "pandas", "tqdm", "data_recipes"), ()),
    (("runs", "labels", "errors"), ("torch",), ()),
    (("plots",), ("atlab.analysis", "torch"), ()),
    (tuple(room for room in LEVEL if room not in ("cli", "data_recipes")), ("data_recipes",), ()),
]


def _modules() -> dict[str, Path]:
    files = [*(ROOT / "atlab").rglob("*.py"), *(ROOT / "data_recipes").rglob("*.py")]
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in files}


MODULES = _modules()


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if parts[0] == "atlab" and len(parts) > 1 else parts[0]


def imports(module: str) -> list[tuple[str, str, int]]:
    """(module imported, name taken from it or "", line) of every import statement, inside functions too."""
    found = []
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, "", node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}, line {node.lineno}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.append((inner, "", node.lineno) if inner in MODULES else (node.module, alias.name, node.lineno))
    return found


IMPORTS = {module: imports(module) for module in MODULES}


def test_every_room_has_a_storey_and_says_what_lives_there():
    rooms = {room(m) for m in MODULES} - {"atlab"}
    assert rooms == set(LEVEL)
    for module, path in MODULES.items():
        if path.name == "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text())), f"{module} does not say what lives there"


def test_the_root_holds_five_files():
    names = {path.name for path in (ROOT / "atlab").glob("*.py")}
    assert names == {"__init__.py", "errors.py", "labels.py", "strategies.py", "taps.py"}


def test_imports_go_down():
    for module, found in IMPORTS.items():
        for other, _, line in found:
            if other in MODULES and other != "atlab" and module != "atlab" and room(other) != room(module):
                assert LEVEL[room(module)] <= LEVEL[room(other)], f"{module}, line {line}: imports {other} above it"


def test_no_circle_between_files():
    graph = {m: {o for o, _, _ in found if o in MODULES and o not in (m, "atlab")} for m, found in IMPORTS.items()}
    assert _circle(graph) == []


def test_no_circle_between_rooms():
    graph: dict[str, set[str]] = defaultdict(set)
    for module, found in IMPORTS.items():
        graph[room(module)] |= {room(o) for o, _, _ in found if o in MODULES and o != "atlab"} - {room(module)}
    graph.pop("atlab", None)
    assert _circle(graph) == []


def _circle(graph: dict[str, set[str]]) -> list[str]:
    def reached(start: str) -> set[str]:
        seen, left = set(), list(graph.get(start, ()))
        while left:
            if (node := left.pop()) not in seen:
                seen.add(node)
                left += graph.get(node, ())
        return seen

    return sorted(node for node in graph if node in reached(node))


def test_the_circle_finder_finds_one():
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]


def test_no_private_name_crosses_a_wall():
    for module, found in IMPORTS.items():
        for other, name, line in found:
            taken = name or other.rpartition(".")[2]
            if other.split(".")[0] in ("atlab", "data_recipes") and room(other) != room(module):
                assert not taken.startswith("_") or taken.startswith("__"), (
                    f"{module}, line {line}: takes {other}.{taken}"
                )


def test_no_private_attribute_of_another_module_is_used():
    for module, path in MODULES.items():
        local = {alias.asname or alias.name for node in ast.walk(ast.parse(path.read_text()))
                 if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("atlab", "data_recipes")
                 for alias in node.names if f"{node.module}.{alias.name}" in MODULES}  # fmt: skip
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in local:
                private = node.attr.startswith("_") and not node.attr.startswith("__")
                assert not private, f"{module}, line {node.lineno}: uses {node.value.id}.{node.attr}"


@pytest.mark.parametrize(("rooms", "never", "but"), NEVER)
def test_what_a_room_never_imports(rooms, never, but):
    for module, found in IMPORTS.items():
        if room(module) in rooms and module not in but:
            for other, _, line in found:
                hit = any(other == name or other.startswith(f"{name}.") for name in never)
                assert not hit, f"{module}, line {line}: imports {other}"


def test_no_import_is_a_string():
    """Only the lazy faces, `requires` of a notebook and the recipes' registry look a module up by name."""
    allowed = {"atlab", "data_recipes", "atlab.runs.jobs", "atlab.runs.dry_run", "atlab.runs.requirements"}
    for module, path in MODULES.items():
        if path.name == "__init__.py" or module in allowed:
            continue
        text = path.read_text()
        assert "import_module(" not in text and "__import__(" not in text, f"{module} imports by name"
