"""The machine that numbers were measured on, without its name."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from atlab.system import devices


def describe() -> dict:
    """Processor, threads, library, accelerator, and other load during the measurement."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "bf16": devices.computes_bf16(torch.device("cpu")),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "torch": torch.__version__.split("+")[0],
        "python": platform.python_version(),
    }


def processor() -> str:
    """What the processor calls itself, or its architecture."""
    try:
        names = [text for text in Path("/proc/cpuinfo").read_text().splitlines() if text.startswith("model name")]
        return names[0].partition(":")[2].strip()
    except (OSError, IndexError):
        return platform.machine()


def label(found: dict) -> str:
    """A file name for these results.

    >>> label({"processor": "AMD EPYC 9R14", "cores": 2, "accelerator": "", "bf16": True})
    'amd-epyc-9r14-2-cores-bf16'
    """
    words = "".join(c if c.isalnum() else " " for c in f"{found['accelerator'] or found['processor']}").lower().split()
    return "-".join(
        [*words, str(found["cores"]), "cores", *(["bf16"] if found["bf16"] and not found["accelerator"] else [])]
    )
