"""Stochastic gradient descent: updates by formulas, rates that drop, biases apart, settings that make no sense."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from atlab.data import InMemory
from atlab.errors import AtlabError
from atlab.training import Sgd, fit
from atlab.training.optimizers import OPTIMIZERS


def problem(seed: int = 0) -> tuple[nn.Module, InMemory]:
    torch.manual_seed(seed)
    x = torch.randn(20, 3, dtype=torch.float64).float()
    return nn.Sequential(nn.Linear(3, 2)), InMemory(x, torch.arange(20) % 2, batch_size=5)


def by_formulas(model: nn.Module, data: InMemory, epochs: int, first: float, sgd: Sgd) -> list[np.ndarray]:
    """Softmax regression in float64, step by step: the gradient in closed form, velocity v <- m v + g + d w."""
    w, b = (p.detach().double().numpy().copy() for p in model.parameters())
    velocities = [np.zeros_like(w), np.zeros_like(b)]
    step, steps = 0, 4 * epochs
    for _ in range(epochs):
        for x, y, _ in data.epoch(0):
            x, target = x.double().numpy(), np.eye(2)[y.numpy()]
            scores = np.exp(x @ w.T + b)
            error = (scores / scores.sum(1, keepdims=True) - target) / len(x)
            gradients = [error.T @ x + sgd.weight_decay * w, error.sum(0) + sgd.weight_decay * sgd.bias_decay * b]
            rate = first * 0.1 ** sum(step >= share * steps for share in sgd.drops)
            for k, (value, factor) in enumerate(((w, 1.0), (b, sgd.bias_rate))):
                velocities[k] = sgd.momentum * velocities[k] + gradients[k]
                ahead = gradients[k] + sgd.momentum * velocities[k] if sgd.nesterov else velocities[k]
                value -= rate * factor * ahead
            step += 1
    return [w, b]


@pytest.mark.parametrize(
    "sgd",
    [
        Sgd(momentum=0.0),
        Sgd(weight_decay=0.3),
        Sgd(nesterov=True, weight_decay=0.1, drops=(0.5, 0.75)),
        Sgd(weight_decay=0.2, bias_rate=2.0, bias_decay=0.0, drops=(0.25,)),
    ],
)
def test_updates_are_those_of_the_formulas(sgd):
    model, data = problem()
    expected = by_formulas(model, data, 2, 0.3, sgd)
    fit(model, data, data, epochs=2, patience=2, learning_rate=0.3, optimizer=sgd, progress=False, precision="fp32")
    for found, wanted in zip(model.parameters(), expected, strict=True):
        assert found.detach().numpy() == pytest.approx(wanted, abs=1e-5)


def test_published_schedules_drop_where_the_papers_say():
    caffe, dense = OPTIMIZERS["caffe"], OPTIMIZERS["densenet"]
    rates = [
        caffe.rate(step, 450_000, 0.01) for step in (0, 99_999, 100_000, 199_999, 200_000, 399_999, 400_000, 449_999)
    ]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-5, 1e-6, 1e-6])
    rates = [dense.rate(epoch * 704, 300 * 704, 0.1) for epoch in (0, 149, 150, 224, 225, 299)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_nothing_stops_early_where_the_rate_drops_and_the_last_weights_stay():
    """Validation labels are the wrong way round: its loss is lowest after the first epoch."""
    model, data = problem()
    wrong = InMemory(data.x, 1 - data.y, batch_size=5)
    history = fit(
        model, data, wrong, epochs=4, patience=1, learning_rate=0.5, optimizer=Sgd(drops=(0.5,)), progress=False
    )
    assert len(history) == 4 and history["validation_loss"].idxmin() == 0
    with torch.no_grad():
        last = nn.functional.cross_entropy(model(wrong.x), wrong.y).item()
    assert last == pytest.approx(history["validation_loss"].iloc[-1], rel=1e-3)
    stopped = fit(problem()[0], data, wrong, epochs=4, patience=1, learning_rate=0.5, optimizer=Sgd(), progress=False)
    assert len(stopped) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Sgd(momentum=1.0), "momentum must be at least 0 and below 1, found 1.0"),
        (lambda: Sgd(weight_decay=-1.0), "weight_decay must be at least 0 and finite, found -1.0"),
        (lambda: Sgd(drops=(0.5, 0.5)), r"drops must be ascending shares between 0 and 1, found \(0.5, 0.5\)"),
        (lambda: fit(*problem(), problem()[1], optimizer="sgd"), "unknown optimizer 'sgd'.*adam, caffe, densenet"),
        (
            lambda: fit(*problem(), problem()[1], optimizer="caffe", schedule="one_cycle"),
            "a schedule of its own: expected 'constant', got 'one_cycle'",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(AtlabError, match=message):
        wrong()
