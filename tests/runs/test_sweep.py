"""Sweeps of small notebooks: every run once, failures kept apart, requirements first, one slot a device share."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import dask
import nbformat
import pytest
import torch
from typer.testing import CliRunner

import atlab
from atlab import experiment
from atlab.cli import main
from atlab.errors import AtlabError
from atlab.runs import engines, grid, jobs, progress, sweep
from atlab.runs.dry_run import dry_run
from tests.runs import sweeps
from tests.runs.sweeps import RESULT, executed, results

REQUIREMENTS = '''
from pathlib import Path

def required_by(of):
    """A run with a seed requires a base, which requires the ground; base 9 cannot be had."""
    if isinstance(of, dict):
        return ["base 9" if of["seed"] == 9 else f"base {of['seed'] % 2}"]
    return [] if of == "ground" else ["ground"]

def train_required(need, root, study):
    assert need == "ground" or (Path(root) / "trained.txt").read_text().startswith("ground")
    if need == "base 9":
        raise ValueError("no such base")
    with open(Path(root) / "trained.txt", "a") as file:
        file.write(f"{need} for {study}\\n")
'''
NEEDS = """
from pathlib import Path
assert f"base {seed % 2} for s" in Path(run_dir, "../../trained.txt").read_text()
"""


@pytest.fixture
def requires(tmp_path, monkeypatch):
    sweeps.room("sweep_requirements", REQUIREMENTS, tmp_path, monkeypatch)
    (tmp_path / "runs").mkdir()
    yield "atlab.sweep_requirements:required_by"
    sys.modules.pop("atlab.sweep_requirements", None)


def run(path, tmp_path, **options) -> sweep.Outcome:
    return sweep.run(path, root=tmp_path / "runs", progress=False, **{"workers": 2, **options})


def test_every_run_is_done_once_and_the_next_sweep_reads_them(tmp_path):
    first = run(sweeps.grid(tmp_path, "0..3"), tmp_path)
    assert (first.done, first.done_before, first.failed) == (4, 0, {})
    assert results(tmp_path / "runs") == {0: 0, 1: 2, 2: 4, 3: 6}
    wider = run(sweeps.grid(tmp_path, "2..5"), tmp_path)
    assert (wider.done, wider.done_before) == (2, 2) and executed(tmp_path) == [0, 1, 2, 3, 4, 5]
    assert sorted(wider.table()["seed"]) == [2, 3, 4, 5], "the table holds the grid's runs, not the study's"
    assert wider.check() is wider and "s: 4 runs, 2 done" in wider.summary()


def test_a_failing_notebook_keeps_its_copy_and_stops_no_other(tmp_path):
    path = sweeps.grid(tmp_path, "0..2", 'assert seed != 1, "an odd seed"\n' + RESULT)
    outcome = run(path, tmp_path)
    (name,) = outcome.failed
    assert outcome.done == 2 and sorted(results(tmp_path / "runs")) == [0, 2]
    assert (
        "AssertionError in cell 3: an odd seed" in outcome.failed[name] and "assert seed != 1" in outcome.failed[name]
    )
    copy = nbformat.read(Path(name) / "out.failed.ipynb", 4)
    assert any(output.get("ename") == "AssertionError" for cell in copy.cells for output in cell.get("outputs", ()))
    assert not (Path(name) / "done").exists()
    with pytest.raises(AtlabError, match="1 of 3 runs and what they require failed; .*an odd seed"):
        outcome.check()


def test_the_command_reports_what_failed_while_and_after_it_runs(tmp_path):
    path = sweeps.grid(tmp_path, "0..1", 'assert seed != 1, "an odd seed"\n' + RESULT)
    done = CliRunner().invoke(main.app, ["sweep", str(path), "--root", str(tmp_path / "runs"), "--workers", "1"])
    assert done.exit_code == 1 and "s: 2 runs, 1 done in 0:" in done.output and "1 failed" in done.output
    assert done.output.count("an odd seed") >= 2 and "out.failed.ipynb" in done.output


@pytest.mark.parametrize("width", [60, 200])
def test_a_terminal_shows_a_table(tmp_path, width):
    reader, writer = pty.openpty()
    script = (
        "from types import SimpleNamespace as N\nfrom atlab.runs.progress import view\n"
        "nodes = [N(name='a', state='done', seconds=2.0, said=''), N(name='b', state='waiting', seconds=0.0, said='')]\n"
        "with view('words', nodes, True) as show:\n    nodes[1].state, nodes[1].said = 'failed', 'no data\\nmore'\n    show()"
    )
    environment = {**os.environ, "COLUMNS": str(width), "TERM": "xterm"}
    subprocess.run([sys.executable, "-c", script], stderr=writer, env=environment, check=True)
    os.close(writer)
    shown = os.read(reader, 1 << 16).decode()
    assert all(word in shown for word in ("sweep words", "done", "running", "waiting", "passed", "failed: b: no data"))
    assert "more" not in shown


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end(capsys, monkeypatch):
    nodes = [SimpleNamespace(name=name, state="waiting", seconds=0.0, said="") for name in "abc"]
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=0.0)
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    with progress.view("words", nodes, True) as show:
        show()
        nodes[0].state, nodes[0].seconds, nodes[1].state, clock.now = "done", 20.0, "running", 29.0
        show()
        nodes[2].state, nodes[2].said, clock.now = "failed", "no data", 31.0
        show()
        nodes[1].state, clock.now = "done", 70.0
    assert capsys.readouterr().err.splitlines() == [
        "words: 0 done, 0 running, 3 waiting, 0 held, 0 failed; 0:00:00 passed",
        "failed: c: no data",
        "words: 1 done, 1 running, 0 waiting, 0 held, 1 failed; 0:00:31 passed, about 0:00:20 left",
        "words: 2 done, 0 running, 0 waiting, 0 held, 1 failed; 0:01:10 passed",
    ]


def test_what_runs_require_is_trained_once_before_them(tmp_path, requires):
    outcome = run(sweeps.grid(tmp_path, "0..3", NEEDS + RESULT, requires), tmp_path)
    assert (outcome.done, outcome.failed) == (4, {})
    trained = (tmp_path / "runs/trained.txt").read_text().splitlines()
    assert trained[0] == "ground for s" and sorted(trained[1:]) == ["base 0 for s", "base 1 for s"]
    nodes = jobs.plan(grid.load(sweeps.grid(tmp_path, "3..5", NEEDS + RESULT, requires)), tmp_path / "runs")
    assert [node.name for node in nodes if not node.folder] == ["ground", "base 0", "base 1"]
    assert [node.state for node in nodes if node.folder] == ["done", "waiting", "waiting"]


def test_what_cannot_be_had_fails_those_who_need_it_only(tmp_path, requires):
    outcome = run(sweeps.grid(tmp_path, "[0, 9]", NEEDS + RESULT, requires), tmp_path)
    assert outcome.done == 1 and len(outcome.failed) == 2 and outcome.failed["base 9"] == "ValueError: no such base"
    assert "what it requires failed: ValueError: no such base" in outcome.failed.values()


@pytest.mark.parametrize("name", ["atlab.no_such_module:required_by", "atlab.errors:required_by"])
def test_requirements_that_nobody_knows_are_named(tmp_path, name):
    with pytest.raises(AtlabError, match=f"n.ipynb names its requirements as '{name}', which does not exist"):
        run(sweeps.grid(tmp_path, "0", requires=name), tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "stranger:required_by",
        "stranger:run",
        "atlab.experiment:train",
        "atlab.experiment",
        "atlab",
        "atlab..x:required_by",
    ],
)
def test_a_notebook_names_no_code_of_others_to_be_run(tmp_path, monkeypatch, name):
    """Importing this module, or calling anything of it, would leave a file."""
    leaves = f"open({str(tmp_path / 'was run')!r}, 'w')"
    (tmp_path / "stranger.py").write_text(f"{leaves}\nrequired_by = run = lambda *_: {leaves}")
    monkeypatch.syspath_prepend(tmp_path)
    path = sweeps.grid(tmp_path, "0", requires=name)
    for how in (dry_run, sweep.run):
        with pytest.raises(AtlabError, match="expected 'atlab.MODULE:required_by'"):
            how(path, root=tmp_path / "runs")
    assert not (tmp_path / "was run").exists() and not (tmp_path / "runs").exists()


def test_a_requirement_is_shown_by_what_differs_from_its_defaults():
    from atlab.experiment.settings import Settings

    assert jobs.described(Settings(orthogonal="emotion", seed=2)) == "orthogonal emotion, seed 2"


def test_notebooks_are_clean_processes_that_may_start_others(tmp_path):
    """No shared random state, their slot's environment, one thread, children allowed."""
    cell = """
import json, os
import numpy
from atlab import runs
from atlab.system.processes import pool
with pool(1) as processes:
    length = processes.submit(len, "abc").result()
result = {"length": length, "random": numpy.random.rand(), "threads": os.environ["OMP_NUM_THREADS"], "parent": os.getppid(),
          "device": os.environ["CUDA_VISIBLE_DEVICES"], "main": __name__}
runs.Run(run_dir).save_result(result)
"""
    table = run(sweeps.grid(tmp_path, "0..1", cell), tmp_path, devices=["MIG-a", "MIG-b"]).check().table()
    assert set(table["length"]) == {3} and set(table["main"]) == {"__main__"}
    assert table["random"].nunique() == table["parent"].nunique() == 2
    assert set(table["threads"]) == {"1"} and set(table["device"]) == {"MIG-a", "MIG-b"}


