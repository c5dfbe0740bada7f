"""Taps: the right tensor of the right layer, once, and nothing left behind."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from atlab.errors import AtlabError
from atlab.taps import Taps


def small_net(inplace: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(inplace=inplace),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(inplace=inplace),
    )


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_a_layer_before_an_in_place_relu_is_not_overwritten():
    net, x = small_net(), torch.randn(2, 1, 8, 8)
    with Taps(net, ["0", "1"]) as taps:
        net(x)
        before, after = taps["0"], taps["1"]
    assert before.min() < 0
    assert torch.equal(before, net[0](x)) and torch.equal(after, before.relu())


def test_gradient_through_a_tap_equals_the_gradient_of_the_truncated_network():
    net, x = small_net(), torch.randn(2, 1, 8, 8)
    with Taps(net, "1") as taps:
        net(x)
        taps["1"].square().sum().backward()
    got = net[0].weight.grad.clone()
    net.zero_grad()
    net[1](net[0](x)).square().sum().backward()
    assert torch.allclose(got, net[0].weight.grad)


def test_tapping_does_not_change_the_output_or_its_gradient():
    net, x = small_net(), torch.randn(2, 1, 8, 8)
    net(x).sum().backward()
    plain, gradient = net(x), net[0].weight.grad.clone()
    net.zero_grad()
    with Taps(net, ["0", "1", "2", "4"]):
        tapped = net(x)
        tapped.sum().backward()
    assert torch.equal(plain, tapped) and torch.equal(gradient, net[0].weight.grad)


def test_no_hook_is_left_after_close_or_exit_or_collection():
    net = small_net()
    with Taps(net, ["0", "3"]):
        assert hooks(net) == 2 + 2  # and where the forward pass begins and ends
    assert hooks(net) == 0
    taps = Taps(net, "0")
    taps.close()
    taps.close()
    assert hooks(net) == 0
    taps = Taps(net, "0")
    del taps
    gc.collect()
    assert hooks(net) == 0


def test_hooks_are_removed_when_the_forward_fails():
    net = small_net()
    with pytest.raises(RuntimeError), Taps(net, "0"):
        net(torch.randn(2, 3, 8, 8))
    assert hooks(net) == 0


def test_popping_forgets_so_that_no_graph_outlives_the_step():
    net = small_net()
    taps = Taps(net, "1")
    net(torch.randn(2, 1, 8, 8))
    assert taps.pop("1").shape == (2, 4, 8, 8)
    with pytest.raises(AtlabError, match="layer '1' has no activation: run the model's forward pass first"):
        taps["1"]


def test_the_last_call_of_a_shared_module_counts_and_tuples_give_their_first_tensor():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.Tanh()
            self.rnn = nn.GRU(3, 5, batch_first=True)

        def forward(self, x):
            return self.rnn(self.act(self.act(x)))

    net, x = Shared(), torch.randn(2, 7, 3)
    with Taps(net, ["act", "rnn"], channel_dim=-1) as taps:
        out, _ = net(x)
        assert torch.equal(taps["act"], x.tanh().tanh().mT) and torch.equal(taps["rnn"], out.mT)


def test_overwriting_after_an_in_place_module_is_noticed():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Hardtanh(inplace=True))
    with Taps(net, "1") as taps:
        net(torch.randn(1, 1, 5, 5))
        with pytest.raises(AtlabError, match="overwritten in place by a later module"):
            taps["1"]


def test_wrapped_models_are_looked_through():
    net = small_net()
    for wrapped in (nn.DataParallel(net), torch.compile(net, backend="eager")):
        with Taps(wrapped, "1") as taps:
            wrapped(torch.randn(2, 1, 8, 8))
            assert taps["1"].shape == (2, 4, 8, 8)
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("layers", "message"),
    [("conv1", "unknown layer 'conv1'; allowed: 0, 1, 2, 3, 4"), ("", "unknown layer ''"), ([], "name at least one")],
)
def test_bad_layers_are_named(layers, message):
    with pytest.raises(AtlabError, match=message):
        Taps(small_net(), layers)


def test_reading_another_layer_than_the_tapped_ones():
    with Taps(small_net(), "1") as taps, pytest.raises(AtlabError, match="unknown tapped layer '3'; allowed: 1"):
        taps["3"]


def test_a_layer_that_returns_no_tensor_is_named():
    class Text(nn.Module):
        def forward(self, x):
            return "x"

    net = nn.Sequential(Text())
    with Taps(net, "0"), pytest.raises(AtlabError, match=r"layer '0' \(Text\) returns str, not a tensor"):
        net(torch.zeros(1))
