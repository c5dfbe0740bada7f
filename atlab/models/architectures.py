"""The networks that a model card may name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from atlab.models.alexnet import alexnet
from atlab.models.caffenet import caffenet
from atlab.models.densenet import densenet40
from atlab.models.fayek import fayek_a, fayek_b
from atlab.models.vgg import vgg16

# What a model card's "architecture" may name; each is called with the card's "arguments".
ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "vgg16": vgg16,
    "alexnet": alexnet,
    "caffenet": caffenet,
    "densenet40": densenet40,
    "fayek_a": fayek_a,
    "fayek_b": fayek_b,
}
