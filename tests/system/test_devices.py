"""Devices and precisions: what is chosen, what is refused, what is put back."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from atlab.errors import AtlabError
from atlab.system import devices


@pytest.fixture
def machine(monkeypatch):
    """Pretend to a machine with so many CUDA devices, MPS or bf16 instructions."""

    def pretend(cuda: int = 0, mps: bool = False, capability: tuple[int, int] = (9, 0), bf16: bool = True) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(devices, "_cpu_has_bf16", lambda: bf16)

    return pretend


def test_the_best_device_is_chosen_and_a_name_is_obeyed(machine):
    machine()
    assert (
        devices.choose()
        == devices.choose("cpu")
        == devices.choose("cpu:0")
        == devices.choose(torch.device("cpu"))
        == torch.device("cpu")
    )
    machine(mps=True)
    assert devices.choose() == devices.choose("mps:0") == torch.device("mps")
    machine(cuda=2)
    assert devices.choose() == devices.choose("cuda") == torch.device("cuda:0")
    assert devices.choose("cuda:1") == torch.device("cuda:1") and devices.choose("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_is_refused_with_what_is_there(machine):
    machine()
    with pytest.raises(AtlabError, match="unknown device 'cuda'; nearest: 'cpu'; allowed: cpu"):
        devices.choose("cuda")
    machine(cuda=1)
    with pytest.raises(AtlabError, match="unknown device 'cuda:1'; nearest: 'cuda:0'; allowed: cuda:0, cpu"):
        devices.choose("cuda:1")


@pytest.mark.parametrize(
    ("kind", "device", "expected"),
    [
        ({"bf16": True}, "cpu", ("bf16", True)),
        ({"bf16": False}, "cpu", ("fp32", True)),
        ({"cuda": 1}, "cuda", ("bf16", True)),
        ({"cuda": 1, "capability": (7, 5)}, "cuda", ("fp32", True)),
        ({"mps": True}, "mps", ("fp32", False)),
    ],
)
def test_auto_takes_bf16_where_the_processor_has_it(machine, kind, device, expected):
    machine(**kind)
    found = devices.precision("auto", device)
    assert (found.name, found.channels_last) == expected
    assert devices.precision("fp32", device).name == "fp32" and devices.precision("bf16", device).name == "bf16"


def test_an_unknown_precision_is_refused():
    with pytest.raises(
        AtlabError, match="unknown precision 'fp16'; nearest: 'bf16', 'fp32'; allowed: auto, fp32, bf16"
    ):
        devices.precision("fp16", "cpu")


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_convolutions_run_in_the_named_precision_with_float32_weights(name, dtype):
    mode = devices.precision(name, "cpu")
    convolution = mode.place(nn.Conv2d(2, 3, 3))
    assert (
        convolution.weight.is_contiguous(memory_format=torch.channels_last) and not convolution.weight.is_contiguous()
    )
    with mode.settings(), mode.autocast():
        assert convolution(torch.randn(1, 2, 5, 5)).dtype == dtype
    assert convolution.weight.dtype == torch.float32


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_the_settings_for_cuda_last_as_long_as_the_context(machine, name):
    machine(cuda=1)
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul

    def switches():
        return cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32

    before = switches()
    with devices.precision(name, "cuda").settings():
        assert switches() == (True, False, name == "bf16", name == "bf16")
    assert switches() == before


def test_the_answer_about_bf16_is_that_of_the_processor():
    information = Path("/proc/cpuinfo")
    flags = information.read_text() if information.exists() else ""
    if "avx512f" not in flags:
        pytest.skip("compares with /proc/cpuinfo of an x86 processor with AVX-512")
    assert devices.computes_bf16(torch.device("cpu")) == ("avx512_bf16" in flags or "amx_bf16" in flags)


STEPS = """
import resource, sys
import torch
from atlab.system import devices
torch.set_num_threads(1)
if sys.argv[1] == "reused":
    assert devices.reuse_memory()
network = torch.nn.Sequential(torch.nn.Conv2d(1, 16, 1), torch.nn.ReLU(inplace=True), torch.nn.Conv2d(16, 1, 1))
x = torch.zeros(4, 1, 400, 400)  # 41 MB a feature map
for step in range(24):
    if step == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    network(x).mean().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
def test_freed_memory_is_used_again():
    """Counted are the pages that the system has to clear in four steps: by default those of every feature map."""
    faults = {}
    for how in ("default", "reused"):
        done = subprocess.run([sys.executable, "-c", STEPS, how], capture_output=True, text=True, check=True)
        faults[how] = int(done.stdout)
    assert faults["reused"] < faults["default"] / 4


def test_another_c_library_or_system_is_left_alone(monkeypatch):
    devices.reuse_memory.cache_clear()
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda name: object())
    assert devices.reuse_memory() is False
    devices.reuse_memory.cache_clear()
    monkeypatch.setattr(devices.sys, "platform", "darwin")
    assert devices.reuse_memory() is False
    devices.reuse_memory.cache_clear()
