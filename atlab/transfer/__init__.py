"""Layer-wise transferability: treatments of copied layers, and gradual transfer between tasks."""

from __future__ import annotations

import importlib

from atlab.system.extras import check

check(__name__)

# Resolved on first use, so that the command line does not wait for torch.
_HOMES = {
    "Cut": "cut",
    "copy_layers": "cut",
    "layers": "cut",
    "Halves": "halves",
    "halves_of": "halves",
    "listed_halves": "halves",
    "random_halves": "halves",
    "restrict": "halves",
    "PrefixBatches": "prefix",
    "TREATMENTS": "treatments",
    "apply": "treatments",
    "TransferSettings": "experiment",
    "from_parameters": "experiment",
    "train": "experiment",
    "required_by": "experiment",
    "train_required": "experiment",
    "estimate_run": "estimate",
}

__all__ = list(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f"atlab.transfer.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'atlab.transfer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
