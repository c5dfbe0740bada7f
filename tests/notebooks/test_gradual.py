"""The notebooks of gradual transfer, run with small data: their numbers are those of their runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atlab import runs, stats
from atlab.errors import AtlabError
from atlab.runs import notebooks
from atlab.transfer.gradual import reading as summary
from tests.notebooks import in_process
from tests.transfer.images import images
from tests.transfer.speech import speech

FOLDER = Path(__file__).parents[2] / "notebooks/experiments"
NOTEBOOK = FOLDER / "gradual_transfer.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gradual")
    fs = speech(folder / "speech")
    grid = FOLDER / "grids/gradual_transfer.yaml"
    in_process.run(grid, folder / "runs", "tiny", data=str(fs.path))
    given = {"scale": "tiny", "data": str(fs.path), "root": str(folder / "runs"), "workers": 2}
    return notebooks.run(NOTEBOOK, given, root=folder / "runs", progress=False)


def test_the_notebook_shows_what_its_runs_found(executed):
    root = executed.path.parents[1]
    table = runs.table(root / "gradual_transfer").query("task in ('phone', 'emotion')")
    assert len(table) == 8, "two repetitions of two tasks from trained and random layers"
    networks = runs.table(root / "networks")
    assert len(networks) == 4, "two seeds of phones, two folds of emotions, each for both directions and both bases"
    rows = {(r["task"], r["base"], r["held"]): r for r in executed.result()["rows"]}
    assert len(rows) == 2 * 2 * 3
    for (task, base, held), row in rows.items():
        own = table[(table["task"] == task) & (table["base"] == base)].sort_values("seed")
        errors = own[f"errors.{f'layer {held}' if held else 0}"].to_numpy()
        assert row["error"] == pytest.approx(errors.mean()) and row["repetitions"] == 2
        alone = networks[networks["task"] == task].sort_values("seed")["error"].to_numpy()
        assert row["primary"] == pytest.approx(alone.mean())
        found = stats.paired_difference(errors, alone)
        limits = [None if np.isnan(limit) else pytest.approx(limit) for limit in (found.low, found.high)]
        assert row["drop"] == pytest.approx(found.mean) and [row[n] for n in ("d_low", "d_high")] == limits
    for row in executed.result()["random"]:
        pair = [rows[row["task"], base, row["held"]]["error"] for base in ("trained", "random")]
        assert row["difference"] == pytest.approx(pair[0] - pair[1])
    assert len(executed.result()["random"]) == 6


def test_the_reading_says_what_the_intervals_decide(executed):
    table = runs.table(executed.path.parents[1] / "gradual_transfer").query("task in ('phone', 'emotion')").copy()
    for column, error in (("errors.0", 0.10), ("errors.layer 2", 0.11), ("errors.layer 5", 0.60)):
        table[column] = np.where(table["base"] == "random", 0.7 + 0.0001 * table["seed"], error) + 0.001 * table["seed"]
    table["primary_error"] = 0.11 + 0.002 * table["seed"]
    text = summary.reading(summary.by_level(table), summary.against_random(table))
    assert text.count("A rise of the error is shown from 5 held layers on") == 2
    assert "with all 5 held it differs by +48.9 points" in text
    assert "Against random layers in their place, copied ones are better with 0, 2, 5 held." in text
    assert "the error of emotions rises by 4.41 of what it is alone" in text and "no interval is given" in text
    random = table["base"] == "random"
    table.loc[random, "errors.layer 2"] = 0.05 + 0.0011 * table["seed"]
    table.loc[random, "errors.layer 5"] = 0.60 + 0.4 * table["seed"]
    against = summary.reading(summary.by_level(table), summary.against_random(table))
    assert "copied ones are better with 0 held, worse with 2 held, undecided with 5 held." in against
    table[["errors.layer 5"]] = table[["errors.layer 2"]].to_numpy()
    assert "No number of held layers shows a rise" in summary.reading(
        summary.by_level(table), summary.against_random(table)
    )
    trained = table[table["base"] == "trained"]
    assert summary.against_random(trained).empty
    with pytest.raises(AtlabError, match="no finished transfer"):
        summary.by_level(table.drop(columns=[c for c in table if c.startswith("errors.")]))


def test_the_figure_has_a_line_for_every_arm(executed):
    from atlab import plots

    table = runs.table(executed.path.parents[1] / "gradual_transfer").query("task in ('phone', 'emotion')")
    levels = summary.by_level(table)
    figure = plots.errors_by_held(levels)
    assert len(figure.data) == 4 and len(figure.layout.shapes) == 2
    line = next(t for t in figure.data if t.name == "model A" and t.xaxis == "x2")
    own = levels[(levels["task"] == "emotion") & (levels["base"] == "trained")]
    assert list(line.y) == pytest.approx((100 * own["error"]).tolist()) and list(line.x) == pytest.approx([0, 40, 100])
    assert "rate (%)" in figure.layout.yaxis.title.text and "2 repetitions" in figure.layout.title.text


GRID = """
study: blocks
notebook: {notebook}
fixed: {{data: {data}, width: 0.0833, epochs: 1, batch_size: 16, clips: 32}}
axes:
  seed: 0..1
  pair:
    - {{target: class, source: parity}}
scales:
  tiny: {{}}
"""


def test_the_notebook_of_images_shows_what_its_runs_found(tmp_path):
    data = images(tmp_path / "pictures").path
    grid = tmp_path / "blocks.yaml"
    grid.write_text(GRID.format(notebook=FOLDER / "train_gradual_images.ipynb", data=data))
    in_process.run(grid, tmp_path / "runs", "tiny")
    given = {"grid": str(grid), "scale": "tiny", "root": str(tmp_path / "runs"), "workers": 2}
    executed = notebooks.run(FOLDER / "gradual_images.ipynb", given, root=tmp_path / "runs", progress=False)
    table = runs.table(tmp_path / "runs/blocks")
    assert len(table) == 2 and len(runs.table(tmp_path / "runs/networks")) == 4
    rows = executed.result()["rows"]
    assert [row["held"] for row in rows[:5]] == [0, 1, 3, 5, 7] and len(rows) == 5
    for row in rows:
        own = table[table["target"] == row["task"].split(" of ")[0]]
        name = {0: "0", 1: "block 1", 3: "blocks 2-3", 5: "blocks 4-5", 7: "blocks 6-7"}[row["held"]]
        assert row["error"] == pytest.approx(own[f"errors.{name}"].mean())
        assert row["drop"] == pytest.approx((own[f"errors.{name}"] - own["primary_error"]).mean())
