"""Axes of a layer's output: recognised where its kind or its weights tell, an error where they do not."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

import atlab
from atlab.errors import AtlabError
from atlab.functional.axes import Axes, recognise, to_maps


def outputs(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """What every module of the model returns for x, of three axes or more."""
    found: dict[str, torch.Tensor] = {}

    def keep(name):
        def hook(module, inputs, output):
            found[name] = output[0] if isinstance(output, tuple) else output

        return hook

    for name, module in model.named_modules():
        module.register_forward_hook(keep(name))
    with torch.no_grad():
        model.eval()(x)
    found.pop("", None)
    return {name: out for name, out in found.items() if out.ndim > 2}


NETWORKS = {
    "vgg16": lambda: (atlab.models.vgg16(3, width=1 / 16), (2, 1, 32, 32)),
    "alexnet": lambda: (atlab.models.alexnet(3, width=1 / 8), (2, 3, 64, 64)),
    "densenet40": lambda: (atlab.models.densenet40(3), (2, 3, 32, 32)),
    "resnet18": lambda: (torchvision.models.resnet18(), (1, 3, 64, 64)),
    "densenet121": lambda: (torchvision.models.densenet121(), (1, 3, 128, 128)),
    "mobilenet_v3_small": lambda: (torchvision.models.mobilenet_v3_small(), (1, 3, 64, 64)),
    "shufflenet": lambda: (torchvision.models.shufflenet_v2_x0_5(), (1, 3, 64, 64)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_of_a_convolutional_network_has_its_channels_at_axis_1(name):
    model, shape = NETWORKS[name]()
    found = outputs(model, torch.randn(shape))
    assert len(found) > 10
    for path, out in found.items():
        assert recognise(model, path, out) == (0, 1), path


def test_vision_transformers_have_them_last_and_their_patches_first():
    vit = torchvision.models.VisionTransformer(32, 8, 2, 2, 24, 48)
    for path, out in outputs(vit, torch.randn(2, 3, 32, 32)).items():
        assert recognise(vit, path, out) == ((0, 1) if path == "conv_proj" else (0, -1)), path
    swin = torchvision.models.swin_t()
    for path, out in outputs(swin, torch.randn(1, 3, 64, 64)).items():
        first = path in ("features.0.0", "permute", "avgpool")
        assert recognise(swin, path, out) == ((0, 1) if first else (0, -1)), path


def test_convnext_changes_its_axes_inside_a_block():
    net = torchvision.models.convnext_tiny()
    for path, out in outputs(net, torch.randn(1, 3, 64, 64)).items():
        assert out.shape[recognise(net, path, out).channel] in (96, 192, 384, 768, 1536, 3072), path


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_know_where_their_clips_are(make, batch_first):
    net = nn.Sequential(make(3, 8, batch_first=batch_first))
    assert recognise(net, "0", torch.zeros(5, 7, 8)) == Axes(0 if batch_first else 1, -1)


@pytest.mark.parametrize("batch_first", [True, False])
def test_parts_of_a_transformer_layer_have_its_axes(batch_first):
    net = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first), 2)
    net = nn.Sequential(net)
    for path, width in (("0", 8), ("0.layers.1", 8), ("0.layers.0.linear1", 16), ("0.layers.0.norm1", 8)):
        assert recognise(net, path, torch.zeros(5, 7, width)) == Axes(0 if batch_first else 1, -1), path


def test_a_layer_of_a_sequence_first_network_whose_batch_axis_is_open_asks_for_it():
    net = nn.Sequential(nn.Linear(3, 5), nn.LSTM(5, 8))
    with pytest.raises(AtlabError, match="batch_first=False, .* name it, batch_dim=0 or batch_dim=1"):
        recognise(net, "0", torch.zeros(7, 2, 5))
    assert recognise(net, "0", torch.zeros(7, 2, 5), batch_dim=1) == (1, -1)


class Mystery(nn.Module):
    """Nothing about it tells where its channels are."""

    def forward(self, x):
        return x.flatten(2)


@pytest.mark.parametrize("shape", [(2, 6, 9), (2, 9, 9), (2, 6, 7, 6)])
def test_what_cannot_be_told_is_an_error_that_says_how_to_name_it(shape):
    net = nn.Sequential(nn.Linear(6, 6), Mystery()) if len(shape) > 3 else nn.Sequential(nn.Identity(), Mystery())
    with pytest.raises(AtlabError, match=r"layer '1' \(Mystery\) .* channel_dim=1 for \[B, C, ...\] or channel_dim=-1"):
        recognise(net, "1", torch.zeros(shape))
    assert recognise(net, "1", torch.zeros(shape), channel_dim=-1) == (0, -1)


def test_four_axes_of_a_network_without_weights_are_those_of_pictures():
    assert recognise(nn.Sequential(nn.Identity()), "0", torch.zeros(2, 6, 6, 6)) == (0, 1)


def test_equal_sizes_do_not_make_a_guess():
    """A block that convolves and projects: its weights tell, unless both axes have a width of theirs."""
    net = nn.Sequential()
    net.add_module("block", type("Block", (nn.Module,), {})())
    net.block.conv, net.block.linear = nn.Conv1d(4, 12, 3), nn.Linear(12, 12)
    assert recognise(net, "block", torch.zeros(2, 12, 30)) == (0, 1)
    assert recognise(net, "block", torch.zeros(2, 30, 12)) == (0, -1)
    with pytest.raises(AtlabError, match="name it"):
        recognise(net, "block", torch.zeros(2, 12, 12))


def test_named_axes_are_checked():
    net, out = nn.Sequential(nn.Conv2d(1, 2, 3)), torch.zeros(3, 2, 5, 5)
    with pytest.raises(
        AtlabError, match=r"channel_dim=4 is not an axis of the output of '0', whose shape is \(3, 2, 5, 5\)"
    ):
        recognise(net, "0", out, channel_dim=4)
    with pytest.raises(AtlabError, match="axis 0 cannot hold both"):
        recognise(net, "0", out, channel_dim=0)


def test_maps_are_views_with_clips_first_and_channels_second():
    x = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert to_maps(x, Axes()) is x
    last = to_maps(x, Axes(0, -1))
    assert last.shape == (2, 5, 3, 4) and last[1, 2, 0, 3] == x[1, 0, 3, 2] and last.data_ptr() == x.data_ptr()
    assert to_maps(x[0], Axes(1, -1)).shape == (4, 5, 3)


class Permuting(nn.Module):
    """A block of a user who keeps channels last: nothing in its modules shows that."""

    def __init__(self, taken: int, given: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(taken, given, 3, padding=1)

    def forward(self, x):
        return self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@pytest.mark.parametrize(("taken", "height", "width"), [(3, 16, 16), (8, 16, 20), (8, 8, 8), (3, 20, 30)])
def test_a_block_that_may_have_permuted_its_channels_is_never_read_the_wrong_way(taken, height, width):
    net = nn.Sequential(Permuting(taken, 16), nn.ReLU())
    out = net(torch.randn(2, height, width, taken))
    for path in ("0", "1"):
        assert recognise(net, path, out, channel_dim=-1) == (0, -1)
        if height == 20:  # only the last axis is as long as anything of the network is wide
            assert recognise(net, path, out) == (0, -1), path
        else:
            with pytest.raises(AtlabError, match=r"channel_dim=-1 for \[B, ..., C\], in atlab.Teacher"):
                recognise(net, path, out)


def test_convention_tells_where_sizes_are_equal():
    row = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
    for path in ("0", "1", "2"):
        assert recognise(row, path, torch.zeros(2, 16, 16, 16)) == (0, 1)
    resnet = torchvision.models.resnet18()
    for path in ("layer1.0", "layer1.0.relu", "layer1"):
        assert recognise(resnet, path, torch.zeros(1, 64, 64, 64)) == (0, 1), path
    vgg = atlab.models.vgg16(3, width=1 / 4)
    assert recognise(vgg, dict(vgg.tap_points)["conv1"], torch.zeros(2, 16, 16, 16)) == (0, 1)
