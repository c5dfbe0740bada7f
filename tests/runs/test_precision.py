"""Planned precision: grids that say it, looks that stop where they should, and sweeps that run no more than is needed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from scipy import stats as scipy_stats

from atlab.errors import AtlabError
from atlab.runs import Run, engines, grid, mark_done, precision, sweep
from atlab.runs.dry_run import dry_run
from atlab.runs.precision import Contrast, Plan

AT, CHOICE = Contrast(("at",), "baseline"), Contrast(("conv1", "conv5"), "baseline")
PLANNED = {"half_width": 2.0, "at_most": 24, "look_every": 8}


def made_up(plan: Plan, seed: int = 0, spread: float = 0.02, **effects: float) -> tuple[dict, dict]:
    rng = np.random.default_rng(seed)
    test, validation = (
        {arm: 0.7 + effects.get(arm, 0) + rng.normal(0, spread, plan.at_most) for arm in plan.arms()} for _ in range(2)
    )
    return test, validation


def test_a_look_is_paired_t_intervals_and_holm():
    plan = Plan(2.0, 40, 8, (AT, Contrast(("wi",), "at")))
    test, validation = made_up(plan, at=0.02)
    seen = precision.look(plan, 24, test, validation)
    p = []
    for contrast, (one, other) in zip(plan.primary, (("at", "baseline"), ("wi", "at")), strict=True):
        d = test[one][:24] - test[other][:24]
        low, high = scipy_stats.t.interval(0.95, 23, d.mean(), scipy_stats.sem(d))
        assert seen.differences[contrast] == pytest.approx((d.mean(), low, high, 24))
        p.append(scipy_stats.ttest_rel(test[one][:24], test[other][:24]).pvalue)
    small, large = sorted(p)
    assert sorted(seen.p_holm.values()) == pytest.approx([min(1, 2 * small), max(2 * small, large)])
    assert seen.enough == all(50 * (d.high - d.low) <= 2.0 for d in seen.differences.values())


@pytest.mark.parametrize("spread", [0.005, 0.03, 0.2])
def test_the_last_look_is_the_first_that_is_narrow_enough(spread):
    plan = Plan(2.0, 40, 8, (AT,))
    test, validation = made_up(plan, spread=spread)
    widths = []
    for count in (8, 16, 24, 32, 40):
        d = test["at"][:count] - test["baseline"][:count]
        widths.append(100 * scipy_stats.t.ppf(0.975, count - 1) * d.std(ddof=1) / count**0.5)
    narrow = next((number for number, width in enumerate(widths) if width <= 2), 4)
    seen = precision.looks(plan, test, validation)
    assert len(seen) == narrow + 1 and seen[-1].enough == (widths[narrow] <= 2)
    assert [look.enough for look in seen[:-1]] == [False] * narrow


def test_the_pilot_chooses_by_validation_and_has_no_part_in_the_test():
    plan = Plan(2.0, 40, 8, (CHOICE,))
    test, validation = made_up(plan)
    validation["conv5"][:8] += 0.3
    test["conv5"][:8] = 0.0
    first, second = (precision.look(plan, count, test, validation) for count in (8, 16))
    assert first.chosen == {CHOICE: "conv5"} and np.isnan(first.differences[CHOICE].low) and not first.enough
    d = (test["conv5"] - test["baseline"])[8:16]
    assert second.differences[CHOICE].mean == pytest.approx(d.mean()) and second.differences[CHOICE].n == 8
    assert precision.dropped(plan, first.chosen) == {"conv1"}
    both = Plan(2.0, 40, 8, (CHOICE, Contrast(("conv1",), "baseline")))
    assert precision.dropped(both, {CHOICE: "conv5", both.primary[1]: "conv1"}) == set(), (
        "it is a difference of its own"
    )


def test_looks_wait_for_every_run_that_they_need_and_for_no_other():
    plan = Plan(0.1, 32, 8, (CHOICE,))
    test, validation = made_up(plan)
    loser = ({"conv1", "conv5"} - set(precision.choose(plan, validation).values())).pop()
    test[loser][8:] = np.nan
    assert len(precision.looks(plan, test, validation)) == 4
    test["baseline"][17] = np.nan
    assert [look.repetitions for look in precision.looks(plan, test, validation)] == [8, 16]
    validation["conv1"][0] = np.nan
    assert precision.looks(plan, test, validation) == []


def planned(folder, arms: Sequence[str] = ("a", "b"), **more) -> dict:
    """A grid with arms over a notebook whose runs are made up by `drive`."""
    parameters = 'seed = 0\nsplit_seed = 0\narm = "a"\nrun_dir = ""'
    cells = [new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    nbformat.write(new_notebook(cells=cells), folder / "p.ipynb")
    base = {"study": "s", "notebook": str(folder / "p.ipynb"), "axes": {"arm": list(arms)}}
    return base | {"precision": PLANNED, "primary": ["b - a"]} | more


@pytest.fixture
def drive(monkeypatch):
    """Sweeps whose runs are made up in this process: `drive(accuracy)` takes a function of arm and seed; -> what was run."""

    def start(accuracy: Callable[[str, int], object]) -> list[str]:
        executed = []

        def run_all(nodes, client, outcome, show) -> None:
            for node in (node for node in nodes if node.state != "done"):
                arm, seed = node.arguments[1]["arm"], node.arguments[1]["seed"]
                executed.append(f"{arm}{seed}")
                assert node.arguments[1]["split_seed"] == seed
                score = accuracy(arm, seed)
                if score is None:
                    outcome.failed[node.name] = "it failed"
                    continue
                node.folder.mkdir(parents=True)
                (node.folder / "params.json").write_text('{"parameters": {}}')
                Run(node.folder).save_result({"test_accuracy": score, "validation_accuracy": 0.5 + 0.1 * (arm == "c")})
                mark_done(node.folder)
                outcome.done += 1

        monkeypatch.setattr(sweep, "_drive", run_all)
        monkeypatch.setattr(engines, "connect", lambda *_: contextlib.nullcontext())
        return executed

    return start


def narrow_at_16(arm: str, seed: int) -> float:
    """Arm b is 1 point above arm a; the spread of the first repetitions is large."""
    return 0.5 + (arm == "b") * (0.01 + 0.03 * (-1) ** seed * (seed < 8))


def test_a_sweep_stops_when_it_is_precise_enough_and_carries_on_after_a_failure(tmp_path, drive):
    content, root = planned(tmp_path), tmp_path / "runs"
    drive(lambda arm, seed: None if (arm, seed) == ("b", 9) else narrow_at_16(arm, seed))
    first = sweep.run(content, root=root, progress=False)
    assert (first.done, len(first.failed)) == (31, 1)
    assert first.looks[0].startswith("8 of at most 24 repetitions: b - a ±2.7 points (goal: ±2); continuing")
    assert first.looks[1] == "no look at 16 repetitions: some of their runs have failed"
    executed = drive(narrow_at_16)
    second = sweep.run(content, root=root, progress=False)
    assert (second.done_before, second.done, executed) == (31, 1, ["b9"])
    assert second.looks[0] == first.looks[0] and second.looks[1].endswith("; reached") and len(second.looks) == 2
    plan, folders = precision.recorded(root / "s")
    assert plan == Plan(2.0, 24, 8, (Contrast(("b",), "a"),)) and {len(of) for of in folders.values()} == {24}
    assert [look.repetitions for look in precision.looks(plan, *precision.scores(folders))] == [8, 16]
    assert dry_run(content, root=root).splitlines() == [
        "s, pilot of 8 repetitions: 16 runs, 16 done, 0 to do; 0 networks required first",
        "s, at most 24 repetitions: 48 runs, 32 done, 16 to do; 0 networks required first",
    ]
    assert (sweep.run(content, root=root, progress=False).done_before, executed) == (32, ["b9"])
    with pytest.raises(AtlabError, match="was planned otherwise: expected .*2.0.*, found .*1.0"):
        sweep.run(content | {"precision": PLANNED | {"half_width": 1.0}}, root=root, progress=False)


def test_a_sweep_that_is_killed_between_looks_carries_on_with_the_same_runs(tmp_path, drive):
    content, root = planned(tmp_path), tmp_path / "runs"

    def killed(arm: str, seed: int) -> float:
        if seed == 11:
            raise KeyboardInterrupt
        return narrow_at_16(arm, seed)

    before = drive(killed)
    with pytest.raises(KeyboardInterrupt):
        sweep.run(content, root=root, progress=False)
    after = drive(narrow_at_16)
    outcome = sweep.run(content, root=root, progress=False)
    assert sorted([*before[:-1], *after]) == sorted(f"{arm}{seed}" for arm in "ab" for seed in range(16))
    assert len(outcome.looks) == 2 and outcome.looks[-1].endswith("; reached")


def test_arms_that_are_not_chosen_end_with_the_pilot(tmp_path, drive):
    executed = drive(lambda arm, seed: 0.5 + seed / 100 * (arm != "a"))
    content = planned(tmp_path, "abc", primary=["b or c - a"], precision=PLANNED | {"at_most": 12})
    outcome = sweep.run(content, root=tmp_path / "runs", progress=False).check()
    assert sorted(executed) == sorted(f"{arm}{seed}" for arm in "abc" for seed in range(12) if arm != "b" or seed < 8)
    assert "b or c - a ±" in outcome.looks[-1] and outcome.looks[-1].endswith("no more are planned")
    assert "at most 12 repetitions: 32 runs, 28 done" in dry_run(content, root=tmp_path / "runs")


def test_a_grid_with_a_plan_names_its_arms_and_repetitions(tmp_path):
    content = planned(tmp_path)
    opened = grid.parse(content)
    assert opened.jobs[:3] == [
        {"seed": 0, "split_seed": 0, "arm": "a"},
        {"seed": 0, "split_seed": 0, "arm": "b"},
        {"seed": 1, "split_seed": 1, "arm": "a"},
    ]
    assert opened.arms == ["a", "b"] * 24 and opened.plan == Plan(2.0, 24, 8, (Contrast(("b",), "a"),))
    scaled = grid.parse(content | {"scales": {"laptop": {"precision": PLANNED | {"at_most": 8}}}})
    assert scaled.plan.at_most == 8 and len(scaled.jobs) == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": None}, "`precision` is None; expected {half_width: POINTS"),
        ({"precision": 3}, "`precision` is 3; expected"),
        ({"precision": PLANNED | {"width": 2}}, "unknown key in `precision` of the grid 'width'"),
        ({"precision": PLANNED | {"half_width": 0}}, "half_width in `precision` is 0; allowed: points above 0"),
        (
            {"precision": PLANNED | {"look_every": 7}},
            "look_every in `precision` is 7; allowed: repetitions, at least 8",
        ),
        ({"precision": PLANNED | {"at_most": 7}}, "at_most in `precision` is 7; allowed: repetitions, at least 8"),
        ({"precision": PLANNED | {"at_most": True}}, "at_most in `precision` is True"),
        ({"precision": {"half_width": 2, "at_most": 8}}, "look_every in `precision` is None"),
        ({"primary": None}, "precision needs `primary:`, a list of differences"),
        ({"primary": ["b"]}, "expected a primary difference .*, got 'b'"),
        ({"primary": ["d - a"]}, "unknown arm in `primary` of the grid 'd'.*allowed: a, b"),
        ({"fixed": {"seed": 3}}, "precision makes the repetitions, .*: leave out 'seed'"),
        ({"axes": {"arm": ["a", "b"], "x": [{"split_seed": 1}]}}, "leave out 'split_seed'"),
        ({"exclude": [{"seed": 3, "arm": "b"}]}, "expected one run per repetition of the arm 'b', 24 in all, got 23"),
    ],
)
def test_plans_that_cannot_be_are_named(tmp_path, change, message):
    content = planned(tmp_path) | change
    with pytest.raises(AtlabError, match=message):
        grid.parse(content)


def test_a_study_without_numbers_or_with_a_damaged_plan_is_named(tmp_path, drive):
    drive(lambda arm, seed: "high")
    with pytest.raises(
        AtlabError, match="precision is planned for test accuracies, but the result of .* has no test_acc"
    ):
        sweep.run(planned(tmp_path), root=tmp_path / "runs", progress=False)
    assert precision.recorded(tmp_path) is None
    for text in ("[", "[]", json.dumps({"precision": PLANNED, "primary": ["b - a"]})):
        (tmp_path / "runs/s/plan.json").write_text(text)
        with pytest.raises(AtlabError, match="plan.json is damaged"):
            precision.recorded(tmp_path / "runs/s")
