"""Whatever is killed or interrupted: no process stays, and the next sweep completes every run exactly once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from atlab.runs import forkserver, sweep
from atlab.errors import AtlabError
from tests.runs import sweeps
from tests.runs.sweeps import GATED, RESULT, Sweeping, executed, gone, open_gate, results, started, wait_for

REQUIREMENTS = """
import os
import time
from pathlib import Path

def required_by(of):
    return [] if isinstance(of, str) else ["base"]

def train_required(need, root, study):
    folder = Path(root).parent
    (folder / f"started 0 0 {os.getpid()}").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    with open(folder / "trained.txt", "a") as file:
        file.write(need + "\\n")
"""


@pytest.fixture(autouse=True)
def light(monkeypatch):
    monkeypatch.setattr(forkserver, "PRELOADED", sweeps.PRELOADED)


@pytest.fixture
def command():
    """Starts `atlab sweep`; what a failed test leaves is killed."""
    made = []

    def start(*arguments: object) -> subprocess.Popen:
        made.append(sweeps.command(*arguments))
        return made[-1]

    yield start
    for process in made:
        process.kill()
        process.communicate()


def processes(found: list[tuple[int, int, int]]) -> list[int]:
    return [pid for _, kernel, job in found for pid in (kernel, job)]


@pytest.mark.parametrize("which", ["job", "kernel"])
def test_a_killed_process_takes_its_other_half_along_and_its_run_is_done_by_another(tmp_path, which):
    path, root = sweeps.grid(tmp_path, "0..1", GATED + RESULT), tmp_path / "runs"
    sweeping = Sweeping(path, root)
    first, _ = wait_for(lambda: len(found := started(tmp_path)) == 2 and found)
    _, kernel, job = first
    os.kill(job if which == "job" else kernel, signal.SIGKILL)
    wait_for(lambda: gone(kernel, job))
    again = wait_for(lambda: len(found := started(tmp_path)) == 3 and found)
    open_gate(tmp_path)
    outcome = sweeping.outcome()
    assert (outcome.done, outcome.failed) == (2, {}) and executed(tmp_path) == [0, 1]
    assert results(root) == {0: 0, 1: 2} and [seed for seed, *_ in again] == [0, 0, 1]


def test_a_killed_requirement_is_trained_by_another_process(tmp_path, monkeypatch):
    """Its job holds a kernel-to-be that nobody asked for yet; that must not outlive it."""
    (tmp_path / "killed_requirements.py").write_text(REQUIREMENTS)
    monkeypatch.syspath_prepend(tmp_path)
    path = sweeps.grid(tmp_path, "0..1", RESULT, "killed_requirements:required_by")
    sweeping = Sweeping(path, tmp_path / "runs")
    ((_, _, job),) = wait_for(lambda: started(tmp_path))
    (kernel_to_be,) = sweeps.children(job)
    os.kill(job, signal.SIGKILL)
    wait_for(lambda: gone(job, kernel_to_be))
    wait_for(lambda: len(started(tmp_path)) == 2)
    open_gate(tmp_path)
    assert sweeping.outcome().done == 2
    assert (tmp_path / "trained.txt").read_text() == "base\n" and executed(tmp_path) == [0, 1]


def test_a_run_that_kills_every_process_is_given_up(tmp_path):
    cell = RESULT + "import os, time\nos.kill(os.getpid(), 9)"
    outcome = sweep.run(sweeps.grid(tmp_path, "5", cell), root=tmp_path / "runs", workers=1, progress=False)
    (message,) = outcome.failed.values()
    assert (
        executed(tmp_path) == [5, 5, 5]
        and message.startswith("tried 3 times; ")
        and "DeadKernelError" in message
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_sweep_that_is_ended_leaves_no_process_and_carries_on(tmp_path, command, how):
    path, root = (
        sweeps.grid(tmp_path, "0..2", RESULT + "if seed:" + GATED.replace("\n", "\n    ")),
        tmp_path / "runs",
    )
    process = command(path, "--root", root)
    pids = processes(wait_for(lambda: len(found := started(tmp_path)) == 2 and found))
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.send_signal(how)
    _, told = process.communicate(timeout=300)
    wait_for(lambda: gone(*pids))
    if how == signal.SIGINT:
        assert process.returncode == 130 and "interrupted; the same command carries on" in told
        assert "Traceback" not in told
    else:
        assert process.returncode == -how
    assert len(list(root.glob("s/*/done"))) == 1
    open_gate(tmp_path)
    outcome = sweep.run(path, root=root, workers=2, progress=False)
    assert (outcome.done_before, outcome.done, outcome.failed) == (1, 2, {})
    assert results(root) == {0: 0, 1: 2, 2: 4} and executed(tmp_path) == [0, 1, 1, 2, 2]
    assert not list(root.rglob(".out*")), "no part of an interrupted execution stays"


def test_two_sweeps_of_one_study_share_the_work(tmp_path, command):
    path, root = sweeps.grid(tmp_path, "0..5", GATED + RESULT), tmp_path / "runs"
    other = command(path, "--root", root)
    wait_for(lambda: len(started(tmp_path)) == 2)
    here = Sweeping(path, root)
    wait_for(lambda: len(started(tmp_path)) == 4)
    open_gate(tmp_path)
    outcome = here.outcome()
    said, told = other.communicate(timeout=300)
    assert other.returncode == 0 and "6 runs, 6 done" in said and "0 failed" in said, told
    assert (outcome.done, outcome.failed) == (6, {}), "what the other has done counts"
    assert executed(tmp_path) == list(range(6)) and results(root) == {seed: 2 * seed for seed in range(6)}


def dask(which: str, folder: Path, *options: str) -> subprocess.Popen:
    """A scheduler or worker of Dask in a process of its own."""
    light = folder / "light.py"
    light.write_text(f"from atlab import forked\nforked.PRELOADED = {sweeps.PRELOADED}")
    words = [
        sys.executable,
        "-m",
        f"distributed.cli.dask_{which}",
        "--scheduler-file",
        str(folder / "scheduler.json"),
    ]
    return subprocess.Popen(
        [*words, *options, "--preload", str(light)], stderr=subprocess.DEVNULL, cwd=folder
    )


@pytest.fixture
def dask_scheduler(tmp_path):
    processes = [dask("scheduler", tmp_path, "--host", "127.0.0.1", "--port", "0", "--no-dashboard")]
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def test_a_killed_dask_worker_is_replaced_and_a_killed_scheduler_loses_nothing(tmp_path, dask_scheduler):
    path, root = sweeps.grid(tmp_path, "0..1", GATED + RESULT), tmp_path / "runs"
    wait_for(lambda: (tmp_path / "scheduler.json").exists())
    worker = ["--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1"]
    address = json.loads((tmp_path / "scheduler.json").read_text())["address"]
    dask_scheduler.append(dask("worker", tmp_path, *worker, "--no-nanny"))
    sweeping = Sweeping(path, root, scheduler=address)
    ((_, kernel, job),) = wait_for(lambda: started(tmp_path))
    dask_scheduler[1].kill()
    wait_for(lambda: gone(kernel, job))
    dask_scheduler.append(dask("worker", tmp_path, *worker, "--no-nanny"))
    found = wait_for(lambda: len(found := started(tmp_path)) == 2 and found)
    dask_scheduler[0].kill()
    with pytest.raises(AtlabError, match="the Dask scheduler is gone; what is done is kept"):
        sweeping.outcome()
    wait_for(lambda: gone(*processes(found)))
    open_gate(tmp_path)
    outcome = sweep.run(path, root=root, workers=2, progress=False)
    assert (outcome.done, outcome.failed) == (2, {}) and executed(tmp_path) == [0, 1]
    assert results(root) == {0: 0, 1: 2}
