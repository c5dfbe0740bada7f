"""What the README says is so: its example runs, its tables name what there is, its files exist."""

from __future__ import annotations

import re
from pathlib import Path

import torch

import atlab
from atlab import functional, strategies
from atlab.runs import notebooks

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def first_column(header: str) -> set[str]:
    table = README[README.index(header) :].split("\n\n")[0].splitlines()[2:]
    return {name for line in table for name in re.findall(r"`(\w+)`", line.split("|")[1])}


def test_the_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    atlab.models.save(atlab.models.vgg16(4, width=1 / 16), "runs/speaker/model.safetensors")
    code = next(block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "Teacher" in block)
    code = code.replace("vgg16(num_classes=10)", "vgg16(num_classes=10, width=1 / 16)")
    scope = {"x": torch.randn(3, 1, 64, 64), "y": torch.tensor([1, 2, 3])}
    exec(code, scope)
    scope["loss"].backward()
    assert torch.isfinite(scope["loss"]) and scope["student"].features[0].weight.grad.abs().sum() > 0


def test_the_tables_name_what_there_is():
    assert first_column("| strategy |") == set(strategies.STRATEGIES)
    assert first_column("| aggregation |") == set(functional.AGGREGATIONS)
    assert first_column("| similarity |") == set(functional.SIMILARITIES)


def test_the_commands_name_parameters_and_files_that_exist():
    for notebook, arguments in re.findall(r"atlab run (notebooks/\S+\.ipynb)(.*)", README):
        given = dict(re.findall(r"-p (\S+) (\S+)", arguments))
        assert notebooks.parse(ROOT / notebook, given).keys() == given.keys()
    for link in re.findall(r"\]\(([\w./]+)\)", README):
        assert (ROOT / link).exists(), link
    for path in re.findall(r"`((?:atlab|data_recipes|notebooks|benchmarks|scripts)/[\w./]*)`", README):
        assert (ROOT / path).exists(), path
