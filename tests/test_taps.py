"""Taps: the right tensor of the right layer, once, and nothing left behind."""

from __future__ import annotations

import copy
import gc
import io
import pickle

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

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


def test_closed_taps_say_so():
    net, x = small_net(), torch.randn(2, 1, 8, 8)
    taps = Taps(net, "1")
    taps.close()
    net(x)
    with pytest.raises(AtlabError, match="its taps were closed; make new ones"):
        taps["1"]


def test_popping_forgets_so_that_no_graph_outlives_the_step():
    net = small_net()
    taps = Taps(net, "1")
    net(torch.randn(2, 1, 8, 8))
    assert taps.pop("1").shape == (2, 4, 8, 8)
    with pytest.raises(AtlabError, match="layer '1' has no activation: the latest forward pass was used already"):
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


# ---------------------------------------------------------------- which forward pass it was


def batch(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "between",
    [lambda net: net(batch(1)), lambda net: net(0.5 * batch() + 0.5 * batch(1)), lambda net: net.eval()(batch(2))],
)
def test_a_forward_in_between_with_the_same_batch_size_is_noticed(between):
    net, x = small_net(), batch()
    with Taps(net, "1") as taps:
        net(x)
        between(net)
        with pytest.raises(AtlabError, match="was on another input"):
            taps.take(x)
        net(x)
        assert taps.take(x)["1"].shape == (2, 4, 8, 8)


def test_the_same_input_is_known_by_identity_or_by_value():
    net, x = small_net(), batch()
    with Taps(net, "1") as taps:
        for given in (x, x.clone(), x.double(), {"x": x}, [x, torch.zeros(1)]):
            net(x)
            taps.take(given)
        net(x)
        with pytest.raises(AtlabError, match="expected the input that the model was given"):
            taps.take(None)


def test_an_input_changed_in_place_after_the_forward_is_noticed():
    net, x = small_net(), batch()
    with Taps(net, "1") as taps:
        net(x)
        x += 1
        with pytest.raises(AtlabError, match="changed in place since its forward pass"):
            taps.take(x)


def test_evaluation_without_gradient_in_between_is_noticed_unless_nothing_trains():
    net, x = small_net(), batch()
    with Taps(net, "1") as taps:
        with torch.no_grad():
            net(x)
            assert not taps.take(x)["1"].requires_grad
            net(x)
        with pytest.raises(AtlabError, match="layer '1' was computed without gradient"):
            taps.take(x)
        net.requires_grad_(False)
        with torch.no_grad():
            net(x)
        assert taps.take(x)["1"].shape == (2, 4, 8, 8)


def test_what_runs_outside_the_models_forward_is_not_recorded():
    net, x = small_net(), batch()
    with Taps(net, "1") as taps:
        net[1](net[0](x))
        with pytest.raises(AtlabError, match="run the model's forward pass first, that of the whole model"):
            taps["1"]
        net(x)
        expected = taps["1"].clone()
        net[1](net[0](batch(1)))
        assert torch.equal(taps["1"], expected)


def test_a_layer_that_the_latest_forward_left_out_is_named():
    class Drops(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.drop = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3), False

        def forward(self, x):
            return self.first(x) if self.drop else self.second(self.first(x))

    net, x = Drops(), batch()
    with Taps(net, "second") as taps:
        net(x)
        net.drop = True
        net(x)
        with pytest.raises(AtlabError, match="latest forward pass did not run it \\(LayerDrop, a branch not taken\\)"):
            taps.take(x)


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.reentrant, self.first = reentrant, nn.Conv2d(1, 4, 3)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU())

    def forward(self, x):
        x = self.first(x)
        return self.block(x) if self.reentrant is None else checkpoint(self.block, x, use_reentrant=self.reentrant)


def test_checkpointing_without_reentry_gives_the_same_gradient_and_leaves_nothing_behind():
    gradients = []
    for reentrant in (None, False):
        net, x = Checkpointed(reentrant), batch()
        with Taps(net, "block") as taps:
            out = net(x)
            (out.sum() + taps.take(x)["block"].square().sum()).backward()
            with pytest.raises(AtlabError, match="was used already"):
                taps.take(x)
        gradients.append(net.first.weight.grad)
    assert gradients[0].abs().max() > 0 and torch.equal(*gradients)


def test_a_whole_model_run_again_in_the_backward_pass_is_not_a_forward_pass():
    net, x = Checkpointed(None), batch()
    with Taps(net, "block") as taps:
        out = checkpoint(net, x, use_reentrant=False)
        (out.sum() + taps.take(x)["block"].sum()).backward()
        with pytest.raises(AtlabError, match="was used already"):
            taps.take(x)


def test_reentrant_checkpointing_is_an_error_that_names_the_other_kind():
    net, x = Checkpointed(True), batch()
    with Taps(net, "block") as taps:
        net(x)
        with pytest.raises(AtlabError, match="without gradient .* checkpoint with use_reentrant=False"):
            taps.take(x)


def test_a_copy_of_a_tapped_network_records_nothing_and_holds_no_activation():
    net, x = small_net(), batch()
    with Taps(net, "1") as taps:
        net(x)
        file = io.BytesIO()
        torch.save(net, file)
        small = len(pickle.dumps(small_net()))
        assert len(pickle.dumps(net)) < small + 2000
        file.seek(0)
        for other in (copy.deepcopy(net), torch.load(file, weights_only=False)):
            assert torch.equal(other(batch(1)), net[:](batch(1)))
        assert taps.take(x)["1"].shape == (2, 4, 8, 8)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_taps_copied_with_their_network_tap_the_copy(again):
    net, x = small_net(), batch()
    taps = Taps(net, "1")
    net(x)
    other, others = again((net, taps))
    other(x)
    assert others.model is other and torch.equal(others.take(x)["1"], taps.take(x)["1"])
    assert hooks(other) == hooks(net)
    others.close()
    assert hooks(other) == 0


def test_a_network_tapped_after_its_first_compiled_call_is_an_error():
    torch._dynamo.reset()
    net, x = small_net(), batch()
    compiled = torch.compile(net, backend="eager")
    compiled(x)
    with Taps(compiled, "1") as taps:
        compiled(x)
        with pytest.raises(AtlabError, match="a model that was compiled before it was tapped records nothing"):
            taps.take(x)
    torch._dynamo.reset()


def test_a_packed_sequence_is_refused():
    net = nn.Sequential(nn.LSTM(3, 4, batch_first=True))
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(2, 5, 3), [5, 3], batch_first=True)
    with Taps(net, "0"), pytest.raises(AtlabError, match=r"layer '0' \(LSTM\) returns PackedSequence, not a tensor"):
        net(packed)
