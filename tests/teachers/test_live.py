"""What a teacher copies: the network up to its last layer, and nothing behind it."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

import atlab
from atlab.errors import AtlabError
from atlab.models import weights_hash
from atlab.taps import Taps


def vgg(seed: int = 1):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return atlab.models.vgg16(4, width=1 / 16).eval()


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("layers", "convolutions"), [("conv1", 1), (["conv5", "conv2"], 5), ("conv13", 13)])
def test_what_lies_behind_the_last_layer_is_not_copied(layers, convolutions):
    model = vgg()
    teacher = atlab.Teacher(model, layers)
    kept = [m for m in model.features if isinstance(m, nn.Conv2d)][:convolutions]
    assert parameters(teacher.model) == sum(map(parameters, kept))
    x = torch.rand(2, 1, 32, 34)
    with Taps(model, layers) as taps, torch.no_grad():
        model(x)
        assert all(torch.equal(maps, taps[layer]) for layer, maps in teacher(x).items())
    assert parameters(model) > parameters(teacher.model)


def test_the_identity_is_that_of_the_whole_network():
    model = vgg()
    assert atlab.Teacher(model, "conv3").identity == f"{weights_hash(model)} conv3"
    other = vgg()
    with torch.no_grad():
        other.classifier[-1].bias += 1
    assert atlab.Teacher(other, "conv3").identity != atlab.Teacher(model, "conv3").identity


def test_what_was_not_copied_is_not_run_silently():
    teacher = atlab.Teacher(vgg(), "conv5")
    x = torch.rand(2, 1, 32, 34)
    with pytest.raises(AtlabError, match="copy of the network ends before 'features.12'"):
        teacher.model(x)
    with pytest.raises(AtlabError, match="tap a later layer"):
        atlab.Teacher(teacher.model, "conv6")(x)


@pytest.mark.parametrize("layers", ["classifier.0", "features", ["conv1", "classifier"]])
def test_a_layer_outside_the_convolutions_keeps_the_network_whole(layers):
    model = vgg()
    assert weights_hash(atlab.Teacher(model, layers).model) == weights_hash(model)


def test_a_network_of_unknown_order_is_copied_whole():
    with torch.random.fork_rng():
        model = torchvision.models.squeezenet1_1()
    assert parameters(atlab.Teacher(model, "features.0").model) == parameters(model)
