"""Kernels forked from one server: each as if it were alone, and none outlives what started it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from atlab.data.synthetic.toy import toy
from atlab.errors import AtlabError
from atlab.runs import execution, forked, notebooks
from atlab.system.home import packaged_notebooks
from tests.runs.sweeps import gone, wait_for

TRAIN = packaged_notebooks() / "experiments/train.ipynb"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Executes a cell in a forked kernel that has a `note` to write: -> what it wrote."""
    for name, value in forked.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    def execute(cell: str, name: str = "n", cwd: str | None = None):
        cells = [new_code_cell("note = ''", metadata={"tags": ["parameters"]}), new_code_cell(cell)]
        nbformat.write(new_notebook(cells=cells), tmp_path / f"{name}.ipynb")
        note = tmp_path / f"{name}.json"
        execution.execute(
            tmp_path / f"{name}.ipynb", {"note": str(note)}, tmp_path / f"{name}.out.ipynb", cwd=cwd, progress=False
        )
        return json.loads(note.read_text())

    return execute


LOOK = """
import json, os, random, sys, tempfile
import numpy, torch
file = open(note, "w")  # never closed
json.dump({"pid": os.getpid(), "server": os.getppid(), "numpy": numpy.random.rand(), "random": random.random(),
    "threads": torch.get_num_threads(), "cwd": os.getcwd(), "group": os.getpgid(0), "variable": os.environ.get("ONE"),
    "temporary": tempfile.gettempdir(), "main": __name__, "left": globals().get("left")}, file)
left = 1
None
"""


def test_kernels_of_one_server_share_nothing(run, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    first = run(LOOK, "first", cwd=str(tmp_path / "here"))
    monkeypatch.setenv("ONE", "1")
    second = run(LOOK, "second", cwd=str(tmp_path))
    assert first["server"] == second["server"] != os.getpid()
    for name in ("pid", "numpy", "random", "group", "temporary"):
        assert first[name] != second[name], name
    assert (first["cwd"], second["cwd"]) == (str(tmp_path / "here"), str(tmp_path))
    assert (first["variable"], second["variable"]) == (None, "1")
    assert first["main"] == second["main"] == "__main__" and first["threads"] == second["threads"] == 1
    assert second["left"] is None and first["group"] == first["pid"]
    wait_for(lambda: gone(first["pid"], second["pid"]))


def test_a_network_has_the_same_bits_in_a_forked_kernel_and_in_one_of_its_own(tmp_path, monkeypatch):
    data, notebook = toy(tmp_path / "data", words=4, speakers=4, repetitions=4, samples=4096).path, TRAIN
    given = {"data": str(data), "strategy": "baseline", "split": "random", "width": 1 / 64, "epochs": 2, "clips": 40}
    made = []
    for name in ("atlab-forked", ""):
        monkeypatch.setenv("JUPYTER_DEFAULT_PROVISIONER_NAME", name)
        monkeypatch.setattr(forked.ForkedProvisioner, "server", False)
        done = notebooks.run(notebook, given, root=tmp_path / (name or "own"), progress=False)
        assert forked.ForkedProvisioner.server == bool(name)
        made.append(done.model_path.read_bytes())
        outputs = [o for cell in nbformat.read(done.notebook_path, 4).cells for o in cell.get("outputs", ())]
        assert ["100%" in o.text for o in outputs if o.get("name") == "stderr"] == [True], (
            "one bar, as text, at its end"
        )
        assert not any("application/vnd.jupyter.widget-view+json" in o.get("data", ()) for o in outputs)
    assert made[0] == made[1]


def test_a_failure_is_said_as_of_any_kernel_and_the_next_one_is_unharmed(run):
    with pytest.raises(AtlabError, match="n.ipynb failed: ZeroDivisionError in cell 3: division by zero"):
        run("1 / 0")
    with pytest.raises(AtlabError, match="DeadKernelError"):
        run("import os\nos._exit(3)")
    assert run("open(note, 'w').write('5')") == 5


def test_a_server_that_was_killed_takes_its_kernel_along_and_is_started_again(run):
    with pytest.raises(AtlabError, match="DeadKernelError"):
        run(f"import os, time\nos.kill(os.getppid(), {signal.SIGKILL})\ntime.sleep(60)")
    assert run("import os\nopen(note, 'w').write(str(os.getpid()))") > 0


def test_a_kernel_may_start_processes(run):
    cell = "from atlab.system.processes import pool\nwith pool(1) as processes:\n    n = processes.submit(len, 'abc').result()\nopen(note, 'w').write(str(n))"
    assert run(cell) == 3


STAY = """
import json, os, sys, time
there = [name in sys.modules for name in ("torch", "atlab.training", "plotly.io")]
from atlab import training
json.dump([os.getpid(), os.getppid(), there], open(note, "w"))
time.sleep(300)
"""


def test_what_a_notebook_imports_is_there_and_server_and_kernel_end_with_the_process_that_started_them(tmp_path):
    cells = [new_code_cell("note = ''", metadata={"tags": ["parameters"]}), new_code_cell(STAY)]
    nbformat.write(new_notebook(cells=cells), tmp_path / "n.ipynb")
    note = tmp_path / "note"
    script = (
        "from atlab.runs import execution\n"
        f"execution.execute({str(tmp_path / 'n.ipynb')!r}, {{'note': {str(note)!r}}}, {str(tmp_path / 'o.ipynb')!r}, progress=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], env=os.environ | forked.ENVIRONMENT)
    try:
        *pids, there = json.loads(
            wait_for(lambda: note.exists() and note.read_text().endswith("]]") and note.read_text())
        )
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: gone(*pids))
    assert there == [True, True, True]


@pytest.mark.parametrize(
    "command",
    [
        ["/usr/bin/python3.99", "-m", "ipykernel_launcher", "-f", "x.json"],
        [sys.executable, "-m", "xeus", "-f", "x.json"],
        ["R", "--slave", "-e", "IRkernel::main()"],
        [],
    ],
)
def test_kernels_of_other_languages_and_interpreters_are_left_to_jupyter(command):
    assert not forked.forks(command)
