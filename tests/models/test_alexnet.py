"""AlexNet: torchvision's names, shapes, values and count of parameters; sizes of images; its errors."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

import atlab
from atlab.errors import AtlabError
from atlab.models import alexnet


def test_names_shapes_and_count_are_torchvisions_at_full_width():
    with torch.device("meta"):
        ours, theirs = alexnet(num_classes=1000), torchvision.models.alexnet(num_classes=1000)
    found = {name: tuple(tensor.shape) for name, tensor in ours.state_dict().items()}
    assert found.pop("input_mean") == found.pop("input_std") == ()
    assert found == {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    assert sum(p.numel() for p in ours.parameters()) == 61_100_840  # as torchvision's documentation counts


def torchvision_layers() -> nn.Module:
    """torchvision's network without the time that drawing 60 million weights takes."""
    with torch.device("meta"):
        return torchvision.models.alexnet(num_classes=3)


def test_the_network_computes_what_torchvisions_layers_compute():
    torch.manual_seed(0)
    ours, theirs = alexnet(3, width=1 / 32).eval(), torchvision_layers()
    for module, scaled in zip(theirs.modules(), list(ours.modules()), strict=True):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight, module.bias = scaled.weight, scaled.bias
    x = torch.randn(2, 3, 96, 80)
    assert torch.allclose(ours(x), theirs.eval()(x), atol=1e-6)
    ours.set_normalisation(-1.5, 4.0)
    assert torch.allclose(ours(x), theirs((x + 1.5) / 4.0), atol=1e-6)


@pytest.mark.parametrize(("images", "least", "last"), [("photographs", 63, 6), ("small", 15, 3)])
def test_the_smallest_image_goes_through_and_a_smaller_one_is_refused(images, least, last):
    net = alexnet(2, width=1 / 64, images=images, in_channels=1).eval()
    assert net(torch.zeros(1, 1, least, least)).shape == (1, 2)
    assert net.classifier[1].in_features == 4 * last**2
    with pytest.raises(AtlabError, match=rf"at least {least}, found \[1, 1, {least - 1}, {least}\]"):
        net(torch.zeros(1, 1, least - 1, least))


def test_small_images_keep_three_positions_a_side_at_the_last_convolution():
    net = alexnet(2, width=1 / 64, images="small")
    assert net.features(torch.zeros(1, 3, 32, 32)).shape[2:] == (3, 3)


def test_tap_points_name_the_activations():
    net = alexnet(2, width=1 / 64, images="small")
    for n in range(1, 6):
        assert isinstance(net.get_submodule(net.tap_points[f"conv{n}"]), nn.ReLU)
        assert isinstance(net.get_submodule(net.tap_points[f"conv{n}.pre"]), nn.Conv2d)


def test_it_is_saved_and_loaded(tmp_path):
    net = alexnet(2, width=1 / 64, images="small").eval()
    net.set_normalisation(0.5, 0.25)
    again = atlab.models.load(atlab.models.save(net, tmp_path / "model.safetensors"))
    x = torch.rand(2, 3, 32, 32)
    assert type(again).__name__ == "AlexNet" and torch.equal(again(x), net(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": "smal"}, "kind of images.*'smal'.*small"),
        ({"width": 0}, "width must be above 0"),
        ({"num_classes": 0}, "num_classes must be a whole number of at least 1"),
        ({"in_channels": 1.5}, "in_channels must be a whole number"),
        ({"dropout": 1}, "dropout must be at least 0 and below 1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(AtlabError, match=message):
        alexnet(**({"num_classes": 2} | arguments))


def test_normalisation_must_be_finite_and_positive():
    with pytest.raises(AtlabError, match="positive standard deviation, found 0.0 and 0.0"):
        alexnet(2, width=1 / 64).set_normalisation(0, 0)
