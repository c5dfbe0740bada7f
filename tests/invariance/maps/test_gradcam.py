"""Grad-CAM against its formula, and the model left as it was."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from pytorch_grad_cam.utils.image import scale_cam_image
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

import atlab
from atlab.errors import AtlabError
from atlab.invariance.maps.gradcam import class_activation_map, map_agreement


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return atlab.models.vgg16(4, width=1 / 16)


def naive_gradcam(net, x, layer: str, target: int) -> np.ndarray:
    """Selvaraju et al. 2017, eq. 1-2: ReLU of the channels weighted by their mean gradients, resized, scaled."""
    net.eval()
    with atlab.Taps(net, layer) as taps:
        score = net(x)[:, target].sum()
        maps = taps[layer]
        (gradient,) = torch.autograd.grad(score, maps)
    heat = (gradient.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).relu()
    heat = heat / heat.amax((1, 2, 3), keepdim=True)
    return nnf.interpolate(heat, x.shape[2:], mode="bilinear")[:, 0].detach().numpy()


def test_maps_follow_the_formula(net):
    x = torch.rand(2, 1, 64, 48)
    got = class_activation_map(net, x, "conv5", target=2)
    want = naive_gradcam(net, x, "conv5", 2)
    assert got.shape == (2, 64, 48) and got.max() <= 1 and got.min() >= 0
    # The library resizes before it scales, and by another bilinear rule at the border.
    assert map_agreement(got, want).min() > 0.98


def at_input_size(heat: torch.Tensor, x: torch.Tensor) -> np.ndarray:
    """[B, h, w] without negative values -> [B, H, W] in [0, 1], resized as the library does."""
    maps = np.stack([scale_cam_image(h[None].numpy(), x.shape[:1:-1])[0] for h in heat.clamp_min(0)])
    return maps / maps.max((1, 2), keepdims=True)


def explicit_gradcam(parts: tuple[nn.Module, nn.Module], x: torch.Tensor, target: int) -> torch.Tensor:
    """Eq. 1-2 with the network cut in two by hand: nothing hooks, and nothing writes into the maps."""
    first, rest = parts
    with torch.no_grad():
        maps = first(x)
    fed = maps.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(rest(fed.clone())[:, target].sum(), fed)
    return torch.stack(
        [sum(g.mean() * m for g, m in zip(*clip, strict=True)) for clip in zip(gradient, maps, strict=True)]
    )


@pytest.mark.parametrize("layer", ["conv13.pre", "conv13", "conv2.pre"])
def test_maps_of_a_layer_before_an_in_place_operation_are_those_of_explicit_gradients(net, layer):
    x, net = torch.rand(2, 1, 64, 48), net.eval()
    cut = int(net.tap_points[layer].removeprefix("features.")) + 1
    first = nn.Sequential(_Scaled(net), *net.features[:cut])
    rest = nn.Sequential(*net.features[cut:], net.avgpool, nn.Flatten(), net.classifier)
    want = at_input_size(explicit_gradcam((first, rest), x, 1), x)
    assert np.abs(class_activation_map(net, x, layer, target=1) - want).max() < 1e-3


class _Scaled(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.mean, self.std = net.input_mean, net.input_std

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / self.std


@pytest.mark.parametrize("layer", ["features.28", "features.0", "features.29"])
def test_maps_of_torchvisions_vgg_are_captums(layer):
    attr = pytest.importorskip("captum.attr", reason="captum, the reference, is not installed")
    torch.manual_seed(0)
    net = nn.Sequential()  # torchvision's modules and their in-place activations, at a sixteenth of the width
    net.features = make_layers([c if c == "M" else c // 16 for c in cfgs["D"]], batch_norm=False)
    net.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 4))
    x, target = torch.rand(2, 3, 64, 48), 3
    plain = copy.deepcopy(net)  # captum, too, would read what the in-place activations have written
    for module in plain.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    captums = attr.LayerGradCam(plain, plain.get_submodule(layer))
    want = at_input_size(captums.attribute(x, target).detach()[:, 0], x)
    assert np.abs(class_activation_map(net, x, layer, target=target) - want).max() < 1e-3


def test_a_batch_equals_single_clips_and_the_default_target_is_the_prediction(net):
    x = torch.rand(3, 1, 40, 40)
    with torch.no_grad():
        predicted = net.eval()(x).argmax(1).tolist()
    maps = class_activation_map(net, x, "conv3")
    for i, k in enumerate(predicted):
        assert np.allclose(maps[i], class_activation_map(net, x[i : i + 1], "conv3", target=k)[0], atol=1e-5)


def test_the_model_is_left_as_it_was_even_when_frozen(net):
    x = torch.rand(1, 1, 32, 32)
    net.train()
    net.features[0].weight.requires_grad_(False)
    class_activation_map(net, x, "conv1")
    assert net.training and not net.features[0].weight.requires_grad and net.features[2].weight.requires_grad
    assert all(p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks for m in net.modules())
    net.features[0].weight.requires_grad_(True)


def test_bad_input(net):
    x = torch.rand(2, 1, 32, 32)
    with pytest.raises(AtlabError, match="unknown map method 'gradcam'; nearest: 'GradCAM'"):
        class_activation_map(net, x, "conv1", method="gradcam")
    with pytest.raises(AtlabError, match="unknown layer 'conv14'"):
        class_activation_map(net, x, "conv14")
    with pytest.raises(AtlabError, match="3 target classes for 2 clips"):
        class_activation_map(net, x, "conv1", target=[0, 1, 2])
    with pytest.raises(AtlabError, match="same clips and size"):
        map_agreement(np.zeros((1, 2, 2)), np.zeros((2, 2, 2)))


def test_agreement_is_the_correlation():
    a, b = np.random.default_rng(0).random((2, 3, 5, 5))
    want = [np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(a, b, strict=True)]
    assert np.allclose(map_agreement(a, b), want)
