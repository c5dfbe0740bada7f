"""Grad-CAM against its formula, and the model left as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf

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
