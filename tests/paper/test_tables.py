"""The page of the papers against what is there, and the preprint's items against the journal's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from atlab.paper import preprint, tables

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "notebooks/experiments"
PAGE = (ROOT / "docs/papers.md").read_text()
GRIDS = {path.stem: path for path in (EXPERIMENTS / "grids").glob("*.yaml")}
NAMES = set(re.findall(r"`([\w./]+)`", PAGE))
CORPORA = {"gsc", "iemocap", "iemocap_1s", "librispeech_words", "good_sounds", "nsynth", "ms_snsd", "ms_snsd_noise"}


def test_every_grid_is_on_the_page_and_every_notebook_of_tables_and_figures():
    assert set(GRIDS) <= NAMES
    notebooks = {path.stem for path in EXPERIMENTS.glob("*.ipynb") if not path.stem.startswith("train_")}
    assert notebooks - {"relatedness"} <= NAMES


def test_every_name_on_the_page_is_there():
    """In the columns of grids and notebooks of the tables, and in the sentences."""
    other = {"laptop", "grid", "GRID", "notebooks/experiments/", "notebooks/experiments/grids/", "atlab.paper.preprint"}
    for name in NAMES - other:
        assert name in GRIDS or (EXPERIMENTS / f"{name}.ipynb").resolve().is_file(), name


@pytest.mark.parametrize("name", [n for n in GRIDS if re.match(r"table|fig|several", n) and not n.endswith("_open")])
def test_grids_of_the_papers_have_a_paper_scale_whose_head_names_sections_and_patience(name):
    text = GRIDS[name].read_text()
    head = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    content = yaml.safe_load(text)
    assert {"tiny", "laptop", "paper"} <= set(content["scales"])
    paper = content["scales"]["paper"]["fixed"]
    assert paper["width"] == 1.0 and paper["epochs"] == 50 and paper["patience"] == (3 if "published" in name else 5)
    assert "atience" in head or "table3_published" in head
    assert "Paper scale:" in head and "Laptop scale reduces:" in head
    assert re.search(r"[Ss]ection", text) or "published" in name
    named = set(re.findall(r"data/(\w+)", yaml.safe_dump(content["scales"]["paper"])))
    assert named and named <= CORPORA


def test_the_preprints_items_are_those_of_the_journal():
    table = preprint().set_index("preprint")
    assert table["journal"].to_dict() == {
        "table 1": "table 2",
        "table 2": "table 4",
        "table 3": "table 5",
        "table 4": "table 6",
        "figure 2": "figure 3",
        "figure 3": "figure 6",
        "figure 4": "figure 7",
    }
    both = tables.table("preprint_table1_pretraining").set_index(["classes", "hours"])
    journal = tables.table("table2_pretraining").set_index(["classes", "hours"])
    for key, row in both.iterrows():
        classes, hours = key[0], journal.loc[key[0]].index[0]
        (printed,) = [r for _, r in journal.loc[[(classes, hours)]].iterrows()]
        assert abs(row["test_acc"] - printed["test_acc"]) <= 0.1 and abs(row["train_acc"] - printed["train_acc"]) <= 0.1
