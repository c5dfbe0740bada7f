"""Run folders: identity, resuming, locks between processes, and the table of finished runs."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import atlab
from atlab import runs
from atlab.errors import AtlabError
from atlab.system.files import write_atomic


def test_what_a_killed_writer_left_is_removed_when_the_run_is_taken_up(tmp_path):
    with runs.open_run(tmp_path, "study", {"seed": 0}) as run:
        (run.path / ".result.json.0123abcd.tmp").write_text("{")
    with runs.open_run(tmp_path, "study", {"seed": 0}) as run:
        assert not list(run.path.glob("*.tmp")) and not list(run.path.glob(".*.tmp"))


def test_id_is_the_hash_of_what_went_in():
    text = json.dumps(["code", '{"a":[1,2],"b":0.5}', "data", atlab.__version__])
    assert runs.run_id({"b": 0.5, "a": (1, 2)}, "data", "code") == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_every_part_changes_the_id(monkeypatch):
    ids = {runs.run_id({"a": 1}), runs.run_id({"a": 2}), runs.run_id({"a": 1}, "d"), runs.run_id({"a": 1}, "", "d")}
    monkeypatch.setattr(atlab, "__version__", "99")
    ids.add(runs.run_id({"a": 1}))
    assert len(ids) == 5


def test_a_finished_run_is_opened_with_everything_in_it(tmp_path):
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [0.5, 0.25]})
    with runs.open_run(tmp_path, "study", {"seed": 3}) as run:
        assert not run.done
        run.save_result({"accuracy": np.float32(0.5), "per_class": np.array([0.25, 0.75]), "path": tmp_path})
        run.save_history(history)
        run.finish()
    again = runs.open_run(tmp_path, "study", {"seed": 3})
    assert again.done and again.parameters == {"seed": 3} and again.path == run.path == tmp_path / "study" / again.id
    assert again.result() == {"accuracy": 0.5, "per_class": [0.25, 0.75], "path": str(tmp_path)}
    pd.testing.assert_frame_equal(again.history(), history)
    assert {p.name for p in run.path.iterdir()} == {".lock", "params.json", "result.json", "history.parquet", "done"}


def test_an_interrupted_run_is_resumed_in_its_folder(tmp_path):
    run = runs.open_run(tmp_path, "study", {"seed": 0})
    run.checkpoint_path.write_bytes(b"state")
    run.close()
    with runs.open_run(tmp_path, "study", {"seed": 0}) as again:
        assert not again.done and again.checkpoint_path.read_bytes() == b"state"


def test_done_lists_what_there_is_with_size_and_hash(tmp_path):
    with runs.open_run(tmp_path, "study", {}) as run:
        (run.path / "images").mkdir()
        for name, data in {"model.safetensors": b"weights", "images/a.png": b"", ".hidden": b"x"}.items():
            (run.path / name).write_bytes(data)
        run.checkpoint_path.write_bytes(b"state")
        run.finish({"accuracy": 1.0})
    listed = json.loads((run.path / "done").read_text())["files"]
    assert set(listed) == {"params.json", "result.json", "model.safetensors", "images/a.png"}
    for name, entry in listed.items():
        data = (run.path / name).read_bytes()
        assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert not run.checkpoint_path.exists()


@pytest.mark.parametrize("damage", ["missing", "shorter", "done"])
def test_a_run_whose_files_are_not_what_done_lists_is_computed_again(tmp_path, damage):
    with runs.open_run(tmp_path, "study", {}) as run:
        run.model_path.write_bytes(b"weights")
        run.finish({"accuracy": 1.0})
    assert run.done and len(runs.table(tmp_path / "study")) == 1
    if damage == "missing":
        run.model_path.unlink()
    else:
        (run.path / "done" if damage == "done" else run.model_path).write_bytes(b"")
    assert not run.done and len(runs.table(tmp_path / "study")) == 0
    with runs.open_run(tmp_path, "study", {}) as again:
        assert not (run.path / "done").exists(), "the old list vouches for nothing while the run is computed again"
        again.model_path.write_bytes(b"weights")
        again.finish()
    assert again.done and again.result() == {"accuracy": 1.0}


def test_a_run_is_on_the_disk_before_it_is_done_and_its_checkpoint_stays_until_then(tmp_path, monkeypatch):
    calls = []
    with runs.open_run(tmp_path, "study", {}) as run:
        run.checkpoint_path.write_bytes(b"state")
        run.save_result({"accuracy": 1.0})

        def fsync(descriptor):
            calls.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
            assert run.checkpoint_path.exists()

        def replace(source, target):
            calls.append(("rename", Path(source), Path(target)))
            rename(source, target)

        rename = os.replace
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "replace", replace)
        run.finish()
    (renamed,) = (i for i, call in enumerate(calls) if call[0] == "rename")
    _, source, target = calls[renamed]
    assert target == run.path / "done"
    before = [call[1] for call in calls[:renamed]]
    assert before[-1] == source and before[-2] == run.path, "the folder, then `done` under its temporary name"
    assert set(before[:-2]) == {run.path / "params.json", run.path / "result.json"}
    assert calls[renamed + 1 :] == [("sync", run.path)] and not run.checkpoint_path.exists()


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls, rename = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda number: calls.append(os.readlink(f"/proc/self/fd/{number}")))
    monkeypatch.setattr(os, "replace", lambda source, target: (calls.append("rename"), rename(source, target)))
    written = write_atomic(tmp_path / "a", "text")
    assert written.read_text() == "text" and len(calls) == 2 and calls[0].endswith(".tmp") and calls[1] == "rename"


def test_a_notebook_that_is_handed_the_folder_does_not_finish_it(tmp_path):
    with runs.open_run(tmp_path, "study", {}) as run:
        runs.Run(run.path).finish({"accuracy": 1.0})
        assert not run.done and run.result() == {"accuracy": 1.0}
        run.finish()
    assert run.done


def test_an_unfinished_run_belongs_to_one_holder(tmp_path):
    run = runs.open_run(tmp_path, "study", {})
    with pytest.raises(AtlabError, match=rf"being computed by another process \(process id {os.getpid()}\)"):
        runs.open_run(tmp_path, "study", {})
    run.close()
    runs.open_run(tmp_path, "study", {}).close()


def _hold(root, opened, finish, seconds):
    run = runs.open_run(root, "study", {})
    opened.set()
    time.sleep(seconds)
    if finish:
        run.finish({"by": "child"})


def _child(root, finish, seconds):
    context = multiprocessing.get_context("spawn")
    opened = context.Event()
    child = context.Process(target=_hold, args=(root, opened, finish, seconds))
    child.start()
    assert opened.wait(30)
    return child


def test_waiting_for_another_process_says_so_and_gives_its_finished_run(tmp_path, capsys):
    child = _child(tmp_path, True, 0.5)
    run = runs.open_run(tmp_path, "study", {}, wait=True)
    assert run.result() == {"by": "child"}
    said = f"waiting: the run {run.path} is being computed by another process (process id {child.pid})\n"
    assert capsys.readouterr().err == said
    child.join(10)


def test_the_lock_of_a_killed_process_is_gone(tmp_path):
    child = _child(tmp_path, False, 60)
    with pytest.raises(AtlabError, match=f"process id {child.pid}"):
        runs.open_run(tmp_path, "study", {})
    os.kill(child.pid, signal.SIGKILL)
    child.join(10)
    with runs.open_run(tmp_path, "study", {}) as run:
        assert not run.done


def test_table_has_the_finished_runs_only(tmp_path):
    for seed in (0, 1, 2):
        with runs.open_run(tmp_path, "study", {"seed": seed, "layers": ["conv5"]}) as run:
            if seed == 2:
                continue
            run.finish({"test": {"accuracy": 0.5 + seed / 4, "by_class": {"a": 1}}, "seed": 7, "empty": {}})
    table = runs.table(tmp_path / "study")
    assert list(table) == ["id", "seed", "layers", "test.accuracy", "test.by_class.a", "result.seed", "empty", "path"]
    assert dict(zip(table["seed"], table["test.accuracy"], strict=True)) == {0: 0.5, 1: 0.75}
    assert set(table["result.seed"]) == {7}
    for row in table.itertuples():
        assert runs.Run(row.path).id == row.id == runs.run_id({"seed": row.seed, "layers": ["conv5"]})


def test_table_of_runs_without_results_and_of_no_runs(tmp_path):
    (tmp_path / "study").mkdir()
    assert list(runs.table(tmp_path / "study")) == ["id", "path"]
    with runs.open_run(tmp_path, "study", {"seed": 0}) as run:
        run.finish()
    assert list(runs.table(tmp_path / "study")) == ["id", "seed", "path"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"loss": float("nan")}, r"result\['loss'\] is nan: JSON holds finite numbers only"),
        ({"a": {"b": [1.0, float("inf")]}}, r"result\['a'\]\['b'\]\[1\] is inf"),
        ({"loss": np.float64("nan")}, r"result\['loss'\] is nan"),
        ({"what": object()}, r"result\['what'\] is a object; allowed: numbers"),
        ({1: "a"}, "result has the key 1; allowed: strings"),
    ],
)
def test_results_that_json_cannot_hold(tmp_path, value, message):
    with runs.open_run(tmp_path, "study", {}) as run:
        with pytest.raises(AtlabError, match=message):
            run.save_result(value)
        assert not (run.path / "result.json").exists()


def test_other_mistakes_are_named(tmp_path):
    for name in ("..", "a/b", "", "a b"):
        with pytest.raises(AtlabError, match="study is"):
            runs.open_run(tmp_path, name, {})
    with pytest.raises(AtlabError, match=r"parameters\['beta'\] is nan"):
        runs.open_run(tmp_path, "study", {"beta": float("nan")})
    with pytest.raises(AtlabError, match="is not a run folder"):
        runs.Run(tmp_path)
    with pytest.raises(AtlabError, match="no study folder"):
        runs.table(tmp_path / "nothing")
    run = runs.open_run(tmp_path, "study", {})
    with pytest.raises(AtlabError, match=r"no result.json \(the run is unfinished\)"):
        run.result()
    with pytest.raises(AtlabError, match=r"no history.parquet \(the run is unfinished\)"):
        run.history()
    (run.path / "result.json").write_text("{")
    with pytest.raises(AtlabError, match="result.json is not JSON"):
        run.result()
    run.close()
    (tmp_path / "file").write_text("")
    with pytest.raises(AtlabError, match="cannot be written"):
        runs.open_run(tmp_path / "file", "study", {})
