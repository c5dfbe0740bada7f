"""Models A and B: parameters counted from the supplement's tables, stages, values of one layer, files."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as nnf

import atlab
from atlab.errors import AtlabError
from atlab.models import fayek_a, fayek_b


def parameters(model) -> int:
    return sum(p.numel() for p in model.parameters())


def test_parameters_are_those_of_the_tables():
    """Convolutions and hidden layers have a BatchNorm (2 a channel) instead of a bias; 40 x 15 inputs."""
    a = 64 * 20 + 128 + 64 * 128 * 9 + 256 + 128 * 10 * 3 * 1024 + 2048 + 2 * (1024 * 1024 + 2048) + 1025 * 144
    convolutions = [(1, 64, 30), (64, 64, 9), (64, 128, 9), (128, 128, 9), (128, 256, 9), *[(256, 256, 9)] * 5]
    b = (
        sum(i * o * k + 2 * o for i, o, k in convolutions)
        + 256 * 10 * 3 * 1024
        + 2048
        + 1024 * 1024
        + 2048
        + 1025 * 144
    )
    with torch.device("meta"):
        assert parameters(fayek_a(144)) == a == 6_258_448
        assert parameters(fayek_b(144)) == b == 12_572_432


@pytest.mark.parametrize(("build", "layers"), [(fayek_a, 5), (fayek_b, 12)])
def test_stages_are_the_layers(build, layers):
    net = build(4, width=1 / 16)
    names = [name for name, _ in net.stages.named_children()]
    assert names == [f"layer{n}" for n in range(1, layers + 1)] + ["output"]
    with atlab.Taps(net, list(net.tap_points)) as taps:
        assert net(torch.zeros(3, 1, 40, 15)).shape == (3, 4)
        assert tuple(taps["layer1"].shape) == (3, 4, 40, 15) and tuple(taps[f"layer{layers}"].shape) == (3, 64)


def test_the_first_layer_computes_what_the_table_says():
    torch.manual_seed(0)
    net = fayek_a(4, width=1 / 16).eval()
    net.set_normalisation(torch.linspace(-1, 1, 40)[:, None], torch.linspace(1, 2, 40)[:, None])
    x = torch.randn(2, 1, 40, 15)
    with atlab.Taps(net, "layer1") as taps:
        net(x)
        found = taps["layer1"]
    y = (x - torch.linspace(-1, 1, 40)[:, None]) / torch.linspace(1, 2, 40)[:, None]
    y = nnf.conv2d(nnf.pad(y, (1, 2, 2, 2)), net.stages.layer1[1].weight)
    assert net.stages.layer1[1].weight.shape == (4, 1, 5, 4), "five coefficients by four frames"
    assert torch.allclose(found, (y / (1 + 1e-5) ** 0.5).clamp_min(0), atol=1e-6)


@pytest.mark.parametrize("build", [fayek_a, fayek_b])
def test_they_are_saved_and_loaded(build, tmp_path):
    net = build(5, width=1 / 32, coefficients=24, context=9)
    net.train()(torch.randn(8, 1, 24, 9))
    again = atlab.models.load(atlab.models.save(net, tmp_path / "net.safetensors"))
    x = torch.randn(2, 1, 24, 9)
    assert torch.equal(again(x), net.eval()(x)) and again.architecture == net.architecture


def test_what_does_not_fit_is_refused():
    with pytest.raises(AtlabError, match="context must be a whole number of at least 4, found 3"):
        fayek_a(4, context=3)
    with pytest.raises(AtlabError, match=r"fayek_b takes \[B, 1, 40, 15\], found \[2, 1, 15, 40\]"):
        fayek_b(4, width=1 / 32)(torch.zeros(2, 1, 15, 40))
