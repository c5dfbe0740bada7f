"""Networks with named layers, and their files: safetensors with a model card, never a pickle."""

from __future__ import annotations

from atlab.models.alexnet import AlexNet, alexnet
from atlab.models.architectures import ARCHITECTURES
from atlab.models.caffenet import CaffeNet, caffenet
from atlab.models.densenet import DenseNet40, densenet40
from atlab.models.fayek import FayekModel, fayek_a, fayek_b
from atlab.models.io import copy_weights, load, save
from atlab.models.vgg import VGG16, vgg16
from atlab.system.hashing import weights_hash

__all__ = [
    "ARCHITECTURES",
    "VGG16",
    "AlexNet",
    "CaffeNet",
    "DenseNet40",
    "FayekModel",
    "alexnet",
    "caffenet",
    "copy_weights",
    "densenet40",
    "fayek_a",
    "fayek_b",
    "load",
    "save",
    "vgg16",
    "weights_hash",
]
