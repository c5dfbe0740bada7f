"""Each strategy's three parts: initial weights, frozen parts, loss terms."""

from __future__ import annotations

import pytest
import torch

import atlab
from atlab import strategies
from atlab.errors import AtlabError


def vgg(seed: int, classes: int = 3, width: float = 1 / 16, **arguments):
    torch.manual_seed(seed)
    return atlab.models.vgg16(classes, width, **arguments)


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


def test_frozen_wi_copies_all_convolutions_and_freezes_those_up_to_the_layer():
    student, orthogonal = vgg(0), vgg(1, classes=5)
    strategies.apply("frozen_wi", student, [orthogonal], strategies.AtSettings(layers=["conv3"]))
    frozen = {name for name, p in student.named_parameters() if not p.requires_grad}
    assert frozen == {f"features.{i}.{part}" for i in (0, 2, 5) for part in ("weight", "bias")}
    for name, value in student.state_dict().items():
        if name.startswith("features."):
            assert torch.equal(value, orthogonal.state_dict()[name]), name


@pytest.mark.parametrize("strategy", ["wi", "frozen_wi"])
def test_norms_are_copied_and_frozen_with_their_convolutions(strategy):
    student, orthogonal = (vgg(seed, batch_norm=True, head="pool") for seed in (0, 1))
    for norm in orthogonal.features:
        if isinstance(norm, torch.nn.BatchNorm2d):
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
    strategies.apply(strategy, student, [orthogonal], strategies.AtSettings(layers=["conv2"]))
    copied = [name for name in student.state_dict() if name.startswith("features.")]
    assert len(copied) == 13 * (2 + 5)
    assert all(torch.equal(student.state_dict()[name], orthogonal.state_dict()[name]) for name in copied)
    frozen = {name for name, p in student.named_parameters() if not p.requires_grad}
    up_to_conv2 = {f"features.{i}.{part}" for i in (0, 1, 3, 4) for part in ("weight", "bias")}
    assert frozen == (up_to_conv2 if strategy == "frozen_wi" else set())


def test_inverse_at_rewards_similarity_whatever_the_sign_of_beta():
    for beta in (2.0, -2.0):
        plan = strategies.apply("inverse_at", vgg(0), [vgg(1)], strategies.AtSettings(beta=beta))
        assert plan.loss_terms[0].betas == [-2.0]


def test_dual_at_starts_from_its_first_stage_and_compares_with_the_second_network():
    student, first, second = vgg(0), vgg(1), vgg(2, classes=4)
    (term,) = strategies.apply("dual_at", student, [first, second]).loss_terms
    assert torch.equal(student.features[0].weight, first.features[0].weight)
    assert len(term.teachers) == 1
    assert torch.equal(term.teachers[0].model.features[0].weight, second.features[0].weight)


def test_at_may_start_from_the_orthogonal_network():
    student, orthogonal = vgg(0), vgg(1)
    strategies.apply("at", student, [orthogonal], strategies.AtSettings(start="orthogonal"))
    assert torch.equal(student.features[0].weight, orthogonal.features[0].weight)


def test_gradient_reversal_takes_labels_and_no_network():
    student = vgg(0)
    settings = strategies.AtSettings(layers=["conv5"], beta=0.3, warm_up=4, codes=torch.tensor([0, 1, 2]))
    plan = strategies.apply("gradient_reversal", student, [], settings)
    (term,) = plan.loss_terms
    assert (term.layer, term.beta, term.warm_up) == ("conv5", 0.3, 4)
    plan.close()
    assert not any(m._forward_hooks for m in student.modules())


def clips(n: int = 8):
    torch.manual_seed(5)
    return atlab.data.InMemory(torch.randn(n, 1, 32, 32), torch.arange(n) % 3, batch_size=3, rows=torch.arange(n) + 2)


def test_just_train_twice_counts_the_first_networks_errors_beta_times():
    first, train = vgg(1).train(), clips()
    settings = strategies.AtSettings(beta=5.0, train=train)
    weights = strategies.apply("just_train_twice", vgg(0), [first], settings).target_loss.weights
    with torch.no_grad():
        wrong = first.eval()(train.x).argmax(1) != train.y
    assert 0 < wrong.sum() < 8
    expected = torch.where(wrong, 5.0, 1.0)
    assert torch.allclose(weights[2:], expected / expected.mean()) and (weights[:2] == 0).all()


@pytest.mark.parametrize("head", ["pool", "flatten"])
def test_last_layer_retraining_keeps_all_of_the_baseline_but_its_last_layer(head):
    student, base = (vgg(seed, batch_norm=True, head=head) for seed in (0, 1))
    last = {name: t.clone() for name, t in list(student.state_dict().items())[-2:]}
    assert [t.shape[0] for t in last.values()] == [3, 3], "weight and bias of the three classes"
    settings = strategies.AtSettings(groups=torch.arange(10) % 3)
    plan = strategies.apply("last_layer_retraining", student, [base], settings)
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, last[name] if name in last else base.state_dict()[name]), name
    assert {name for name, p in student.named_parameters() if p.requires_grad} == set(last)
    train = atlab.data.InMemory(torch.randn(10, 1, 32, 32), torch.arange(10) % 3, batch_size=5)
    before = state(student)
    atlab.training.fit(student, train, train, epochs=1, progress=False, target_loss=plan.target_loss)
    assert {name for name, t in student.state_dict().items() if not torch.equal(t, before[name])} == set(last)


def test_a_product_of_experts_reads_the_teacher_at_the_layer():
    train, network = clips(), vgg(1)
    loss = strategies.apply("product_of_experts", vgg(0), [network], strategies.AtSettings(train=train)).target_loss
    expected = atlab.teachers.expert.linear_expert(atlab.Teacher(network, "conv5"), train, classes=3)
    assert torch.equal(loss.log_probabilities, expected.float()) and not any(
        m._forward_hooks for m in network.modules()
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: strategies.apply("wie", vgg(0)), "unknown strategy 'wie'; nearest: 'wi'"),
        (lambda: strategies.apply("wi", vgg(0)), "takes exactly one network, found 0"),
        (lambda: strategies.apply("at", vgg(0)), "needs a network of an orthogonal task"),
        (lambda: strategies.apply("dual_at", vgg(0), [vgg(1)]), "network of its first stage and one orthogonal"),
        (lambda: strategies.apply("group_dro", vgg(0)), "needs the group of every training clip"),
        (lambda: strategies.apply("just_train_twice", vgg(0), [vgg(1)]), "expected beta above 1, got 1.0"),
        (lambda: strategies.apply("product_of_experts", vgg(0), [vgg(1)]), "looks at the target's training clips"),
        (lambda: strategies.apply("gradient_reversal", vgg(0)), "needs the orthogonal class of every clip"),
        (
            lambda: strategies.apply("frozen_wi", vgg(0), [vgg(1)], strategies.AtSettings(layers=["conv14"])),
            "unknown convolution to freeze up to 'conv14'; nearest",
        ),
        (lambda: strategies.apply("wi", vgg(0), [vgg(1, width=1 / 8)]), r"features\.0\.weight"),
    ],
)
def test_bad_use_is_named(call, message):
    with pytest.raises(AtlabError, match=message):
        call()
