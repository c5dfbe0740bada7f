"""The cheap part of the rehearsal: heads of grids are true, data are prepared as they say, and no run at paper scale is refused."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from atlab.data.catalog import EMBEDDED
from atlab.runs import grid as grids
from atlab.runs import ipynb
from tests.rehearsal import heads, rehearse

GRIDS = pytest.mark.parametrize("path", rehearse.GRIDS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    with rehearse.at(folder):
        rehearse.lay_out(folder)
        yield folder


@GRIDS
def test_the_commands_in_a_head_prepare_what_the_runs_name(path):
    prepared = {heads.folder(words) for words in heads.commands(path)}
    wanted = heads.named(rehearse.jobs_of(path)) - set(EMBEDDED)
    assert wanted <= prepared, "the head does not say how to prepare what the largest scale needs"
    named = set().union(*(heads.named(grids.load(path, scale).jobs) for scale in grids.scales(path)))
    assert prepared <= named, "the head prepares what no run names"


@GRIDS
def test_no_run_is_refused(path, home):
    """Every run of the cut grid, and every network that it requires, is checked as far as its split; one layer stands for all."""
    rehearse.prepare(path, home)
    module = importlib.import_module(ipynb.metadata(rehearse.trained_by(path))["atlab"]["requires"].split(":")[0])
    first = {rehearse.without_seeds(job, rehearse.VARIED): job for job in reversed(rehearse.jobs_of(path))}
    left = [module.from_parameters(job) for job in first.values()]
    seen = set()
    while left:
        settings = left.pop()
        if settings not in seen:
            seen.add(settings)
            settings.check()
            split = settings.make_split(settings.data_set())
            assert min(map(len, (split.train, split.validation, split.test))) > 0
            left += settings.required()


@GRIDS
def test_a_cut_grid_keeps_everything_but_width_epochs_and_repetitions(path, home):
    cut = grids.load(home / "notebooks/experiments/grids" / path.name, rehearse.scale_of(path)).jobs
    whole = grids.load(path, rehearse.scale_of(path)).jobs

    def kept(jobs: list[dict]) -> set[str]:
        return {rehearse.without_seeds({k: v for k, v in job.items() if k not in rehearse.CUT}) for job in jobs}

    assert kept(cut) == kept(whole) and len(cut) <= len(whole)


def test_a_repetition_is_not_trained_again(tmp_path):
    """In the rehearsal only: its files are those of the first."""
    notebook = Path(__file__).parents[2] / "notebooks/experiments/train.ipynb"
    how = rehearse.InProcess()
    how.seen.add(notebook.name)
    folders = [tmp_path / name for name in ("a", "b")]
    for seed, folder in enumerate(folders):
        folder.mkdir()
        (folder / "params.json").write_text(str(seed))
    how.first[f"{notebook.name} {rehearse.without_seeds({'seed': 0})}"] = folders[0]
    (folders[0] / "result.json").write_text("{}")
    how(notebook, {"seed": 1, "run_dir": str(folders[1])}, folders[1] / "out.ipynb")
    assert (folders[1] / "result.json").read_text() == "{}" and (folders[1] / "params.json").read_text() == "1"
