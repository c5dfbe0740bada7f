"""Batch norms in training: which there are, and which keep their statistics."""

from __future__ import annotations

from torch import nn


def batch_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Every batch norm of a network."""
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def set_training(model: nn.Module) -> None:
    """Training mode, but batch norms whose weights are frozen keep their statistics."""
    model.train()
    for norm in batch_norms(model):
        if norm.affine and not norm.weight.requires_grad:
            norm.eval()
