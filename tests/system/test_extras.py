"""What every room imports is declared, in the core or in the room's extra, and a missing extra is one sentence."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from atlab.errors import AtlabError
from atlab.system import extras

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"atlab", "data_recipes", "benchmarks", "scripts", "tests"}
DISTRIBUTIONS = importlib.metadata.packages_distributions()
# Imported where they are needed, with an error of their own or in a room that has the extra.
ELSEWHERE = {
    "atlab.cli.doctor": {"espeakng_loader"},
    "atlab.data.synthetic.digits": {"sklearn"},
    "atlab.data.synthetic.espeak": {"espeakng_loader"},
    "atlab.data.display": {"IPython", "rich"},
}
# Declared, imported by name nowhere: the file that needs each, and the word there that says so.
USED_AS = {
    "cryptography": ("atlab/runs/engines.py", "Security.temporary"),
    "dask-jobqueue": ("atlab/runs/engines.py", "dask_jobqueue"),
    "jupyterlab": ("Makefile", "jupyter lab"),
    "mypy": ("Makefile", "mypy"),
    "nbval": ("Makefile", "nbval"),
    "pretty-midi": ("atlab/data/synthetic/soundfont.py", "pretty_midi"),
    "pytest-xdist": ("Makefile", "-n 2"),
    "ruff": ("Makefile", "ruff"),
}


def declared(extra: str | None) -> set[str]:
    """The distributions of the core (None) or of an extra, with those of the extras that it brings."""
    found: set[str] = set()
    for text in PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]:
        requirement = Requirement(text)
        if requirement.name == "atlab":
            found |= set().union(*map(declared, requirement.extras))
        else:
            found.add(canonicalize_name(requirement.name))
    return found


def third_party(path: Path) -> set[str]:
    """The top-level modules of others that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - OURS


def distributions(modules: set[str]) -> set[str]:
    return {canonicalize_name(DISTRIBUTIONS[module][0]) for module in modules}


def _files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", _files("atlab", "data_recipes"), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_the_core_and_its_extra(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    room = module.split(".")[0 if module.startswith("data_recipes") else 1] if "." in module else module
    extra = extras.ROOMS.get(room)
    allowed = declared(None) | (declared(extra) if extra else set())
    assert distributions(third_party(path) - ELSEWHERE.get(module, set())) <= allowed


def rooms(path: Path) -> set[str]:
    """The rooms that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("atlab.")}


@pytest.mark.parametrize("path", _files("atlab", "data_recipes"), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_does_without_the_lab_extra_imports_no_room_that_needs_it(path):
    own = path.relative_to(ROOT).parts[0 if path.is_relative_to(ROOT / "data_recipes") else 1]
    shows = path.name == "display.py"  # of a data set, where the lab extra is there
    if extras.ROOMS.get(own) != "lab" and not shows:
        assert not {room for room in rooms(path) if extras.ROOMS.get(room) == "lab"}


def test_tests_and_benchmarks_import_what_is_declared():
    for path in _files("tests", "benchmarks", "scripts"):
        assert distributions(third_party(path) - {"test_house"}) <= declared(None) | declared("test"), path


def test_nothing_is_declared_that_nothing_uses():
    files = [*_files(*OURS), ROOT / "setup.py"]
    imported = set().union(*(distributions(third_party(path)) for path in files))
    for name in (declared(None) | declared("test")) - imported:
        file, word = USED_AS[name]
        assert word in (ROOT / file).read_text(), f"{name}: {file} does not hold {word}"
    assert not set(USED_AS) & imported


@pytest.mark.parametrize("extra", ["data", "lab"])
def test_the_modules_of_an_extra_are_those_of_its_distributions(extra):
    assert distributions(set(extras.MODULES[extra])) == declared(extra)


def test_every_room_that_needs_an_extra_checks_for_it():
    for room in extras.ROOMS:
        face = ROOT / ("" if room == "data_recipes" else "atlab") / room / "__init__.py"
        assert "check(__name__)" in face.read_text(), room


def test_all_holds_every_extra_but_those_of_the_tests_and_the_documentation():
    assert declared("all") == set().union(
        *(declared(name) for name in PROJECT["optional-dependencies"] if name not in ("docs", "test"))
    )
    assert {"espeakng-loader", "pretty-midi", "scikit-learn"} == declared("synthetic")


def test_a_missing_module_is_one_sentence_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)  # as Python marks a module that cannot be imported
    with pytest.raises(
        AtlabError, match=r"^atlab.data needs pandas, which is not installed: pip install 'atlab\[data\]'$"
    ):
        extras.check("atlab.data")
    with pytest.raises(AtlabError, match=r"^atlab.plots needs pandas, .*'atlab\[lab\]'$"):
        extras.check("atlab.plots")


CORE_ALONE = """
from importlib.machinery import PathFinder
find_spec = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] in {blocked!r} else find_spec(name, *rest)
"""


def core_alone(code: str) -> subprocess.CompletedProcess:
    """Run code where no module of an extra can be imported."""
    optional = {*extras.MODULES["lab"], "dask_jobqueue", "espeakng_loader", "pretty_midi"}
    program = CORE_ALONE.format(blocked=optional - {"PIL"}) + code  # torchvision brings PIL
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_core_works_alone():
    import atlab

    lines = [line[4:] for line in atlab.__doc__.splitlines() if line.startswith(">>> ")]
    assert len(lines) == 4
    done = core_alone("\n".join([*lines, "import atlab.functional, atlab.strategies; print(type(at).__name__)"]))
    assert (done.returncode, done.stdout) == (0, "AntiTransferLoss\n"), done.stderr


def test_every_other_room_says_which_extra_it_needs():
    rooms = sorted(room if room == "data_recipes" else f"atlab.{room}" for room in extras.ROOMS if room != "cli")
    code = f"""
import importlib
for room in {rooms}:
    try:
        importlib.import_module(room)
    except Exception as error:
        print(f"{{type(error).__name__}}: {{error}}")
"""
    lines = core_alone(code).stdout.splitlines()
    assert len(lines) == len(rooms)
    for room, line in zip(rooms, lines, strict=True):
        extra = extras.ROOMS[room.removeprefix("atlab.")]
        assert line.startswith(f"AtlabError: {room} needs ") and line.endswith(f"pip install 'atlab[{extra}]'")


def test_the_command_says_which_extra_it_needs():
    done = core_alone("from atlab.cli import command; command()")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: atlab.cli needs ") and done.stderr.endswith("pip install 'atlab[lab]'\n")
