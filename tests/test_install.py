"""What a fresh clone is installed from: pins, hashes, metadata, and nothing that only this machine has."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import atlab

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = (ROOT / "constraints.txt").read_text()


def _requirements(lines) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in lines:
        requirement = Requirement(line)
        found.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier).removeprefix("=="))
    return found


def _pinned() -> list[str]:
    return [line.rstrip(" \\") for line in CONSTRAINTS.splitlines() if re.match("[A-Za-z0-9]", line)]


def test_every_constraint_is_pinned_and_hashed():
    blocks = re.split(r"\n(?=[A-Za-z0-9])", CONSTRAINTS.strip())
    assert len(blocks) > 100
    for block in blocks:
        assert re.match(r"[A-Za-z0-9._-]+==\S+", block), block[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block[:80]


def test_constraints_name_no_host():
    assert "://" not in CONSTRAINTS and "--index" not in CONSTRAINTS and "--find-links" not in CONSTRAINTS


def test_constraints_hold_what_is_asked_for():
    asked = _requirements(line for line in (ROOT / "requirements.in").read_text().splitlines() if line)
    pinned = _requirements(_pinned())
    for name, versions in asked.items():
        assert name in pinned, name
        assert versions == {""} or versions == pinned[name], name


def test_conda_environment_has_the_same_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert "python=3.11" in environment
    listed = _requirements(next(item for item in environment if isinstance(item, dict))["pip"])
    python = {"python_version": "3.11", "python_full_version": "3.11.9"}
    systems = [
        {"sys_platform": s, "os_name": o, **python}
        for s, o in (("linux", "posix"), ("darwin", "posix"), ("win32", "nt"))
    ]
    holds = [r for r in map(Requirement, _pinned()) if not r.marker or any(r.marker.evaluate(s) for s in systems)]
    assert listed == _requirements(map(str, holds))


def test_metadata_and_pins_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = map(Requirement, [*project["dependencies"], *(text for extra in extras for text in extra)])
    pinned = _requirements(_pinned())
    for requirement in (r for r in wanted if r.name != "atlab"):
        versions = pinned[canonicalize_name(requirement.name)]
        assert all(requirement.specifier.contains(version) for version in versions), requirement
    assert project["requires-python"] == ">=3.11"
    assert project["scripts"] == {"atlab": "atlab.cli:command"}


def test_citation_names_the_papers_and_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == atlab.__version__
    assert citation["preferred-citation"]["doi"] == "10.1016/j.neunet.2021.05.012"
    authors = [[a["family-names"] for a in r["authors"]] for r in citation["references"]]
    assert authors == [
        ["Guizzo", "Weyde", "Tarroni"],
        ["Yosinski", "Clune", "Bengio", "Lipson"],
        ["Fayek", "Cavedon", "Wu"],
    ]
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2006.06494"


def test_licences_are_named():
    assert "MIT License" in (ROOT / "LICENSE").read_text()
    third = (ROOT / "THIRD_PARTY.md").read_text()
    assert re.search(r"eSpeak NG.*GPL-3", third) and re.search(r"TimGM6mb.*GPL-2", third)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [
        *project["dependencies"],
        *(text for extra in project["optional-dependencies"].values() for text in extra),
    ]
    for name in {Requirement(text).name for text in listed} - {"atlab"}:
        assert re.search(rf"(?<![\w-]){name}(?![\w-])", third), f"THIRD_PARTY.md does not name {name}"


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


def test_tracked_files_name_no_registry_and_no_machine():
    # Put together here, so that this file does not hold what it looks for.
    hosts = [
        "py" + "pi.org",
        "python" + "hosted",
        "npm" + "js.org",
        "deb." + "debian.org",
        "conda." + "anaconda.org",
        "files" + ".python",
    ]
    folders = ["/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "/Us" + "ers/", "/tmp/" + "plan", "/opt/" + "py"]
    # A path is not part of a longer word or address: "docs/work/x" and "~/work" are nobody's machine.
    found = re.compile("|".join([*map(re.escape, hosts), *(r"(?<![\w.~/:-])" + re.escape(f) for f in folders)]))
    for path in _tracked():
        if not path.is_file():
            continue
        hit = found.search(path.read_bytes().decode("utf-8", "replace"))
        assert hit is None, f"{path.relative_to(ROOT)}: {hit.group(0)}"


def test_installing_again_costs_nothing(tmp_path):
    """The set-up script stops at its stamp: with a stamp that fits it needs no Python at all."""
    clone = tmp_path / "a clone"
    (clone / "scripts").mkdir(parents=True)
    for name in ("constraints.txt", "pyproject.toml", "scripts/install"):
        (clone / name).write_bytes((ROOT / name).read_bytes())
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": "/nonexistent"}
    key = subprocess.run(
        "(cat constraints.txt pyproject.toml scripts/install; pwd) | cksum", shell=True, cwd=clone, capture_output=True
    )
    (clone / ".venv").mkdir()
    (clone / ".venv/atlab-installed").write_bytes(key.stdout)
    done = subprocess.run(["sh", "scripts/install"], cwd=clone, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_installing_without_a_suitable_python_says_so(tmp_path):
    clone = tmp_path / "clone"
    (clone / "scripts").mkdir(parents=True)
    for name in ("constraints.txt", "pyproject.toml", "scripts/install"):
        (clone / name).write_bytes((ROOT / name).read_bytes())
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "cat", "cksum", "mkdir", "find", "rm", "dirname"):
        path = next(p for p in (Path("/usr/bin") / tool, Path("/bin") / tool) if p.exists())
        (tools / tool).symlink_to(path)
    (tools / "python3").write_text("#!/bin/sh\nexit 1\n")  # an old one: the version test fails
    (tools / "python3").chmod(0o755)
    done = subprocess.run(
        ["sh", "scripts/install"], cwd=clone, env={"PATH": str(tools)}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "atlab needs Python 3.11 or newer: none found" in done.stderr
    assert not (clone / ".venv/atlab-installed").exists()


@pytest.mark.parametrize("module", ["atlab", "atlab.cli.main"])
def test_the_command_line_does_not_wait_for_torch(module):
    heavy = "torch", "librosa", "pandas", "sklearn", "papermill", "nbconvert"
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout.strip() == "[]"


def test_a_wheel_holds_the_notebooks_and_grids_that_the_repository_has(tmp_path):
    code = f"from setuptools import build_meta; print(build_meta.build_wheel({str(tmp_path / 'out')!r}))"
    clone = tmp_path / "clone"
    for name in ("atlab", "data_recipes", "notebooks"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    built = subprocess.run([sys.executable, "-c", code], cwd=clone, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-2000:]
    (wheel,) = (tmp_path / "out").iterdir()
    held = set(zipfile.ZipFile(wheel).namelist())
    shelf = {path.relative_to(ROOT) for path in _tracked() if path.is_relative_to(ROOT / "notebooks")}
    assert {f"atlab/{path.as_posix()}" for path in shelf} == {
        name for name in held if name.startswith("atlab/notebooks/")
    }
    assert {"atlab/py.typed", "atlab/paper/table3_word_recognition.csv", "data_recipes/fsdd.py"} <= held
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in held)
