"""Networks with named layers, and their files: safetensors with a model card, never a pickle."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from atlab.models.alexnet import AlexNet, alexnet
from atlab.models.densenet import DenseNet40, densenet40
from atlab.models.fayek import FayekModel, fayek_a, fayek_b
from atlab.models.io import copy_weights, load, save, weights_hash
from atlab.models.vgg import VGG16, vgg16

# What a model card's "architecture" may name; each is called with the card's "arguments".
ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "vgg16": vgg16,
    "alexnet": alexnet,
    "densenet40": densenet40,
    "fayek_a": fayek_a,
    "fayek_b": fayek_b,
}

__all__ = [
    "ARCHITECTURES",
    "AlexNet",
    "DenseNet40",
    "FayekModel",
    "VGG16",
    "alexnet",
    "copy_weights",
    "densenet40",
    "fayek_a",
    "fayek_b",
    "load",
    "save",
    "vgg16",
    "weights_hash",
]
