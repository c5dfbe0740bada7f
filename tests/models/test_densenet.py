"""DenseNet-40: parameters counted by hand, values by a plain loop, blocks in order, files."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as nnf

import atlab
from atlab.errors import AtlabError
from atlab.models import densenet40
from atlab.models.normalised import Normalised


def parameters(model) -> int:
    return sum(p.numel() for p in model.parameters())


def counted(first: int, classes: int) -> int:
    """The formula of table 1: 3 x 12 layers that add 12 channels, two transitions, no bias before a BatchNorm."""
    total, channels = 3 * first * 9, first
    for block in range(3):
        for _ in range(12):
            total += 2 * channels + channels * 12 * 9
            channels += 12
        if block < 2:
            total += 2 * channels + channels * channels
    return total + 2 * channels + channels * classes + classes


@pytest.mark.parametrize(
    ("first", "classes", "total"), [(24, 10, 1_059_298), (16, 10, 1_019_722), (24, 100, 1_100_428)]
)
def test_parameters_are_those_of_the_tables(first, classes, total):
    """Huang et al. 2017 give 1.0 M for DenseNet-40 (k = 12), whose first convolution has 16 channels."""
    with torch.device("meta"):
        found = parameters(densenet40(classes, first_channels=first))
    assert found == counted(first, classes) == total


def test_channels_after_each_block_are_those_of_table_1():
    net = densenet40(10).eval()
    with atlab.Taps(net, [f"block{n}" for n in range(1, 8)]) as taps, torch.no_grad():
        net(torch.zeros(1, 3, 32, 32))
        shapes = [tuple(taps[f"block{n}"].shape[1:]) for n in range(1, 8)]
    assert shapes == [(24, 32, 32), (168, 32, 32), (168, 16, 16), (312, 16, 16), (312, 8, 8), (456, 8, 8), (456,)]
    assert sum(name.startswith("conv") for name in net.tap_points) == 39
    assert net.tap_points["conv14"] == "stages.block3.2" and net.tap_points["conv2"] == "stages.block2.0.conv"


def test_values_are_those_of_a_plain_loop():
    torch.manual_seed(0)
    net = densenet40(4, width=1 / 4).double()
    for p in net.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    net.train()(torch.randn(8, 3, 16, 16, dtype=torch.float64))  # running statistics that are not 0 and 1
    net.eval().set_normalisation([[[0.1]], [[0.2]], [[0.3]]], 2.0)
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    w = net.state_dict()

    def norm_relu(y, name):
        mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        y = (y - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        return (y * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]).clamp_min(0)

    y = (x - torch.tensor([0.1, 0.2, 0.3]).double()[:, None, None].float()) / 2
    y = nnf.conv2d(y, w["stages.block1.weight"], padding=1)
    for block in (2, 4, 6):
        for k in range(12):
            at = f"stages.block{block}.{k}"
            y = torch.cat([y, nnf.conv2d(norm_relu(y, f"{at}.norm"), w[f"{at}.conv.weight"], padding=1)], 1)
        if block < 6:
            y = nnf.conv2d(norm_relu(y, f"stages.block{block + 1}.0"), w[f"stages.block{block + 1}.2.weight"])
            y = y.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean((3, 5))
    y = norm_relu(y, "stages.block7.0").mean((2, 3))
    expected = y @ w["stages.output.weight"].T + w["stages.output.bias"]
    assert torch.allclose(net(x), expected, atol=1e-6)


def test_it_is_saved_and_loaded(tmp_path):
    net = densenet40(3, width=1 / 12, in_channels=1, dropout=0.1)
    net.set_normalisation(0.5, 0.25)
    again = atlab.models.load(atlab.models.save(net, tmp_path / "net.safetensors"))
    x = torch.rand(2, 1, 12, 20)
    assert torch.equal(again(x), net.eval()(x)) and again.arguments == net.arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes must be a whole number of at least 1, found 0"),
        ({"num_classes": 2, "width": 0}, "width must be above 0"),
        ({"num_classes": 2, "in_channels": 1.5}, "in_channels must be a whole number"),
        ({"num_classes": 2, "dropout": 1}, "dropout must be at least 0 and below 1"),
        ({"num_classes": 2, "first_channels": True}, "first_channels must be a whole number"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, message):
    with pytest.raises(AtlabError, match=message):
        densenet40(**arguments)


def test_a_network_must_say_which_inputs_it_takes():
    with pytest.raises(AtlabError, match="Normalised does not say which inputs it takes: define check_input"):
        Normalised().normalise(torch.zeros(1))


def test_inputs_and_normalisations_of_other_shapes_are_refused():
    net = densenet40(2, width=1 / 12)
    with pytest.raises(AtlabError, match=r"densenet40 takes \[B, 3, H, W\].* found \[1, 1, 32, 32\]"):
        net(torch.zeros(1, 1, 32, 32))
    with pytest.raises(AtlabError, match="of at least 8"):
        net(torch.zeros(1, 3, 32, 7))
    with pytest.raises(AtlabError, match="finite mean and a positive standard deviation"):
        net.set_normalisation(0.0, [[[1.0]], [[0.0]], [[1.0]]])
    with pytest.raises(AtlabError, match=r"the mean has shape \[3\]; allowed: a number or \[3, 1, 1\]"):
        net.set_normalisation([0.0, 0.0, 0.0], 1.0)