def test_a_script_needs_no_main_guard(tmp_path):
    path = sweeps.grid(tmp_path, "0..1")
    script = tmp_path / "script.py"
    script.write_text(
        "from atlab.runs import sweep\nprint('begun')\n"
        f"print(sweep.run({str(path)!r}, root={str(tmp_path / 'runs')!r}, progress=False).done)"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["begun", "2"] and done.stderr == ""


def test_a_sweep_listens_on_the_loopback_interface_only(tmp_path):
    path = sweeps.grid(tmp_path, "0..1", sweeps.GATED + RESULT)
    sweeping = sweeps.Sweeping(path, tmp_path / "runs")
    found = sweeps.wait_for(lambda: len(found := sweeps.started(tmp_path)) == 2 and found)
    listening = [c for pid in (os.getpid(), *(job for _, _, job in found)) for c in sweeps.listening(pid)]
    sweeps.open_gate(tmp_path)
    assert sweeping.outcome().done == 2
    assert len(listening) == 5, "a scheduler, two nannies, two workers: no web server"
    assert set(listening) == {"0100007F"}


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "127.0.0.1:1"])
def test_a_scheduler_without_security_is_refused(tmp_path, address):
    with pytest.raises(AtlabError, match=f"the scheduler '{address}' is not protected: expected a tls:// address"):
        run(sweeps.grid(tmp_path, "0"), tmp_path, scheduler=address)


