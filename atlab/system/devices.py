"""Where to compute and in which precision and memory layout."""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from atlab.errors import unknown

PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class Precision:
    """How convolutions are computed: bfloat16 under autocast or float32, channels last or not.

    Weights, optimiser and loss stay float32. Channels last is 1.3 times faster than the default layout on a CPU
    in float32, and bfloat16 with it 2.7 times (VGG16 at width 1/8, one thread with AVX-512 bf16 instructions).
    """

    name: str
    device: torch.device
    channels_last: bool

    def autocast(self) -> torch.autocast:
        """The context for a forward pass and the loss terms."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.name == "bf16")

    def place(self, model: nn.Module) -> nn.Module:
        """Move the model to the device and lay its weights out for it, in place."""
        return model.to(
            self.device, memory_format=torch.channels_last if self.channels_last else torch.contiguous_format
        )

    @contextmanager
    def settings(self) -> Iterator[None]:
        """PyTorch's global switches for as long as the context lasts: TF32 with bf16, the same algorithms each time."""
        if self.device.type != "cuda":
            yield
            return
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        tf32, before = self.name == "bf16", matmul.allow_tf32
        matmul.allow_tf32 = tf32
        try:
            with cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=tf32):
                yield
        finally:
            matmul.allow_tf32 = before


def choose(name: str | torch.device | None = None) -> torch.device:
    """The device to compute on: the named one, else CUDA, else Apple's MPS, else the CPU.

    Raises AtlabError if this machine has no such device.

    >>> choose("cpu")
    device(type='cpu')
    """
    available = _available()
    if name is None:
        return torch.device(available[0])
    # Tensors on the first CUDA device say "cuda:0", which "cuda" does not equal.
    named = {"cuda": "cuda:0", "cpu:0": "cpu", "mps:0": "mps"}.get(str(name), str(name))
    if named not in available:
        raise unknown("device", name, available)
    return torch.device(named)


def precision(name: str = "auto", device: str | torch.device | None = None) -> Precision:
    """What `name` means on a device: "fp32", "bf16", or "auto", bf16 where the processor computes it itself.

    Raises AtlabError for another name.

    >>> precision("fp32", "cpu")
    Precision(name='fp32', device=device(type='cpu'), channels_last=True)
    """
    if name not in PRECISIONS:
        raise unknown("precision", name, PRECISIONS)
    device = choose(device)
    if name == "auto":
        name = "bf16" if computes_bf16(device) else "fp32"
    return Precision(name, device, channels_last=device.type != "mps")


@functools.cache
def reuse_memory() -> bool:
    """Have this process keep the memory of freed tensors for the next ones: -> whether the platform allows it (Linux, glibc).

    A step frees and asks for the same tensors again. By default glibc hands those above 32 MiB back to the system, which
    clears each page anew: on a CPU, a step of full-width VGG16 takes 1.29 times as long. The process holds more memory
    (3.5 instead of 3.1 GB there, the same from the second step on). Results are the same bits.

    >>> reuse_memory() == reuse_memory()
    True
    """
    if sys.platform != "linux":
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    trim_threshold, mmap_threshold = -1, -3  # their numbers in malloc.h
    return bool(set_option(mmap_threshold, 1 << 30) and set_option(trim_threshold, (1 << 31) - 1))


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has bfloat16 instructions; without them bf16 is emulated, and slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and _cpu_has_bf16()


def _cpu_has_bf16() -> bool:
    try:
        if platform.machine().lower() in ("x86_64", "amd64"):
            return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # a PyTorch that cannot tell
        return False


def _available() -> list[str]:
    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return found + (["mps"] if torch.backends.mps.is_available() else []) + ["cpu"]
