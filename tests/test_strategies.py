"""Each strategy's three parts: initial weights, frozen parts, loss terms."""

from __future__ import annotations

import pytest
import torch

import atlab
from atlab import strategies
from atlab.errors import AtlabError


def vgg(seed: int, classes: int = 3, width: float = 1 / 16):
    torch.manual_seed(seed)
    return atlab.models.vgg16(classes, width)


def state(model) -> dict:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_baseline_changes_nothing():
    student = vgg(0)
    before = state(student)
    plan = strategies.apply("baseline", student)
    assert plan.loss_terms == [] and all(p.requires_grad for p in student.parameters())
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())


def test_wi_copies_every_convolution_and_nothing_else():
    student, orthogonal = vgg(0), vgg(1, classes=5)
    before = state(student)
    plan = strategies.apply("wi", student, [orthogonal])
    for name, value in student.state_dict().items():
        source = orthogonal.state_dict()[name] if name.startswith("features.") else before[name]
        assert torch.equal(value, source), name
    assert sum(name.endswith("weight") and name.startswith("features.") for name in before) == 13
    assert plan.loss_terms == [] and all(p.requires_grad for p in student.parameters())


def test_at_adds_one_loss_term_over_all_teachers_and_layers_and_starts_from_its_own_weights():
    student = vgg(0)
    before = state(student)
    settings = strategies.AtSettings(layers=["conv3", "conv5"], aggregation="mean", beta=-2.0)
    plan = strategies.apply("at", student, [vgg(1), vgg(2)], settings)
    (term,) = plan.loss_terms
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())
    assert term.betas == [-2.0, -2.0] and term.aggregation == "mean"
    assert [t.layers for t in term.teachers] == [["conv3", "conv5"]] * 2
    plan.close()
    assert not any(m._forward_hooks for m in student.modules())


def test_frozen_prefixes_stop_training_those_parameters_only():
    student = vgg(0)
    strategies.Plan(frozen=["features.0."]).freeze(student)
    frozen = [name for name, p in student.named_parameters() if not p.requires_grad]
    assert frozen == ["features.0.weight", "features.0.bias"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: strategies.apply("wie", vgg(0)), "unknown strategy 'wie'; nearest: 'wi'"),
        (lambda: strategies.apply("wi", vgg(0)), "exactly one orthogonal network, found 0"),
        (lambda: strategies.apply("at", vgg(0)), "needs a network of an orthogonal task"),
        (lambda: strategies.apply("wi", vgg(0), [vgg(1, width=1 / 8)]), r"features\.0\.weight"),
    ],
)
def test_bad_use_is_named(call, message):
    with pytest.raises(AtlabError, match=message):
        call()
