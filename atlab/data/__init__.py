"""Data sets as FactorSets: written, split, mixed with noise, turned into spectrograms and batches."""

from __future__ import annotations

import importlib

from atlab.system.extras import check

check(__name__)

from atlab.data import splits
from atlab.data.build import BrokenInput, Clip, build
from atlab.data.factorset import FactorSet
from atlab.data.parts import Split
from atlab.data.synthetic.toy import toy

# Resolved on first use: the command line and the processes that convert raw files do not wait for torch.
_HOMES = {
    "Batch": "loaders",
    "Batches": "loaders",
    "InMemory": "loaders",
    "Noisy": "noise",
    "Spectrogram": "spectrogram",
    "frontend": "spectrogram",
    "input_statistics": "spectrogram",
    "show": "display",
    "synthetic_commands": "synthetic.commands",
    "synthetic_digits": "synthetic.digits",
    "synthetic_notes": "synthetic.notes",
    "synthetic_speech": "synthetic.speech",
}

__all__ = ["BrokenInput", "Clip", "FactorSet", "Split", "build", "splits", "toy", *_HOMES]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f"atlab.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'atlab.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
