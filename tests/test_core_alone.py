"""The core works with torch, torchvision, numpy and safetensors alone: its process may import nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

CORE = ("torch", "torchvision", "numpy", "safetensors")

SCRIPT = """
import importlib.abc, sys, types

class Blocker(importlib.abc.MetaPathFinder):
    '''Everything is forbidden that is neither Python's own, nor atlab's, nor the core's, nor needed by these.'''
    allowed = set(sys.argv[1].split(","))
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in self.allowed and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"forbidden: {name}", name=name)

import torch, torchvision, numpy, safetensors.torch
for name in [name for name in sys.modules if name.partition(".")[0] in ("tqdm", "pandas")]:
    del sys.modules[name]  # torch looks whether it can have them
sys.meta_path.insert(0, Blocker())
for name in ("tqdm", "pandas", "torchaudio", "plotly", "dask"):
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        assert str(error) == f"forbidden: {name}"
    else:
        raise SystemExit(f"{name} is not blocked")

import atlab, torch.nn.functional as F
atlab.AntiTransferLoss, atlab.Teacher, atlab.CachedTeacher, atlab.Taps, atlab.functional, atlab.models

torch.manual_seed(0)
student, speaker = (atlab.models.vgg16(num_classes=n, width=1 / 16).eval() for n in (3, 4))
x, y, rows = torch.randn(5, 1, 32, 32), torch.tensor([0, 1, 2, 0, 1]), torch.arange(5)

class Clips:
    augmented, clips, identity = False, 5, "five clips"
    def epoch(self, number):
        yield types.SimpleNamespace(x=x, index=rows)

live = atlab.Teacher(speaker, layers="conv5")
cached = atlab.CachedTeacher(live, Clips(), sys.argv[2])
values = []
for teacher in (live, cached):
    with atlab.AntiTransferLoss(student, teacher) as at:
        logits = student(x)
        loss = F.cross_entropy(logits, y) + at(x, index=rows)
        loss.backward()
        values.append(float(loss.detach()))
print(*values)
"""


def needed(package: str) -> set[str]:
    """The packages that a package requires, and what these require."""
    found, left = set(), [package]
    while left:
        name = left.pop()
        if name in found:
            continue
        found.add(name)
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        left += [re.match(r"[\w.-]+", line)[0].lower() for line in lines if "extra ==" not in line]
    return found


def test_the_three_lines_with_a_live_and_a_cached_teacher(tmp_path):
    allowed = set.union(*map(needed, CORE)) | {"atlab", "PIL", "mpmath", "torchgen", "functorch", "typing_extensions"}
    assert not allowed & {"tqdm", "pandas", "plotly", "torchaudio", "dask"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, ",".join(allowed), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    live, cached = map(float, done.stdout.split())
    assert live > 1 and cached == pytest.approx(live, abs=2e-3)