def test_a_scheduler_that_does_not_answer_is_named(tmp_path):
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(AtlabError, match="no Dask scheduler answers at 'tcp://127.0.0.1:1'"),
    ):
        run(sweeps.grid(tmp_path, "0"), tmp_path, scheduler="tcp://127.0.0.1:1", trust_network=True)


def test_one_run_by_its_number(tmp_path):
    path = sweeps.grid(tmp_path, "0..3")
    assert run(path, tmp_path, only=2, workers=1).done == 1 and executed(tmp_path) == [2]
    with pytest.raises(AtlabError, match="run 4 of s: allowed are 0 to 3"):
        run(path, tmp_path, only=4)


def test_a_mapping_and_a_grid_are_taken_too(tmp_path, monkeypatch):
    path = sweeps.grid(tmp_path, "0..3")
    monkeypatch.chdir(tmp_path)
    content = {"study": "s", "notebook": "n.ipynb", "axes": {"seed": "0..3"}}
    assert jobs.load(content, "laptop") == jobs.load(path, "laptop") == jobs.load(grid.load(path), "laptop")
    assert jobs.load(content, "laptop", seed=7).jobs == [{"seed": 7}]
    with pytest.raises(AtlabError, match="a Grid is complete: seed cannot override its parameters"):
        jobs.load(grid.load(path), "laptop", seed=7)


