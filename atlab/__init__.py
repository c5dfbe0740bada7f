"""atlab: anti-transfer learning and layer-wise transferability, notebook-first.

>>> import atlab
>>> student = atlab.models.vgg16(num_classes=10, width=1 / 8)
>>> teacher = atlab.Teacher(atlab.models.vgg16(num_classes=24, width=1 / 8), layers="conv5")
>>> at = atlab.AntiTransferLoss(student, teacher)
"""

from __future__ import annotations

import importlib

__version__ = "0.2.0"

# Names are resolved on first use, so that `import atlab` and the command line do not wait for torch.
_HOMES = {
    "AntiTransferLoss": "atlab.losses",
    "CachedTeacher": "atlab.teachers",
    "Taps": "atlab.taps",
    "Teacher": "atlab.teachers",
    "AtlabError": "atlab.errors",
}
_ROOMS = (
    "analysis",
    "cost",
    "data",
    "experiment",
    "explore",
    "functional",
    "invariance",
    "losses",
    "models",
    "paper",
    "plots",
    "runs",
    "stats",
    "strategies",
    "teachers",
    "training",
    "transfer",
)

__all__ = [*_HOMES, *_ROOMS, "__version__"]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"atlab.{name}")
    raise AttributeError(f"module 'atlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
