"""Eq. 4 and the counts of operations against networks that are built and passes that are counted."""

from __future__ import annotations

import pytest
import torch
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


def test_layers_are_those_of_the_network(network):
    layers = cost.vgg16_layers(WIDTH, SHAPE)
    with atlab.Taps(network, list(layers)) as taps, torch.no_grad():
        network(torch.randn(2, *SHAPE))
        for name, layer in layers.items():
            assert tuple(taps[name].shape) == (2, layer.channels, layer.height, layer.width)
    convolutions = sum(parameter.numel() for parameter in network.features.parameters())
    assert sum(layer.parameters for layer in layers.values()) == convolutions
    assert cost.network_parameters(WIDTH) == sum(parameter.numel() for parameter in network.parameters())


def test_operations_of_a_step_are_those_that_torch_counts(network):
    x, y = torch.randn(3, *SHAPE), torch.tensor([0, 1, 2])
    with FlopCounterMode(display=False) as counter:
        torch.nn.functional.cross_entropy(network(x), y).backward()
    assert cost.step_flops(WIDTH, 3, SHAPE) == counter.get_total_flops()


@pytest.mark.parametrize("layer", ["conv2", "conv5", "conv9"])
def test_operations_of_anti_transfer_are_those_that_torch_counts(network, layer):
    at = atlab.AntiTransferLoss(network, atlab.Teacher(atlab.models.vgg16(4, WIDTH), layer))
    x, y = torch.randn(3, *SHAPE), torch.tensor([0, 1, 2])
    with FlopCounterMode(display=False) as counter:
        (torch.nn.functional.cross_entropy(network(x), y) + at(x)).backward()
    at.close()
    added = counter.get_total_flops() - cost.step_flops(WIDTH, 3, SHAPE)
    assert cost.at_flops(layer, width=WIDTH, batch=3, shape=SHAPE) == added


def test_equation_four_is_its_terms(network):
    at = cost.at_memory(["conv1", "conv5"], width=WIDTH, batch=3, shape=SHAPE)
    with atlab.Taps(network, ["conv1", "conv5"]) as taps, torch.no_grad():
        network(torch.randn(3, *SHAPE))
        maps = [taps[name] for name in ("conv1", "conv5")]
        grams = [torch.einsum("bchw,bdhw->bcd", m, m) for m in maps]
    size = lambda tensors: sum(t.numel() * t.element_size() for t in tensors)  # noqa: E731
    assert at.features == 2 * size(maps) and at.grams == 2 * size(grams)
    assert at.teacher == size(network.features.parameters()) and at.total == at.features + at.grams + at.teacher
    twice = cost.at_memory(["conv1", "conv5"], width=WIDTH, batch=3, shape=SHAPE, teachers=2)
    cached = cost.at_memory(["conv1", "conv5"], width=WIDTH, batch=3, shape=SHAPE, cached=True)
    assert twice.total == 2 * at.total and (cached.teacher, cached.features) == (0, at.features // 2)
    published = cost.at_memory("conv5", width=WIDTH, batch=3, shape=SHAPE, published=True)
    one = torch.cat([maps[1][clip] for clip in range(3)]).flatten(1)
    assert published.grams == 2 * size([one @ one.T])


def test_predictions_hold_all_layers_and_ratios_of_operations():
    table = cost.predict(width=WIDTH, batch=3, shape=SHAPE).set_index("layer")
    assert (
        list(table.index) == [f"conv{n}" for n in range(1, 14)] and (table["cached_ratio"] < table["live_ratio"]).all()
    )
    row = table.loc["conv7"]
    assert row["live_ratio"] == pytest.approx(
        1 + cost.at_flops("conv7", width=WIDTH, batch=3, shape=SHAPE) / cost.step_flops(WIDTH, 3, SHAPE)
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
        (lambda: cost.at_memory("conv14"), "conv14"),
        (lambda: cost.at_memory(batch=0), "batch and teachers are at least 1"),
        (lambda: cost.vgg16_layers(0), "width must be above 0"),
        (lambda: cost.vgg16_layers(1, (1, 16, 64)), "at least 32"),
        (lambda: steps.measure(["conv55"]), "conv55"),
        (lambda: steps.measure(["conv5"], repeats=0), "batch and repeats"),
    ],
)
def test_bad_sizes_are_named(call, message):
    with pytest.raises(AtlabError, match=message):
        call()
