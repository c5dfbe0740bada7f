"""Reports of made-up studies: what the page says is what the folders hold, and it asks no other host for anything."""

from __future__ import annotations

import json
import re
import zlib

import nbformat
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from atlab import analysis, runs
from atlab.analysis import report, study
from atlab.cli import main
from atlab.errors import AtlabError
from atlab.experiment.settings import Settings

NOTEBOOK = "/somewhere/else/notebooks/experiments/train.ipynb"
ARMS = [
    {"strategy": "baseline"},
    {"strategy": "wi"},
    {"strategy": "at", "layers": "conv1"},
    {"strategy": "at", "layers": "conv5"},
]


def add(root, name: str, executed: bool = True, **given) -> runs.Run:
    """A finished run with random scores, as a sweep leaves it."""
    parameters = {**Settings().__dict__, "device": "auto", **given}
    rng = np.random.default_rng(zlib.crc32(json.dumps(parameters, sort_keys=True).encode()))
    with runs.open_run(root, name, parameters, source="" if executed else "stage") as run:
        run.save_history(
            pd.DataFrame(
                {
                    "epoch": [1, 2],
                    "train_loss": [2.0, 1.0],
                    "validation_loss": [2.1, 1.5],
                    "validation_accuracy": [0.3, 0.4],
                    **({"train_at": [0.5, 0.1]} if parameters["strategy"] == "at" else {}),
                }
            )
        )
        if executed:
            meta = {
                "papermill": {"input_path": NOTEBOOK, "duration": 30.0},
                "language_info": {"name": "python", "version": "3.11.0"},
            }
            nbformat.write(nbformat.v4.new_notebook(metadata=meta), run.notebook_path)
        run.finish(
            {f"{part}_accuracy": float(rng.uniform(0.4, 0.9)) for part in ("train", "validation", "test")}
            | {"epochs_run": 2}
        )
    return run


@pytest.fixture
def drawn(monkeypatch):
    """Chrome takes a second a figure; one test draws with it."""
    monkeypatch.setattr("plotly.io.to_image", lambda figure, format: b"<svg/>")


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arm in ARMS:
        for seed in range(3):
            add(tmp_path, "words", seed=seed, **arm)
    return tmp_path


def test_the_page_holds_the_comparison_of_its_runs_and_no_link_to_another_host(root):
    path = report.write("words", root)
    page = path.read_text()
    compared = analysis.comparison(runs.table(root / "words"))
    for text in analysis.percent(compared)["test %"]:
        assert text in page
    assert path == root / "words/report.html" and "<title>words</title>" in page
    assert "12 runs finished, 0 unfinished, 0 failed. Their notebooks took 6.0 minutes" in page
    assert "<h3" in page and "By layer" in page and "Learning curves" in page
    for attribute in ('src="http', "src='http", "@import url(http", 'src="//', 'link href="http'):
        assert attribute not in page
    if 'src="data:image/svg+xml' in page:
        assert len(page) < 2_000_000 and "plotly.js" not in page


def test_without_chrome_figures_are_drawn_by_plotly_in_the_page(root, monkeypatch):
    monkeypatch.setattr("plotly.io.to_image", lambda *a, **k: (_ for _ in ()).throw(RuntimeError("no Chrome")))
    page = report.write("words", root, root / "page.html").read_text()
    assert "No Chrome was found" in page and "Plotly.newPlot" in page and 'src="data:image/svg' not in page


def test_what_failed_or_is_unfinished_is_listed_and_left_out_of_comparisons(root, drawn):
    failed = runs.open_run(root, "words", {**Settings().__dict__, "seed": 7, "strategy": "at", "layers": "conv9"})
    cell = nbformat.v4.new_code_cell(
        "1/0", outputs=[nbformat.v4.new_output("error", ename="ZeroDivisionError", evalue="division by zero")]
    )
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), failed.path / "out.failed.ipynb")
    failed.close()
    unfinished = runs.open_run(root, "words", {**Settings().__dict__, "seed": 8})
    unfinished.close()
    add(root, "words", strategy="frozen_wi", seed=0)
    add(root, "words", strategy="at", layers="conv1", seed=0, executed=False, epochs=51)
    found = study.read("words", root)
    assert found.failed == {failed.id: "ZeroDivisionError: division by zero"}
    assert [run.id for run in found.unfinished] == [unfinished.id]
    assert (len(found.table), len(found.asked_for)) == (14, 13)
    ((name, part, by, notes),) = study.comparable(found)
    assert (name, len(part), by) == ("", 12, ["strategy", "orthogonal", "layers"])
    assert notes == ["frozen WI speaker conv5: 1 of 3 repetitions are finished"]
    page = report.write(root / "words", out=root / "page.html").read_text()
    assert (
        "ZeroDivisionError: division by zero" in page
        and unfinished.id in page
        and "1 of the finished runs are first stages" in page
    )


def test_conditions_and_tuned_baselines_are_compared_apart(tmp_path):
    for split in ("random", "disjoint"):
        for rate in (0.0005, 0.001):
            for seed in (0, 1):
                pair = {"split": split, "learning_rate": rate, "seed": seed, "split_seed": seed}
                add(tmp_path, "forms", strategy="baseline", **pair)
                if rate == 0.001:
                    add(tmp_path, "forms", strategy="at", residual=True, batch_size=32, beta=5.0, **pair)
    found = study.read("forms", tmp_path)
    assert found.units == ["seed", "split_seed"]
    parts = {name: set(analysis.comparison(part, by)["arm"]) for name, part, by, _ in study.comparable(found)}
    assert set(parts) == {
        f"{split} split, learning_rate {rate}" for split in ("random", "disjoint") for rate in (0.0005, 0.001)
    }
    at = next(arm for arm in parts["disjoint split, learning_rate 0.001"] if arm.startswith("AT"))
    assert at.startswith("AT speaker conv5 beta 5 residual batch_size 32")
    assert len(parts["random split, learning_rate 0.0005"]) == 1


