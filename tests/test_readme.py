"""What the README and the reference say is so: the example runs, the tables name what there is, the files exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats

import atlab
from atlab import functional, strategies
from atlab.data.synthetic.toy import toy
from atlab.runs import parameters

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
REFERENCE = (ROOT / "docs/reference.md").read_text()


def first_column(header: str) -> set[str]:
    table = REFERENCE[REFERENCE.index(header) :].split("\n\n")[0].splitlines()[2:]
    return {name for line in table for name in re.findall(r"`(\w+)`", line.split("|")[1])}


def test_the_example_runs_as_it_stands_on_what_the_demo_made(tmp_path, monkeypatch):
    for name, classes in (("another", 8), ("speakers", 24)):
        network = atlab.models.vgg16(num_classes=classes, width=1 / 8)
        file = tmp_path / f"runs/networks/{name}/model.safetensors"
        atlab.models.save(network, file, classes=[str(n) for n in range(classes)])
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    scope: dict = {}
    exec(code, scope)
    scope["loss"].backward()
    assert torch.isfinite(scope["loss"]) and scope["student"].features[0].weight.grad.abs().sum() > 0


def test_the_way_from_a_corpus_to_a_loop_of_ones_own_runs(tmp_path, monkeypatch):
    page = (ROOT / "docs/howto/own_network.md").read_text()
    monkeypatch.chdir(tmp_path)
    toy("data/mine", words=3, speakers=20, repetitions=4)
    scope: dict = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(code.replace("epochs=20", "epochs=1").replace("range(20)", "range(2)"), scope)
    assert torch.isfinite(scope["loss"]) and scope["adversary"].module[0].weight.grad.abs().sum() > 0
    student, words = scope["student"], scope["words"]
    scope["fit"](student, words.train, "word", 1, scope["at"])  # with the cached teacher
    (call,) = re.findall(r"`(atlab\.invariance\.report\(.*?\))` probes", page)
    found = eval(call, scope)
    assert set(found.table["name"]) == {"AT", "random weights"} and scope["at"].values.keys() == {"5"}


def test_every_interval_stands_on_a_page_that_says_how_it_was_computed():
    pages = "".join((ROOT / f"docs/{name}.md").read_text() for name in ("results", "performance"))
    found = re.findall(r"\S+ (?:points |nats )?\[[^\]]*\d, [^\]]*\](?!\()", README)
    assert len(found) >= 7
    for interval in found:
        mean, ends = interval.split()[0].strip("(*"), interval[interval.index("[") :]
        assert re.search(rf"{re.escape(mean)}(?: points| nats)?\**:? ?{re.escape(ends)}", pages), interval


def test_the_tables_name_what_there_is():
    assert first_column("| strategy |") == set(strategies.STRATEGIES)
    assert first_column("| aggregation |") == set(functional.AGGREGATIONS)
    assert first_column("| similarity |") == set(functional.SIMILARITIES)


def test_the_commands_name_parameters_and_files_that_exist():
    for notebook, arguments in re.findall(r"atlab run (notebooks/\S+\.ipynb)(.*)", README):
        given = dict(re.findall(r"-p (\S+) (\S+)", arguments))
        assert parameters.parse(ROOT / notebook, given).keys() == given.keys()


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\((?!https?:)([\w./]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
    for path in re.findall(r"`((?:atlab|data_recipes|notebooks|benchmarks|scripts)/[\w./]*)`", README):
        assert (ROOT / path).exists(), path


@pytest.fixture(scope="module")
def verdicts():
    spec = importlib.util.spec_from_file_location("verdicts", ROOT / "docs/verdicts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_repetitions_that_would_do_are_the_fewest(verdicts):
    scores = np.array([0.01, 0.09, -0.06, 0.03])
    seen = scipy_stats.t.interval(0.95, 3, scores.mean(), scipy_stats.sem(scores))
    n = verdicts.repetitions({"d_low": seen[0], "d_high": seen[1], "n": 4})
    halves = [scipy_stats.t.ppf(0.975, k - 1) * scores.std(ddof=1) / np.sqrt(k) for k in (n - 1, n)]
    assert halves[0] > verdicts.GOAL >= halves[1] and n > 4
    assert verdicts.repetitions({"d_low": np.nan, "d_high": np.nan, "n": 3}) == 0


def test_the_tables_of_results_are_those_of_their_csv_files(verdicts):
    page, rows = verdicts.PAGE.read_text(), verdicts.differences()
    assert verdicts.with_tables(page, rows) == page, "python docs/verdicts.py writes them anew"
    assert all(f"<!-- results/{path.name}," in page for path in verdicts.TABLES.glob("*.csv"))
