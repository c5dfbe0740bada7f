"""What tells files and weights apart."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def sha256_file(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_hash(model: nn.Module) -> str:
    """Hexadecimal SHA-256 of all parameters and buffers: names, dtypes, shapes, values; not of device or layout.

    >>> import atlab, torch
    >>> net = atlab.models.vgg16(num_classes=2, width=1 / 64)
    >>> weights_hash(net) == weights_hash(net.to(memory_format=torch.channels_last))
    True
    """
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
