"""Sweeps of small notebooks: every run once whatever is killed, failures kept apart, requirements first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from atlab import engines, grid, runs, sweep
from atlab.errors import AtlabError

RESULT = """
from atlab import runs
with open(LOG, "a") as file:
    file.write(f"{seed}\\n")
runs.Run(run_dir).save_result({"double": 2 * seed})
"""
MODULE = '''
from pathlib import Path
import time

def required_by(of):
    """A run with a seed requires a base; base 9 cannot be had."""
    return [] if isinstance(of, str) else [f"base {of.get('seed', 0) % 2 if of.get('seed') != 9 else 9}"]

def train_required(need, root, study):
    if need == "base 9":
        raise ValueError("no such base")
    time.sleep(0.3)
    with open(Path(root) / "trained.txt", "a") as file:
        file.write(need + "\\n")
'''


@pytest.fixture
def make(tmp_path):
    """A grid over a notebook whose cell is given; LOG is a file that every execution adds its seed to."""

    def make(seeds: str, cell: str = RESULT, requires: str = "") -> Path:
        cell = f"LOG = {str(tmp_path / 'log.txt')!r}\n{cell}"
        cells = [new_code_cell('seed = 0\nrun_dir = ""', metadata={"tags": ["parameters"]}), new_code_cell(cell)]
        notebook = new_notebook(cells=cells, metadata={"atlab": {"requires": requires}} if requires else {})
        nbformat.write(notebook, tmp_path / "n.ipynb")
        (tmp_path / "g.yaml").write_text(f"study: s\nnotebook: n.ipynb\naxes: {{seed: {seeds}}}")
        return tmp_path / "g.yaml"

    return make


def executed(folder: Path) -> list[int]:
    return sorted(map(int, (folder / "log.txt").read_text().split()))


def doubles(root: Path) -> dict[int, int]:
    table = runs.table(root / "s")
    return dict(zip(table["seed"], table["double"], strict=True))


def test_every_run_is_done_once_and_the_next_sweep_reads_them(make, tmp_path):
    path = make("0..3")
    first = sweep.run(path, root=tmp_path / "runs", workers=2, progress=False)
    assert (first.done, first.done_before, first.failed) == (4, 0, {})
    assert doubles(tmp_path / "runs") == {0: 0, 1: 2, 2: 4, 3: 6}
    wider = sweep.run(make("2..5"), root=tmp_path / "runs", workers=2, progress=False)
    assert (wider.done, wider.done_before) == (2, 2) and executed(tmp_path) == [0, 1, 2, 3, 4, 5]
    assert sorted(wider.table()["seed"]) == [2, 3, 4, 5], "the table holds the grid's runs, not the study's"
    assert wider.check() is wider and "4 runs, 2 done" in wider.summary()


def test_a_failing_notebook_keeps_its_copy_and_stops_no_other(make, tmp_path):
    path = make("0..2", 'assert seed != 1, "an odd seed"\n' + RESULT)
    outcome = sweep.run(path, root=tmp_path / "runs", workers=2, progress=False)
    (name,) = outcome.failed
    assert outcome.done == 2 and "AssertionError" in outcome.failed[name] and "an odd seed" in outcome.failed[name]
    assert (Path(name) / "out.failed.ipynb").exists() and not (Path(name) / "done").exists()
    with pytest.raises(AtlabError, match="1 of 3 runs failed; .*an odd seed"):
        outcome.check()


def test_a_run_whose_process_is_killed_is_done_by_another(make, tmp_path):
    """kill -9 of the job (the kernel's parent) the first time it comes here."""
    killing = f"import os\nif not os.path.exists({str(tmp_path)!r} + f'/met{{seed}}') and seed == 1:\n    open({str(tmp_path)!r} + f'/met{{seed}}', 'w')\n    os.kill(os.getppid(), 9)\n    import time; time.sleep(60)\n"
    outcome = sweep.run(make("0..2", killing + RESULT), root=tmp_path / "runs", workers=2, progress=False)
    assert (outcome.done, outcome.failed) == (3, {}) and executed(tmp_path) == [0, 1, 2]


def test_a_run_that_kills_every_process_is_given_up(make, tmp_path):
    cell = "import os, time\nopen(LOG, 'a').write(f'{seed}\\n')\nos.kill(os.getppid(), 9)\ntime.sleep(60)"
    outcome = sweep.run(make("[5]", cell), root=tmp_path / "runs", workers=1, progress=False)
    assert executed(tmp_path) == [5, 5, 5] and "tried 3 times" in next(iter(outcome.failed.values()))


SLOW = RESULT + "\nimport time; time.sleep(0.5)\n"
SCRIPT = "import sys\nfrom atlab import sweep\nif __name__ == '__main__':\n    print(sweep.run(sys.argv[1], root=sys.argv[2], workers=2, progress=False).summary())"


def start(path: Path, root: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(path), str(root)], stdout=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(condition, seconds: float = 90.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)


def offspring(marker: str) -> list[int]:
    """Processes whose environment or command line names the marker."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker in (folder / "cmdline").read_text() + (folder / "environ").read_text():
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_sweep_that_is_killed_or_interrupted_carries_on_and_leaves_no_process(make, tmp_path, how):
    path, root = make("0..4", SLOW), tmp_path / "runs"
    process = start(path, root)
    wait_for(lambda: list(root.glob("s/*/done")))
    process.send_signal(how)
    process.wait(30)
    wait_for(lambda: not [p for p in offspring(str(root)) if p != process.pid], 20)
    before = len(list(root.glob("s/*/done")))
    assert before < 5
    outcome = sweep.run(path, root=root, workers=2, progress=False)
    assert (outcome.done_before, outcome.done, outcome.failed) == (before, 5 - before, {})
    assert doubles(root) == {seed: 2 * seed for seed in range(5)}


def test_two_sweeps_at_once_share_the_work(make, tmp_path):
    path, root = make("0..5", SLOW), tmp_path / "runs"
    both = [start(path, root) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0] and all("0 failed" in text for text in said)
    assert executed(tmp_path) == list(range(6)), "every run was executed once"


@pytest.fixture
def requires(tmp_path, monkeypatch):
    (tmp_path / "sweep_test_requirements.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "runs").mkdir()
    return "sweep_test_requirements:required_by"


def test_what_runs_require_is_trained_once_before_them(make, tmp_path, requires):
    outcome = sweep.run(make("0..3", RESULT, requires), root=tmp_path / "runs", workers=2, progress=False)
    assert (outcome.done, outcome.failed) == (4, {})
    assert sorted((tmp_path / "runs/trained.txt").read_text().split("\n")[:-1]) == ["base 0", "base 1"]
    nodes = sweep.plan(grid.load(make("4..5", RESULT, requires)), tmp_path / "runs")
    assert [len(node.after) for node in nodes] == [0, 0, 1, 1]


def test_what_cannot_be_had_fails_those_who_need_it_only(make, tmp_path, requires):
    outcome = sweep.run(make("[0, 9]", RESULT, requires), root=tmp_path / "runs", workers=2, progress=False)
    assert outcome.done == 1 and len(outcome.failed) == 2
    assert any("what it requires failed: ValueError: no such base" in message for message in outcome.failed.values())


def test_a_dask_cluster_runs_them_too(make, tmp_path):
    outcome = sweep.run(make("0..2"), root=tmp_path / "runs", workers=2, scheduler="local", progress=False)
    assert (outcome.done, outcome.failed) == (3, {}) and executed(tmp_path) == [0, 1, 2]


def test_a_scheduler_that_does_not_answer_is_named(make, tmp_path, monkeypatch):
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), pytest.raises(AtlabError, match="no Dask scheduler answers at 'tcp://127.0.0.1:1'"):
        sweep.run(make("0"), root=tmp_path / "runs", scheduler="tcp://127.0.0.1:1", progress=False)


def test_one_run_by_its_number_and_the_line_for_slurm(make, tmp_path):
    path = make("0..3")
    assert sweep.run(path, root=tmp_path / "runs", workers=1, only=2, progress=False).done == 1
    assert executed(tmp_path) == [2]
    with pytest.raises(AtlabError, match="run 4 of s: allowed are 0 to 3"):
        sweep.run(path, root=tmp_path / "runs", only=4)
    line = sweep.sbatch(path, "laptop", "runs")
    assert line.startswith("sbatch --array=0-3 --wrap 'atlab sweep ") and "--only $SLURM_ARRAY_TASK_ID'" in line


def test_devices_are_given_by_the_environment_and_shared_as_asked():
    assert engines.slots(2) == [{}, {}]
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in engines.slots(2, ["0", "3"], 2)] == ["0", "0", "3", "3"]
    with pytest.raises(AtlabError, match="at least one worker"):
        engines.slots(0)


def test_a_dry_run_counts_and_writes_nothing(make, tmp_path):
    assert sweep.dry_run(make("0..3"), "laptop", tmp_path / "runs", 2) == "s: 4 runs, 0 done, 4 to do; 0 networks required first"
    assert not (tmp_path / "runs").exists()
