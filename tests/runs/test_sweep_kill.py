"""Whatever is killed or interrupted: no process stays, and the next sweep completes every run exactly once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import dask
import pytest
from distributed.security import Security

from atlab.errors import AtlabError
from atlab.runs import sweep
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


@pytest.mark.parametrize("which", ["job", pytest.param("kernel", marks=pytest.mark.slow)])
def test_a_killed_worker_takes_its_kernel_along_and_whatever_is_killed_the_run_is_done(tmp_path, which):
    path, root = sweeps.grid(tmp_path, "0..1", GATED + RESULT), tmp_path / "runs"
    sweeping = Sweeping(path, root)
    first, _ = wait_for(lambda: len(found := started(tmp_path)) == 2 and found)
    _, kernel, job = first
    os.kill(job if which == "job" else kernel, signal.SIGKILL)
    wait_for(lambda: gone(kernel) and (which == "kernel" or gone(job)))
    again = wait_for(lambda: len(found := started(tmp_path)) == 3 and found)
    open_gate(tmp_path)
    outcome = sweeping.outcome()
    assert (outcome.done, outcome.failed) == (2, {}) and executed(tmp_path) == [0, 1]
    assert results(root) == {0: 0, 1: 2} and [seed for seed, *_ in again] == [0, 0, 1]


@pytest.mark.slow
def test_a_killed_requirement_is_trained_by_another_process(tmp_path, monkeypatch):
    sweeps.room("killed_requirements", REQUIREMENTS, tmp_path, monkeypatch)
    path = sweeps.grid(tmp_path, "0..1", RESULT, "atlab.killed_requirements:required_by")
    sweeping = Sweeping(path, tmp_path / "runs")
    ((_, _, job),) = wait_for(lambda: started(tmp_path))
    os.kill(job, signal.SIGKILL)
    wait_for(lambda: gone(job))
    wait_for(lambda: len(started(tmp_path)) == 2)
    open_gate(tmp_path)
    assert sweeping.outcome().done == 2
    assert (tmp_path / "trained.txt").read_text() == "base\n" and executed(tmp_path) == [0, 1]


@pytest.mark.parametrize(
    ("which", "said"),
    [
        pytest.param("os.getpid()", "DeadKernelError", marks=pytest.mark.slow),
        ("os.getppid()", "DeadKernelError"),  # the server that kernels are forked from
        (sweeps.WORKER, "its process died"),
    ],
    ids=["kernel", "server", "worker"],
)
def test_a_run_that_kills_every_process_is_given_up(tmp_path, which, said):
    cell = RESULT + sweeps.TEXT + f"import time\nos.kill({which}, 9)\ntime.sleep(60)"
    outcome = sweep.run(sweeps.grid(tmp_path, "5", cell), root=tmp_path / "runs", workers=1, progress=False)
    (message,) = outcome.failed.values()
    assert executed(tmp_path) == [5, 5, 5] and message.startswith("tried 3 times; ") and said in message


@pytest.mark.parametrize(
    "how", [*(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGKILL, signal.SIGTERM)), signal.SIGINT]
)
def test_a_sweep_that_is_ended_leaves_no_process_and_carries_on(tmp_path, command, how):
    path, root = (sweeps.grid(tmp_path, "0..2", RESULT + "if seed:" + GATED.replace("\n", "\n    ")), tmp_path / "runs")
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


def dask_process(which: str, folder: Path, *options: str) -> subprocess.Popen:
    """A scheduler or worker of Dask in a process of its own."""
    words = [sys.executable, "-m", f"distributed.cli.dask_{which}", "--scheduler-file", str(folder / "scheduler.json")]
    address = ["--no-dashboard", "--host", "tls://127.0.0.1"]
    return subprocess.Popen([*words, *address, *options], stderr=subprocess.DEVNULL, cwd=folder, start_new_session=True)


@pytest.fixture
def certificates(tmp_path, monkeypatch):
    """Certificates in Dask's configuration, of this process and of those that it starts."""
    made = Security.temporary()
    files = {"ca-file": made.tls_ca_file, "cert": made.tls_client_cert, "key": made.tls_client_key}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    settings = {"ca-file": str(tmp_path / "ca-file")}
    settings |= {
        f"{role}.{name}": str(tmp_path / name) for role in ("client", "scheduler", "worker") for name in ("cert", "key")
    }
    for name, path in settings.items():
        monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TLS__" + name.upper().replace(".", "__").replace("-", "_"), path)
    with dask.config.set({f"distributed.comm.tls.{name}": path for name, path in settings.items()}):
        yield


@pytest.fixture
def cluster(tmp_path, certificates):
    """A scheduler, and a function that starts a worker; with its nanny it is a process group."""
    processes = [dask_process("scheduler", tmp_path, "--port", "0")]
    wait_for(lambda: (tmp_path / "scheduler.json").exists())

    def worker(*options: str) -> subprocess.Popen:
        processes.append(dask_process("worker", tmp_path, *(options or ("--nthreads", "1"))))
        return processes[-1]

    yield processes[0], worker
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_killed_dask_worker_is_replaced_and_a_killed_scheduler_loses_nothing(tmp_path, cluster):
    path, root = sweeps.grid(tmp_path, "0..1", GATED + RESULT), tmp_path / "runs"
    scheduler, worker = cluster
    address = json.loads((tmp_path / "scheduler.json").read_text())["address"]
    nanny = worker()
    sweeping = Sweeping(path, root, scheduler=address)
    ((_, kernel, job),) = wait_for(lambda: started(tmp_path))
    nanny.kill()
    wait_for(lambda: gone(kernel, job))
    worker()
    found = wait_for(lambda: len(found := started(tmp_path)) == 2 and found)
    scheduler.kill()
    with pytest.raises(AtlabError, match="the Dask scheduler is gone; what is done is kept"):
        sweeping.outcome()
    wait_for(lambda: gone(*processes(found)))
    open_gate(tmp_path)
    outcome = sweep.run(path, root=root, workers=2, progress=False)
    assert (outcome.done, outcome.failed) == (2, {}) and executed(tmp_path) == [0, 1]
    assert results(root) == {0: 0, 1: 2}


@pytest.mark.slow
def test_what_a_killed_sweep_gave_to_a_cluster_ends_there(tmp_path, cluster, command):
    path, root = sweeps.grid(tmp_path, "0", GATED + RESULT), tmp_path / "runs"
    _, worker = cluster
    worker()
    address = json.loads((tmp_path / "scheduler.json").read_text())["address"]
    sweeping = command(path, "--root", root, "--scheduler", address)
    found = wait_for(lambda: started(tmp_path))
    sweeping.kill()
    wait_for(lambda: gone(*processes(found)))
    open_gate(tmp_path)
    assert sweep.run(path, root=root, scheduler=address, progress=False).done == 1, "the worker takes jobs again"


def test_a_worker_that_would_mix_runs_is_refused(tmp_path, cluster):
    _, worker = cluster
    worker("--nthreads", "2", "--no-nanny")
    address = json.loads((tmp_path / "scheduler.json").read_text())["address"]
    path = sweeps.grid(tmp_path, "0")
    with pytest.raises(
        AtlabError, match=r"has 2 threads and no nanny; expected one thread \(--nthreads 1\) and a nanny"
    ):
        sweep.run(path, root=tmp_path / "runs", scheduler=address, progress=False)
    assert not (tmp_path / "log.txt").exists()