def test_what_arms_of_a_condition_share_is_not_part_of_their_names(tmp_path):
    for seed in (0, 1):
        for noise in ("none", "low"):
            recorded = "data/esc10" if noise == "low" else ""
            add(tmp_path, "noisy", strategy="baseline", noise=noise, noise_from=recorded, seed=seed)
            at = {"strategy": "at", "orthogonal": "noise@data/esc10_1s", "noise": noise, "noise_from": "data/esc10"}
            add(tmp_path, "noisy", seed=seed, **at)
    found = study.read("noisy", tmp_path)
    assert "noise_from" in found.varying
    parts = {name: list(analysis.comparison(part, by)["arm"]) for name, part, by, _ in study.comparable(found)}
    arms = ["baseline", "AT noise@data/esc10_1s conv5"]
    assert parts == {"low noise": arms, "no noise": arms}


def test_two_settings_of_at_that_vary_make_a_map(tmp_path, drawn):
    for seed in (0, 1):
        add(tmp_path, "similarity", strategy="baseline", seed=seed)
        for aggregation in ("gram", "mean"):
            for similarity in ("squared_cosine", "sigmoid_mse"):
                add(tmp_path, "similarity", aggregation=aggregation, similarity=similarity, seed=seed)
    page = report.write("similarity", tmp_path).read_text()
    assert "Aggregation and similarity of AT" in page and "AT speaker conv5 gram sigmoid_mse" in page


def test_commands_give_the_grid_or_the_run_without_a_machines_path(root):
    lines = study.commands(study.read("words", root))
    assert len(lines) == 12 and len(set(lines)) == 12
    assert "atlab run notebooks/experiments/train.ipynb --study words -p strategy baseline -p seed 1" in lines
    assert "atlab run notebooks/experiments/train.ipynb --study words -p layers conv1 -p seed 2" in lines
    assert not any("/somewhere" in line for line in lines)
    assert not (root / "data").exists(), "no embedded data set is rendered to find out which grids hold the runs"


def test_a_grid_that_made_the_runs_is_named(tmp_path, monkeypatch):
    from atlab.runs import grid, ipynb, notebooks

    folder = tmp_path / "notebooks/experiments/grids"
    folder.mkdir(parents=True)
    cell = nbformat.v4.new_code_cell("seed = 0", metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "notebooks/experiments/n.ipynb")
    (folder / "words.yaml").write_text(
        "study: s\nnotebook: ../n.ipynb\naxes: {seed: 0..1}\nscales: {tiny: {axes: {seed: 0..3}}, laptop: {}}"
    )
    monkeypatch.chdir(tmp_path)
    opened = grid.load(folder / "words.yaml", "laptop")
    for place, job in zip(
        notebooks.places(opened.notebook, opened.jobs, tmp_path / "runs", "s"), opened.jobs, strict=True
    ):
        with runs.open_run(tmp_path / "runs", "s", job, source=ipynb.source(opened.notebook)) as run:
            assert run.path == place
            run.finish({"accuracy": 0.5})
    lines = study.commands(study.read("s"))
    assert (
        lines
        == [
            "atlab sweep words --scale laptop  # 2 of its 2 runs are finished here",
            "atlab sweep words --scale tiny  # 2 of its 4 runs are finished here",
        ][::-1]
    )
    page = report.write("s").read_text()
    assert "2 runs finished" in page and "Accuracy" not in re.sub("<style.*?</style>", "", page, flags=re.S)


def test_studies_that_are_not_there_are_named(root):
    with pytest.raises(AtlabError, match="unknown study in .* 'word'; nearest: 'words'"):
        report.write("word", root)
    (root / "empty").mkdir()
    with pytest.raises(AtlabError, match="empty holds no runs"):
        report.write("empty", root)


def test_the_command_says_where_the_page_is(root, drawn):
    result = CliRunner().invoke(main.app, ["report", "words", "--root", str(root), "--out", str(root / "x.html")])
    assert result.exit_code == 0 and str(root / "x.html") in result.output and (root / "x.html").exists()


def test_runs_that_differ_in_what_their_strategy_does_not_read_are_one_repetition(tmp_path):
    """A sweep that is run again with other layers, or another warm-up, repeats baseline and WI: they are compared as before."""
    for seed in (0, 1, 2):
        for layers, warm_up in (("conv5", 0), ("conv9", 3)):
            for strategy in ("baseline", "wi", "at"):
                add(tmp_path, "words", strategy=strategy, layers=layers, seed=seed, warm_up=warm_up)
    found = study.read("words", tmp_path)
    assert len(found.table) == 18 and len(study.once(found.table, found.parameters)) == 12
    ((name, part, by, notes),) = study.comparable(found)
    assert (name, notes, len(part)) == ("", [], 12)
    scores = (
        part.pivot_table("test_accuracy", "seed", ["strategy", "layers"], aggfunc="sum").T.groupby("strategy").sum()
    )
    assert sorted(part.query("strategy == 'baseline'")["seed"]) == ["0", "1", "2"]
    compared = analysis.comparison(part, by).set_index("arm")
    assert set(compared.index) == {"baseline", "WI speaker", "AT speaker conv5", "AT speaker conv9 warm_up 3"}
    assert set(compared["n"]) == {3}
    gain = (scores.loc["wi"] - scores.loc["baseline"]).mean()
    assert compared.loc["WI speaker", "difference"] == pytest.approx(gain)
    assert "AT speaker conv9 warm_up 3" in report.write("words", tmp_path).read_text()
