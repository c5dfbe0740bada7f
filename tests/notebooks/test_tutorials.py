"""Tutorials: each cell runs, in order, in a clean kernel; small where its own size takes minutes. One of them runs under nbval.

Those that another test file runs as programs are not run a second time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import atlab
from atlab.runs import execution

TUTORIALS = sorted((Path(__file__).parents[2] / "notebooks/tutorials").glob("*.ipynb"))
SMALL = {
    "07_image_study": {
        "data": "digits",
        "width": 0.03125,
        "clips": 100,
        "teacher_clips": 100,
        "epochs": 1,
        "seeds": 2,
        "workers": 1,
    },
    "08_another_corpus": {
        "data": "toy",
        "elsewhere": "toy2",
        "width": 0.03125,
        "clips": 0,
        "teacher_clips": 0,
        "epochs": 1,
    },
}


RUN_ELSEWHERE = {
    "01_quickstart": "test_experiments.py",
    "02_your_own_loop": "test_your_own_loop.py",
    "03_bring_your_own_data": "test_bring_your_own.py",
    "04_your_own_strategy": "test_your_own_strategy.py",
    "06_transfer_layers": "test_transfer_layers.py",
    "09_reading_a_study": "test_reading_a_study.py",
}


def test_what_runs_elsewhere_does():
    for tutorial, file in RUN_ELSEWHERE.items():
        text = (Path(__file__).parent / file).read_text()
        assert f"{tutorial}.ipynb" in text and "execution.execute(" in text, tutorial


@pytest.mark.parametrize("tutorial", [t for t in TUTORIALS if t.stem in SMALL], ids=lambda path: path.stem)
def test_every_cell_runs(tutorial, tmp_path, monkeypatch):
    for name, seed in (("toy", 0), ("toy2", 5)):
        atlab.data.toy(tmp_path / name, words=3, speakers=6, repetitions=8, samples=4096, seed=seed)
    atlab.data.synthetic_digits(tmp_path / "digits", images=12, workers=0)
    monkeypatch.chdir(tmp_path)
    executed = execution.execute(tutorial, SMALL[tutorial.stem], tmp_path / "out.ipynb", progress=False)
    cells = [c for c in nbformat.read(executed, 4).cells if c.cell_type == "code"]
    assert all(c.execution_count for c in cells) and any(c.outputs for c in cells)


@pytest.mark.parametrize(
    "tutorial", [t for t in TUTORIALS if t.stem not in RUN_ELSEWHERE.keys() | SMALL.keys()], ids=lambda path: path.stem
)
def test_every_cell_runs_under_nbval(tutorial, tmp_path):
    notebook = nbformat.read(tutorial, as_version=4)
    shutil.copy(tutorial, tmp_path)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval-lax",
        "--nbval-cell-timeout=300",
        "-q",
        "-c",
        os.devnull,
        f"--rootdir={tmp_path}",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        tutorial.name,
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    cells = sum(c.cell_type == "code" for c in notebook.cells)
    assert done.returncode == 0 and f"{cells} passed" in done.stdout, done.stdout[-3000:] + done.stderr[-1000:]


def test_the_saved_notebooks_are_small_and_hold_no_output():
    """Also those of explorers: widgets leave nothing in the file."""
    folder = Path(__file__).parents[2] / "notebooks"
    for path in folder.rglob("*.ipynb"):
        if ".ipynb_checkpoints" not in path.parts and "runs" not in path.relative_to(folder).parts:
            notebook = nbformat.read(path, as_version=4)
            assert path.stat().st_size < 100_000 and "widgets" not in notebook.metadata, path
            assert not any(c.get("outputs") for c in notebook.cells), path
