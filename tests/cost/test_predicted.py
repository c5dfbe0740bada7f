"""Eq. 4 and the counts of operations against counts by hand, networks that are built and passes that are taken."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import atlab
from atlab import cost
from atlab.cost import measured as steps
from atlab.errors import AtlabError

SHAPE = (1, 64, 70)
WIDTH = 1 / 16


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return atlab.models.vgg16(10, WIDTH)


def small(maps: int = 4) -> nn.Module:
    """8 x 8 inputs, `maps` channels of 8 x 8, and 3 classes."""
    return nn.Sequential(nn.Conv2d(1, maps, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * maps, 3))


def test_operations_of_a_small_network_are_those_counted_by_hand():
    convolution = 2 * 9 * 1 * 4 * 64  # multiply-adds: 9 weights, 1 channel in, 4 out, 64 positions
    dense = 2 * 256 * 3
    # Forward; the gradient of the weights; that of the dense layer's input, but not of the network's.
    assert cost.step_flops(small(), batch=5, shape=(1, 8, 8)) == 5 * (2 * convolution + 3 * dense)
    gram = 2 * 4 * 4 * 64
    live = cost.at_flops(small(), "0", batch=5, shape=(1, 8, 8))
    assert live == 5 * (convolution + 3 * gram)  # the teacher, both Gram matrices, the student's gradient
    assert cost.at_flops(small(), "1", batch=5, shape=(1, 8, 8), cached=True) == 5 * 2 * gram


def test_operations_where_positions_are_compared_instead_are_those_counted_by_hand():
    # 200 channels of 64 positions: products of positions, 64 x 64, cost less than Gram matrices, 200 x 200.
    product = 2 * 64 * 64 * 200
    live, cached = (cost.at_flops(small(200), "0", batch=2, shape=(1, 8, 8), cached=c) for c in (False, True))
    assert cached == 2 * 5 * product  # <s, t>, <s, s>, <t, t>, and two gradients of the student
    assert live == cached + 2 * 2 * 9 * 200 * 64


def test_the_network_is_left_as_it_was(network):
    with atlab.Taps(network, "conv5") as taps:
        cost.predict(network, ["conv5"], batch=2, shape=SHAPE)
        with pytest.raises(AtlabError, match="no activation"):
            taps["conv5"]
    assert all(p.device.type == "cpu" and p.grad is None for p in network.parameters())


def test_other_networks_are_counted_too():
    densenet = atlab.models.densenet40(10)
    with FlopCounterMode(display=False) as counter:
        densenet(torch.randn(2, 3, 32, 32)).sum().backward()
    assert cost.step_flops(densenet, batch=2, shape=(3, 32, 32)) == counter.get_total_flops()
    maps = cost.feature_maps(densenet, shape=(3, 32, 32))
    assert set(maps) == {n for n in densenet.tap_points if not n.endswith(".pre")} - {"block7"}  # a vector
    table = cost.predict(densenet, ["block2"], batch=1, shape=(3, 32, 32))
    assert table["channels"].item() == maps["block2"].channels and table["live_ratio"].item() > 1


def test_layers_are_those_of_the_network(network):
    layers = cost.feature_maps(network, shape=SHAPE)
    assert list(layers) == [f"conv{n}" for n in range(1, 14)]
    with atlab.Taps(network, list(layers)) as taps, torch.no_grad():
        network(torch.randn(2, *SHAPE))
        for name, (channels, positions) in layers.items():
            assert taps[name].flatten(2).shape == (2, channels, positions)


def test_operations_of_a_step_are_those_of_a_step_that_is_taken(network):
    x, y = torch.randn(3, *SHAPE), torch.tensor([0, 1, 2])
    with FlopCounterMode(display=False) as counter:
        torch.nn.functional.cross_entropy(network(x), y).backward()
    network.zero_grad(set_to_none=True)
    assert cost.step_flops(network, batch=3, shape=SHAPE) == counter.get_total_flops()


@pytest.mark.parametrize("layer", ["conv2", "conv5", "conv9"])
def test_operations_of_anti_transfer_are_those_of_a_step_that_is_taken(network, layer):
    at = atlab.AntiTransferLoss(network, atlab.Teacher(atlab.models.vgg16(4, WIDTH), layer))
    x, y = torch.randn(3, *SHAPE), torch.tensor([0, 1, 2])
    with FlopCounterMode(display=False) as counter:
        (torch.nn.functional.cross_entropy(network(x), y) + at(x)).backward()
    at.close()
    network.zero_grad(set_to_none=True)
    added = counter.get_total_flops() - cost.step_flops(network, batch=3, shape=SHAPE)
    assert cost.at_flops(network, layer, batch=3, shape=SHAPE) == added


def test_memory_of_a_step_is_an_upper_estimate_of_what_is_measured():
    measured = steps.measure(["conv2"], width=WIDTH, batch=4, shape=SHAPE, repeats=1)["plain_bytes"].item()
    predicted = cost.step_memory(cost.vgg16(WIDTH), batch=4, shape=SHAPE, networks=1)  # the teacher is made anyway
    assert measured < predicted < 1.6 * measured


def test_equation_four_is_its_terms(network):
    at = cost.at_memory(network, ["conv1", "conv5"], batch=3, shape=SHAPE)
    with atlab.Taps(network, ["conv1", "conv5"]) as taps, torch.no_grad():
        network(torch.randn(3, *SHAPE))
        maps = [taps[name] for name in ("conv1", "conv5")]
        grams = [torch.einsum("bchw,bdhw->bcd", m, m) for m in maps]
    size = lambda tensors: sum(t.numel() * t.element_size() for t in tensors)  # noqa: E731
    assert at.features == 2 * size(maps) and at.grams == 2 * size(grams)
    assert at.teacher == size(network.features.parameters()) and at.total == at.features + at.grams + at.teacher
    twice = cost.at_memory(network, ["conv1", "conv5"], batch=3, shape=SHAPE, teachers=2)
    cached = cost.at_memory(network, ["conv1", "conv5"], batch=3, shape=SHAPE, cached=True)
    assert twice.total == 2 * at.total and (cached.teacher, cached.features) == (0, at.features // 2)
    published = cost.at_memory(network, "conv5", batch=3, shape=SHAPE, published=True)
    one = torch.cat([maps[1][clip] for clip in range(3)]).flatten(1)
    assert published.grams == 2 * size([one @ one.T])


def predictions_hold_all_layers_and_ratios_of_operations(network):
    table = cost.predict(network, batch=3, shape=SHAPE).set_index("layer")
    assert (
        list(table.index) == [f"conv{n}" for n in range(1, 14)] and (table["cached_ratio"] < table["live_ratio"]).all()
    )
    row = table.loc["conv7"]
    assert row["live_ratio"] == pytest.approx(
        1 + cost.at_flops(network, "conv7", batch=3, shape=SHAPE) / cost.step_flops(network, batch=3, shape=SHAPE)
    )


def test_measured_steps_stand_beside_their_predictions():
    measured = steps.measure(["conv2"], width=WIDTH, batch=2, shape=SHAPE, repeats=2)
    table = steps.beside_prediction(measured, width=WIDTH, batch=2)
    assert table["layer"].tolist() == ["conv2"] and (table[["plain_ms", "live_ratio", "cached_ratio"]] > 0).all(
        axis=None
    )
    assert "conv2" in steps.findings(table)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cost.at_memory(cost.vgg16(), "conv14"), "conv14"),
        (lambda: cost.at_memory(cost.vgg16(), "conv1", batch=0), "batch and teachers must be at least 1"),
        (lambda: cost.vgg16(0), "width must be above 0"),
        (lambda: cost.feature_maps(cost.vgg16(), shape=(1, 16, 64)), "at least 32"),
        (lambda: cost.feature_maps(small(), "3", (1, 8, 8)), r"layer '3' gives \[1, 3\]"),
        (lambda: steps.measure(["conv55"]), "conv55"),
        (lambda: steps.measure(["conv5"], repeats=0), "batch and repeats"),
    ],
)
def test_bad_sizes_are_named(call, message):
    with pytest.raises(AtlabError, match=message):
        call()
