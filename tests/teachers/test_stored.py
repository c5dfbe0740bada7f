"""Stored teachers: predictions, class means and labels against a naive computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import atlab
from atlab.errors import AtlabError
from atlab.teachers import of_class_means, of_labels, of_predictions

CODES = torch.tensor([0, 2, 1, -1, 0, 2, 1, 0])
LAYERS = ["conv3", "conv5"]


def vgg(seed: int, classes: int = 3):
    torch.manual_seed(seed)
    return atlab.models.vgg16(classes, width=1 / 16)


@pytest.fixture
def parts():
    torch.manual_seed(1)
    x, y = torch.randn(8, 1, 32, 32), torch.zeros(8, dtype=torch.long)
    rows = torch.randperm(8)
    return [
        atlab.data.InMemory(x[rows[s]], y[rows[s]], batch_size=2, rows=rows[s]) for s in (slice(0, 5), slice(5, 8))
    ], x


def unbiased_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012, equation 5, with Kornblith et al. 2019, equation 4, written out in float64."""

    def hsic(k, l):
        n = len(k)
        k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))
        one = np.ones(n)
        return (
            np.trace(k @ l)
            + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
            - 2 * (one @ k @ l @ one) / (n - 2)
        )

    k, l = x @ x.T, y @ y.T
    return hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l))


def test_predictions_are_the_networks_probabilities_whatever_the_order_of_clips(parts):
    batches, x = parts
    network = vgg(0).train()
    found = of_predictions(network, LAYERS, batches).targets(index=torch.arange(8))
    with torch.no_grad():
        logits = network.eval()(x).double().numpy()
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for layer in LAYERS:
        assert np.allclose(found[layer], expected, atol=1e-6)


def test_it_leaves_the_network_in_its_mode(parts):
    network = vgg(0).train()
    of_predictions(network, LAYERS, parts[0])
    assert network.training


def test_class_means_are_the_means_over_the_clips_of_a_class_and_over_all_where_it_is_unknown(parts):
    batches, x = parts
    teacher = atlab.Teacher(vgg(0), LAYERS)
    maps = teacher(x)
    stored = of_class_means(atlab.Teacher(vgg(0), LAYERS), batches, CODES)
    for layer in LAYERS:
        found = stored.targets(x, index=torch.arange(8))[layer]
        for row in range(8):
            same = [i for i in range(8) if CODES[i] == CODES[row]] if CODES[row] >= 0 else range(8)
            expected = torch.stack([maps[layer][i].double() for i in same]).mean(0)
            assert torch.allclose(found[row].double(), expected, atol=1e-6), row


def test_labels_are_one_hot_and_zero_where_they_are_unknown():
    found = of_labels(LAYERS, CODES).targets(index=torch.tensor([1, 3, 0]))["conv5"]
    assert found.tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("what", ["predictions", "labels"])
def test_the_loss_is_the_unbiased_cka_of_the_students_pooled_features_with_them(parts, what):
    batches, x = parts
    network = vgg(0)
    network.classifier[-1].weight.data *= 1e4  # untrained, it predicts the same for all clips but for 1e-5
    stored = of_predictions(network, ["conv5"], batches) if what == "predictions" else of_labels(["conv5"], CODES)
    student = vgg(3).eval()
    loss = atlab.AntiTransferLoss(student, stored, "clip_kernel", "cka", beta=3.0)
    student(x)
    value = loss(x, index=torch.arange(8))
    with torch.no_grad(), atlab.Taps(student, "conv5") as taps:
        student(x)
        features = taps["conv5"].double().mean((2, 3)).numpy()
    targets = stored.targets(index=torch.arange(8))["conv5"].double().numpy()
    assert float(value.detach()) == pytest.approx(3 * unbiased_cka(features, targets), rel=1e-4)
    value.backward()
    assert student.features[0].weight.grad.abs().sum() > 0
    assert what in repr(loss)


@pytest.mark.parametrize("aggregation", ["gram", "position_gram", "clip_kernel"])
def test_class_means_are_compared_by_every_aggregation(parts, aggregation):
    batches, x = parts
    teacher, student = atlab.Teacher(vgg(0), ["conv5"]), vgg(3).eval()
    stored = of_class_means(teacher, batches, CODES)
    loss = atlab.AntiTransferLoss(student, stored, aggregation)
    student(x)
    value = float(loss(x, index=torch.arange(8)).detach())
    with torch.no_grad(), atlab.Taps(student, "conv5") as taps:
        student(x)
        expected = atlab.functional.anti_transfer_loss(
            taps["conv5"], stored.targets(index=torch.arange(8))["conv5"], aggregation
        )
    assert value == pytest.approx(float(expected), rel=1e-5) and value > 0


def test_identities_differ_where_values_or_classes_do(parts):
    batches, _ = parts
    stored = [
        of_predictions(vgg(0), LAYERS, batches),
        of_predictions(vgg(1), LAYERS, batches),
        of_labels(LAYERS, CODES),
        of_labels(LAYERS, CODES.flip(0)),
        of_labels(LAYERS[:1], CODES),
    ]
    assert len({one.identity for one in stored}) == 5
    assert of_labels(LAYERS, CODES).identity == stored[2].identity


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b: of_labels(LAYERS, CODES).targets(), "row numbers"),
        (lambda b: of_labels(LAYERS, CODES).targets(index=torch.tensor([0, 8])), r"rows \[8\] have no stored labels"),
        (lambda b: of_predictions(vgg(0), LAYERS, b[:1]).targets(index=b[1].rows), "have no stored predictions"),
        (lambda b: of_labels(LAYERS, torch.zeros(3, dtype=torch.long)), "at least two classes"),
        (
            lambda b: atlab.AntiTransferLoss(vgg(0), of_labels(["conv5"], CODES), "gram"),
            "labels have neither channels nor positions: expected aggregation 'clip_kernel', got 'gram'",
        ),
    ],
)
def test_bad_use_is_named(parts, call, message):
    with pytest.raises(AtlabError, match=message):
        call(parts[0])
