"""VGG16: torchvision's names, shapes and values, its named layers, its errors."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

import atlab
from atlab.errors import AtlabError
from atlab.models import ARCHITECTURES, vgg16


def test_names_and_shapes_are_torchvisions_at_full_width():
    with torch.device("meta"):
        ours, theirs = vgg16(num_classes=7, in_channels=3), torchvision.models.vgg16(num_classes=7)
    found = {name: tuple(tensor.shape) for name, tensor in ours.state_dict().items()}
    assert found.pop("input_mean") == found.pop("input_std") == ()
    assert found == {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    assert "features.28.bias" in found and "classifier.6.weight" in found
    assert [type(m) for m in ours.modules()][1:] == [type(m) for m in theirs.modules()][1:]
    assert next(p.numel() for p in vgg16(10, width=1 / 8).features.parameters()) == 8 * 9


def test_the_network_computes_what_torchvisions_layers_compute():
    """At the width where the classifier is small; the weights are the same tensors."""
    torch.manual_seed(0)
    ours = vgg16(num_classes=5, width=1 / 16, in_channels=3).eval()
    cfg = [c if c == "M" else c // 16 for c in torchvision.models.vgg.cfgs["D"]]
    theirs = torchvision.models.VGG(torchvision.models.vgg.make_layers(cfg), num_classes=5, init_weights=False)
    theirs.classifier = nn.Sequential(
        nn.Linear(32 * 49, 256),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(256, 5),
    )
    theirs.load_state_dict({name: t for name, t in ours.state_dict().items() if not name.startswith("input_")})
    x = torch.randn(2, 3, 96, 70)
    assert torch.allclose(ours(x), theirs.eval()(x), atol=1e-6)
    ours.set_normalisation(-1.5, 4.0)
    assert torch.allclose(ours(x), theirs((x + 1.5) / 4.0), atol=1e-6)


def test_initial_weights_are_torchvisions_bit_for_bit(monkeypatch):
    """Both classifiers shrunk: at full size drawing the numbers takes seconds."""

    class Small(nn.Linear):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__(min(inputs, 20), min(outputs, 30))

    monkeypatch.setattr(nn, "Linear", Small)
    torch.manual_seed(3)
    ours = vgg16(num_classes=4, in_channels=3)
    torch.manual_seed(3)
    theirs = torchvision.models.vgg16(num_classes=4).state_dict()
    assert len(theirs) == 32
    for name, tensor in theirs.items():
        assert torch.equal(ours.state_dict()[name], tensor), name


@pytest.mark.parametrize("shape", [(2, 1, 126, 129), (1, 1, 32, 32), (3, 1, 33, 200)])
def test_any_size_from_32_on(shape):
    net = vgg16(num_classes=3, width=1 / 32)
    assert net(torch.randn(shape)).shape == (shape[0], 3)
    assert vgg16(3, 1 / 32, in_channels=3)(torch.randn(1, 3, 32, 32)).shape == (1, 3)


def test_layer_names_lead_to_the_nth_convolution_and_the_non_linearity_after_it():
    net = vgg16(num_classes=3, width=1 / 32).eval()
    convolutions = [module for module in net.features if isinstance(module, nn.Conv2d)]
    assert len(net.tap_points) == 26
    x, names = torch.randn(1, 1, 126, 129), [f"conv{n}" for n in range(1, 14)]
    with atlab.Taps(net, [*names, *(f"{name}.pre" for name in names)]) as taps:
        net(x)
        for name, convolution in zip(names, convolutions, strict=True):
            assert net.get_submodule(net.tap_points[f"{name}.pre"]) is convolution
            assert isinstance(net.get_submodule(net.tap_points[name]), nn.ReLU)
            assert (taps[f"{name}.pre"] < 0).any()
            assert torch.equal(taps[name], taps[f"{name}.pre"].clamp_min(0))
    assert net.tap_points["conv1"] == "features.1" and net.tap_points["conv13"] == "features.29"


def test_dropout_is_half_by_default_and_can_be_set():
    def found(net):
        return [m.p for m in net.modules() if isinstance(m, nn.Dropout)]

    assert found(vgg16(3, 1 / 64)) == [0.5, 0.5] and found(vgg16(3, 1 / 64, dropout=0.0)) == [0.0, 0.0]


def test_with_batch_norm_names_and_shapes_are_torchvisions_vgg16_bn():
    with torch.device("meta"):
        ours = vgg16(num_classes=7, in_channels=3, batch_norm=True)
        theirs = torchvision.models.vgg16_bn(num_classes=7)
    found = {name: tuple(tensor.shape) for name, tensor in ours.state_dict().items() if not name.startswith("input_")}
    assert found == {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    assert [type(m) for m in ours.modules()][1:] == [type(m) for m in theirs.modules()][1:]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_pooling_head_is_a_linear_map_of_the_mean_over_positions(batch_norm):
    torch.manual_seed(0)
    net = vgg16(num_classes=5, width=1 / 16, batch_norm=batch_norm, head="pool").eval()
    x = torch.randn(2, 1, 126, 129)
    maps = net.features(x)
    assert maps.shape == (2, 32, 3, 4)
    wanted = maps.mean((2, 3)) @ net.classifier[1].weight.T + net.classifier[1].bias
    assert torch.allclose(net(x), wanted, atol=1e-6)
    assert [type(m) for m in net.classifier] == [nn.Dropout, nn.Linear]
    assert vgg16(3, 1 / 32, head="pool")(torch.randn(3, 1, 33, 200)).shape == (3, 3)


def test_with_batch_norm_layer_names_lead_to_the_activations_after_the_norm():
    torch.manual_seed(0)
    net = vgg16(num_classes=3, width=1 / 32, batch_norm=True, head="pool").eval()
    norms = [module for module in net.features if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.running_mean)
    x, names = torch.randn(2, 1, 64, 64), [f"conv{n}" for n in range(1, 14)]
    with atlab.Taps(net, [*names, *(f"{name}.pre" for name in names)]) as taps:
        net(x)
        for name, norm in zip(names, norms, strict=True):
            assert net.get_submodule(net.tap_points[f"{name}.pre"]) is norm
            assert torch.equal(taps[name], taps[f"{name}.pre"].clamp_min(0))
    first = (net.features[0](x) - norms[0].running_mean[:, None, None]) / (norms[0].running_var + norms[0].eps)[
        :, None, None
    ].sqrt() * norms[0].weight[:, None, None] + norms[0].bias[:, None, None]
    with atlab.Taps(net, "conv1") as taps:
        net(x)
        assert torch.allclose(taps["conv1"], first.clamp_min(0), atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (2, 1, 31, 64), (1, 64, 64), (64, 64)])
def test_an_input_of_another_shape_is_refused(shape):
    found = ", ".join(map(str, shape))
    with pytest.raises(AtlabError, match=rf"vgg16 takes \[B, 1, H, W\] with H and W of at least 32, found \[{found}\]"):
        vgg16(3, 1 / 64)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes must be a whole number of at least 1, found 0"),
        ({"num_classes": 2.5}, "num_classes must be a whole number of at least 1, found 2.5"),
        ({"num_classes": True}, "num_classes must be a whole number"),
        ({"in_channels": -1}, "in_channels must be a whole number of at least 1, found -1"),
        ({"width": 0}, "width must be above 0 and at most 4 .*, found 0"),
        ({"width": float("nan")}, "width must be above 0 .*, found nan"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, found 1.0"),
        ({"batch_norm": 1}, "batch_norm must be True or False, found 1"),
        ({"head": "pooled"}, "unknown head 'pooled'; nearest: 'pool'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(AtlabError, match=message):
        vgg16(**({"num_classes": 3} | arguments))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.0), (0.0, -1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_a_normalisation_that_is_none_is_refused(mean, std):
    net = vgg16(3, 1 / 64)
    with pytest.raises(AtlabError, match="normalisation needs a finite mean and a positive standard deviation"):
        net.set_normalisation(mean, std)
    assert float(net.input_mean) == 0 and float(net.input_std) == 1


def test_the_registry_builds_what_the_network_says_of_itself():
    net = vgg16(num_classes=3, width=1 / 64, in_channels=2, dropout=0.25, batch_norm=True, head="pool")
    again = ARCHITECTURES[net.architecture](**net.arguments)
    published = {"num_classes": 3, "width": 1 / 64, "in_channels": 2, "dropout": 0.25}
    assert again.arguments == published | {"batch_norm": True, "head": "pool"}
    assert {n: t.shape for n, t in again.state_dict().items()} == {n: t.shape for n, t in net.state_dict().items()}