def test_the_line_for_slurm_runs_a_task_a_run_with_the_same_parameters(tmp_path, monkeypatch):
    folder = tmp_path / "with space"
    folder.mkdir()
    path = sweeps.grid(folder, "0..3")
    said = (
        CliRunner().invoke(main.app, ["sweep", str(path), "--sbatch", "-p", "run_dir", "a b", "--root", "runs"]).output
    )
    sbatch, array, wrap, command = shlex.split(said)
    assert (sbatch, array, wrap) == ("sbatch", "--array=0-3", "--wrap")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    script = "import shlex, sys; print(shlex.join(sys.argv[1:]))"
    words = shlex.split(
        subprocess.check_output(["sh", "-c", command.replace("atlab", f"{sys.executable} -c '{script}'", 1)], text=True)
    )
    assert words == [
        "sweep",
        str(path),
        "--scale",
        "laptop",
        "--root",
        "runs",
        "--workers",
        "1",
        "-p",
        "run_dir=a b",
        "--only",
        "3",
    ]


def test_devices_are_given_by_the_environment_and_shared_as_asked(monkeypatch):
    assert engines.slots(2) == [{}, {}]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in engines.slots(2, ["0", "3"], 2)] == ["0", "0", "3", "3"]
    with pytest.raises(AtlabError, match="at least one worker"):
        engines.slots(0)
    with pytest.raises(AtlabError, match="unknown device 'cuda:4'"):
        engines.slots(2, ["4"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(AtlabError, match="unknown device 'cuda:0'.*allowed: cpu"):
        engines.slots(2, ["0"])


def test_the_time_left_comes_from_what_ended_and_what_runs_side_by_side():
    def node(state, seconds=0.0):
        return jobs.Node("", print, (), state=state, seconds=seconds)

    ended, waiting = [node("done", 10.0), node("failed", 20.0), node("done")], 3 * [node("waiting")]
    assert progress.left(waiting) is None
    nodes = [*ended, *waiting, node("held"), node("running"), node("running")]
    assert progress.left(nodes) == 15.0 * 6 / 2


def test_a_dry_run_counts_and_writes_nothing(tmp_path):
    path = sweeps.grid(tmp_path, "0..3")
    assert dry_run(path, root=tmp_path / "runs") == "s: 4 runs, 0 done, 4 to do; 0 networks required first"
    assert "s: 1 runs, 0 done, 1 to do" in dry_run(path, root=tmp_path / "runs", only=1)
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_times_every_configuration_once_and_adds_up_all(tmp_path, monkeypatch):
    asked = []

    def estimate(parameters):
        asked.append(parameters)
        return {"seconds": 100.0 if parameters.get("role") == "teacher" else 10.0, "peak_bytes": 2.0**30}

    monkeypatch.setattr(experiment, "estimate_run", estimate)
    train = Path(__file__).parents[2] / "notebooks/experiments/train.ipynb"
    content = {"study": "s", "notebook": str(train), "axes": {"seed": "0..2", "strategy": ["baseline", "wi"]}}
    text = dry_run(content, root=tmp_path, workers=2)
    assert len(asked) == 3 and "s: 6 runs, 0 done, 6 to do; 1 networks required first" in text
    assert (
        "0:01:20 with 2 workers (0:02:40 of training in all)" in text
        and "1.00 GiB per run" in text
        and "2.00 GiB at once" in text
    )


def test_the_numbers_of_a_run_do_not_depend_on_how_many_run_at_once(tmp_path, monkeypatch):
    """Same id, same weights: by two workers, and alone in this process, however many threads it has."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    data = atlab.data.toy(tmp_path / "toy").path
    content = {
        "study": "s",
        "notebook": str(Path(__file__).parents[2] / "notebooks/experiments/train.ipynb"),
        "fixed": {"data": str(data), "split": "random", "width": 0.0625, "epochs": 2, "strategy": "baseline"},
        "axes": {"seed": [0, 1]},
    }
    outcome = sweep.run(content, root=tmp_path / "two", workers=2, progress=False).check()
    together = [(folder / "model.safetensors").read_bytes() for folder in outcome.folders]
    assert len(set(together)) == 2
    settings = experiment.Settings(data=str(data), split="random", width=0.0625, epochs=2, strategy="baseline", seed=1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        alone = experiment.train(settings, tmp_path / "alone", progress=False)
    finally:
        torch.set_num_threads(before)
    assert alone.model_path.read_bytes() == together[1]
