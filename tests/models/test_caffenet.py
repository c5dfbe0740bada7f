"""Caffe's reference network: parameters counted by hand, values by plain formulas, its start, files, errors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

import atlab
from atlab.errors import AtlabError
from atlab.models import caffenet
from atlab.transfer import layers


def test_parameters_are_those_of_the_published_file():
    """Channels of the input are halved by two groups; 6 x 6 positions of 256 channels enter the first linear map."""
    convolutions = [(96, 3, 11), (256, 96 // 2, 5), (384, 256, 3), (384, 384 // 2, 3), (256, 384 // 2, 3)]
    linear = [(4096, 256 * 36), (4096, 4096), (1000, 4096)]
    counted = sum(o * i * k * k + o for o, i, k in convolutions) + sum(o * i + o for o, i in linear)
    with torch.device("meta"):
        found = sum(p.numel() for p in caffenet(1000).parameters())
    assert found == counted == 60_965_224


def normalised(x: torch.Tensor) -> torch.Tensor:
    """Local response normalisation by a loop: each channel over the five around it (Krizhevsky et al. 2012, section 3.3)."""
    out = torch.empty_like(x)
    for c in range(x.shape[1]):
        around = x[:, max(0, c - 2) : c + 3]
        out[:, c] = x[:, c] / (1 + 1e-4 / 5 * around.square().sum(1)) ** 0.75
    return out


def test_values_are_those_of_plain_formulas():
    torch.manual_seed(0)
    net = caffenet(3, width=1 / 16).double().eval()
    for parameter in net.parameters():
        parameter.data.mul_(3)
    net.set_normalisation(0.4, 1 / 255)
    x = torch.rand(2, 3, 99, 83, dtype=torch.float64)
    w = dict(net.named_parameters())

    def convolution(y, name, groups, **options):
        weights, biases = w[f"{name}.weight"].chunk(groups), w[f"{name}.bias"].chunk(groups)
        parts = zip(y.chunk(groups, 1), weights, biases, strict=True)
        return torch.cat([nnf.conv2d(part, weight, bias, **options) for part, weight, bias in parts], 1).clamp_min(0)

    mean, std = net.input_mean.double(), net.input_std.double()
    y = normalised(nnf.max_pool2d(convolution((x - mean) / std, "features.0", 1, stride=4), 3, 2))
    assert (y - nnf.max_pool2d(convolution((x - mean) / std, "features.0", 1, stride=4), 3, 2)).abs().max() > 1e-3
    y = normalised(nnf.max_pool2d(convolution(y, "features.4", 2, padding=2), 3, 2))
    for name, groups in (("features.8", 1), ("features.10", 2), ("features.12", 2)):
        y = convolution(y, name, groups, padding=1)
    y = nnf.adaptive_avg_pool2d(nnf.max_pool2d(y, 3, 2), 6).flatten(1)
    for name in ("classifier.0", "classifier.3"):
        y = (y @ w[f"{name}.weight"].T + w[f"{name}.bias"]).clamp_min(0)
    assert torch.allclose(net(x), y @ w["classifier.6.weight"].T + w["classifier.6.bias"], rtol=1e-9)


def test_layers_and_sizes_are_caffes():
    net = caffenet(2, width=1 / 32).eval()
    assert list(layers(net)) == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
    with atlab.Taps(net, ["conv1", "conv2", "conv3", "conv4", "conv5"]) as taps, torch.no_grad():
        net(torch.zeros(1, 3, 227, 227))
        assert [taps[f"conv{n}"].shape[2] for n in range(1, 6)] == [55, 27, 13, 13, 13]
    assert net.features(torch.zeros(1, 3, 227, 227)).shape[2:] == (6, 6), "no average is taken at 227 x 227"
    for n in range(1, 6):
        assert isinstance(net.get_submodule(net.tap_points[f"conv{n}.pre"]), nn.Conv2d)


def test_weights_start_as_in_caffes_definition():
    torch.manual_seed(0)
    net = caffenet(5, width=1 / 4)
    maps = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert [float(m.bias.detach()[0]) for m in maps] == [0, 1, 0, 1, 1, 1, 1, 0]
    assert [float(m.weight.detach().std()) for m in maps] == pytest.approx([0.01] * 5 + [0.005, 0.005, 0.01], rel=0.05)


def test_it_is_saved_and_loaded(tmp_path):
    net = caffenet(2, width=1 / 64).eval()
    again = atlab.models.load(atlab.models.save(net, tmp_path / "model.safetensors"))
    x = torch.rand(1, 3, 67, 70)
    assert type(again).__name__ == "CaffeNet" and torch.equal(again(x), net(x))


def test_what_does_not_fit_is_refused():
    net = caffenet(2, width=1 / 64)
    with pytest.raises(AtlabError, match=r"caffenet takes \[B, 3, H, W\].*at least 67, found \[1, 3, 66, 67\]"):
        net(torch.zeros(1, 3, 66, 67))
    with pytest.raises(AtlabError, match="dropout must be at least 0 and below 1"):
        caffenet(2, dropout=1)
