"""The suite of benchmarks runs at a tiny size, and its rows say what they are."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest

import atlab
from atlab.system.processes import cores
from benchmarks import __main__ as suite
from benchmarks import gpu, machine, precision, stacked, study, throughput
from benchmarks.rows import Row, in_turn, line, ratio_row

TINY = suite.Size({1 / 32: ["conv1", "conv13"]}, (4,), 2, True, 60, 2, 1 / 32, 8)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = suite.main(["--out", str(tmp_path_factory.mktemp("results"))], TINY)
    return json.loads(path.read_text())


def test_every_row_names_its_rival_and_its_limit(report):
    for row in report["rows"]:
        assert row["low"] <= row["value"] <= row["high"] and row["value"] > 0 and row["limit"] > 0, row
        assert row["held_against"] in ("operations", "bytes", "bare loop", "by hand", "wanted")
        assert row["rival"] or row["bench"] in ("first batch", "import")
        assert row["beyond"] == (row["value"] < row["limit"] if row["more_is_better"] else row["value"] > row["limit"])
    names = [(row["bench"], row["case"], row["rival"]) for row in report["rows"]]
    assert len(set(names)) == len(names)


def test_the_suite_covers_step_memory_inputs_loop_and_cache(report):
    counted = {}
    for row in report["rows"]:
        counted[row["bench"]] = counted.get(row["bench"], 0) + 1
    assert counted == {
        "cached step": 2,
        "live step": 2,
        "published step": 2,
        "by_hand step": 2,
        "live": 2,
        "memory": 4,
        "epoch": 2,
        "first batch": 1,
        "import": 2,
        "spectrograms": 1,
        "fit": 1,
        "precision": 1,
        "cache": 1,
    }


def test_limits_grow_with_the_layer_as_operations_do(report):
    live = {row["case"].split()[-1]: row["limit"] for row in report["rows"] if row["bench"] == "live step"}
    assert 1.03 < live["conv1"] < live["conv13"] < 1.4


def test_a_row_is_median_and_quartiles_of_its_repeats():
    row = ratio_row("fit", "case", "rival", np.array([1.0, 2.0, 9.0]), 1.5, "bare loop")
    assert (row.low, row.value, row.high, row.repeats, row.beyond) == (1.5, 2.0, 5.5, 3, True)
    assert line(row).endswith("beyond") and "bare loop" in line(row)
    assert Row("grid", "", "", 1.9, 1.9, 1.9, 1.8, "bare loop", 1, more_is_better=True).beyond is False


def test_tasks_take_turns_after_a_first_time_each():
    order = []
    times = in_turn({name: lambda name=name: order.append(name) for name in "ab"}, 2)
    assert "".join(order) == "ababab" and [len(t) for t in times.values()] == [2, 2]


def test_the_file_is_named_after_the_machine():
    cpu = {"processor": "AMD EPYC(TM) 9R14", "cores": 2, "accelerator": "", "bf16": False}
    assert machine.label(cpu) == "amd-epyc-tm-9r14-2-cores"
    assert machine.label(cpu | {"bf16": True}) == "amd-epyc-tm-9r14-2-cores-bf16", "other numbers"
    assert machine.label(cpu | {"accelerator": "NVIDIA H200", "cores": 16, "bf16": True}) == "nvidia-h200-16-cores"


@pytest.mark.slow
def test_the_throughput_of_a_grid_is_measured_on_its_runs(tmp_path):
    what = throughput.baselines(runs=2, epochs=1)
    assert [(job["strategy"], job["seed"], job["epochs"]) for job in what.jobs] == [
        ("baseline", 0, 1),
        ("baseline", 1, 1),
    ]
    small = {"data": str(atlab.data.toy(tmp_path / "toy").path), "split": "random", "width": 1 / 16, "epochs": 1}
    swept = throughput.measure(replace(what, jobs=[small]), 1)
    assert 0 < swept.start < swept.seconds and 0 < swept.shortest_run < swept.seconds - swept.start


@pytest.mark.slow
@pytest.mark.skipif(cores() < 2, reason="two processes need two cores")
def test_what_the_machine_allows_is_steps_of_processes_on_cores_of_their_own():
    assert throughput.bare_steps(2, 1 / 32, seconds=1.0) > 0


def test_networks_at_once_are_held_against_the_same_ones_in_turn():
    row = stacked.stacked_row(count=2, width=1 / 32, repeats=1, device="cpu", batch=2)
    assert row.value > 0 and row.case.startswith("2 networks") and row.limit == 1.0


def test_planned_studies_say_holds_where_nothing_is_true_in_at_most_one_of_twenty():
    row = precision.simulate("no effect", 3.0, studies=250)
    assert row.any_holds <= 0.05 and 0.9 < row.covered < 0.98 and row.repetitions < precision.PLAN.at_most


def test_planned_studies_find_three_points_in_four_of_five():
    row = precision.simulate("all arms +3", 6.0, studies=100)
    assert min(row.named_holds, row.chosen_holds) >= 0.8


def test_more_baselines_than_arms_pay_by_the_square_root_rule():
    assert precision.more_baselines(1) == (1, 0.0) and precision.more_baselines(2) == (1, 0.0)
    assert precision.more_baselines(9) == (3, pytest.approx(1 - 16 / 20))


def test_a_study_is_held_against_loops_that_train_the_same_networks(tmp_path, monkeypatch):
    toy = atlab.data.toy(tmp_path / "toy", words=3, speakers=6, repetitions=4, samples=4096)
    arms = study.students(1, 1, clips=24, teacher_clips=0, data=str(toy.path))
    assert [arm.strategy for arm in arms] == ["baseline", "wi", "at", "at", "at", "at"]
    learned = []
    monkeypatch.setattr(study, "by_sweep", lambda arms, workers: time.sleep(0.01))
    trained = study.trained
    monkeypatch.setattr(study, "trained", lambda s, *more: learned.append(s) or trained(s, *more))
    rows, seconds = study.rows(arms, repeats=1, cores=1)
    teacher = arms[-1].teacher()
    assert learned == [teacher, *arms] * 2, "one speaker network and six students in each rival"
    assert [row.rival for row in rows] == ["by hand", "published", "bare steps"]
    assert rows[0].value == pytest.approx(seconds["atlab"][0] / seconds["by hand"][0])


def test_the_benchmark_of_a_gpu_runs_its_sections_on_any_device(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "SECTIONS", tuple(s for s in gpu.SECTIONS if s is not gpu.compiled))  # needs a compiler
    out = tmp_path / "gpu.json"
    gpu.main(["--device", "cpu", "--tiny", "--out", str(out)])
    report = json.loads(out.read_text())
    assert report["left_out"] == {} and capsys.readouterr().out.count("\n") == len(report["rows"]) + 1
    assert {row["bench"] for row in report["rows"]} >= {
        "plain step",
        "cached step",
        "fit",
        "side by side",
        "table cell",
    }
    gpu.main(["--device", "cpu", "--tiny", "--minutes", "0", "--out", str(out)])
    assert set(json.loads(out.read_text())["left_out"].values()) == {"no time was left"}
