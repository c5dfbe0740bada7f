"""AntiTransferLoss as a module: it owns nothing, shows what it measured, and travels with its student."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import atlab
from atlab import functional as F
from atlab.data import InMemory
from atlab.errors import AtlabError
from atlab.losses import GradientReversal
from atlab.training import fit


def net(seed: int, channels: int = 4) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, channels, 3), nn.ReLU(), nn.Conv2d(channels, 6, 3), nn.ReLU())


def x(seed: int = 0) -> torch.Tensor:
    return torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_it_owns_no_parameter_and_no_submodule():
    student = net(0)
    at = atlab.AntiTransferLoss(student, atlab.Teacher(net(1), "1"))
    holder = nn.ModuleList([student, at])
    assert list(at.parameters()) == [] and list(at.children()) == [] and at.state_dict() == {}
    assert holder.state_dict().keys() == {f"0.{name}" for name in student.state_dict()}
    holder.train().to(torch.float64)
    student(x().double())
    assert at(x().double()).dtype == torch.float64
    holder.eval()
    assert at.training is False and student.training is False
    holder.load_state_dict(holder.state_dict())


@pytest.mark.parametrize("again", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_a_copy_with_its_student_works_on_the_copy(again):
    student = net(0)
    at = atlab.AntiTransferLoss(student, atlab.Teacher(net(1), "1"))
    student(x())
    expected = float(at(x()).detach())
    student(x())
    other, copied = again((student, at))
    other(x())
    loss = copied(x())
    loss.backward()
    assert float(loss.detach()) == expected
    assert other[0].weight.grad is not None and student[0].weight.grad is None
    assert float(at(x()).detach()) == expected


def test_a_loss_kept_inside_its_own_student_is_refused_when_copied():
    student = net(0)
    student.at = atlab.AntiTransferLoss(student, atlab.Teacher(net(1), "1"))
    with pytest.raises(AtlabError, match="cannot be copied or pickled: tap the network inside it"):
        pickle.loads(pickle.dumps(student))


def test_a_cached_teacher_is_pickled_by_its_folder(tmp_path):
    student, clips = net(0), InMemory(x(), torch.zeros(5, dtype=torch.long))
    cached = atlab.CachedTeacher(atlab.Teacher(net(1), "1"), clips, tmp_path / "cache")
    at = atlab.AntiTransferLoss(student, cached)
    other, copied = pickle.loads(pickle.dumps((student, at)))
    for model, loss in ((student, at), (other, copied)):
        model(x())
        assert float(loss(x(), index=torch.arange(5)).detach()) == pytest.approx(
            float(F.anti_transfer_loss(student[:2](x()), net(1)[:2](x())).detach()), abs=2e-3
        )


def test_its_repr_says_what_it_compares():
    teachers = [atlab.Teacher(net(1), ["1", "3"]), atlab.Teacher(net(2), "3")]
    at = atlab.AntiTransferLoss(net(0), teachers, "mean", "cka", beta=[1.0, -2.0], layer_map={"1": "3"})
    assert repr(at) == (
        "AntiTransferLoss(mean, cka, beta=1.0: Sequential 3 against Sequential 1, beta=1.0: Sequential 3 against Sequential 3, "
        "beta=-2.0: Sequential 3 against Sequential 3)"
    )


def test_values_are_the_similarities_before_beta_and_warm_up():
    student, teachers = net(0), [atlab.Teacher(net(1), ["1", "3"]), atlab.Teacher(net(2), "3")]
    at = atlab.AntiTransferLoss(student, teachers, beta=[0.0, 3.0], warm_up=4)
    at.set_epoch(1)
    student(x())
    loss = at(x())
    parts = {"teacher0.1": (2, net(1)), "teacher0.3": (4, net(1)), "teacher1.3": (4, net(2))}
    assert list(at.values) == at.compared == list(parts)
    for name, (end, model) in parts.items():
        expected = F.anti_transfer_loss(student[:end](x()), model[:end](x()))
        assert not at.values[name].requires_grad and torch.allclose(at.values[name], expected), name
    assert float(loss.detach()) == pytest.approx(float(3 * at.values["teacher1.3"] / 4))


def test_fit_logs_the_similarity_where_beta_is_zero_and_during_the_warm_up():
    clips = InMemory(x(), torch.tensor([0, 1, 0, 1, 0]), batch_size=5)
    for options in ({"beta": 0.0}, {"warm_up": 2}):
        student = nn.Sequential(*net(0), nn.Flatten(), nn.Linear(96, 2))
        at = atlab.AntiTransferLoss(student, atlab.Teacher(net(1), "1"), **options)
        start = F.anti_transfer_loss(student[:2](x()), net(1)[:2](x()))
        history = fit(student, clips, clips, loss_terms=[at], epochs=1, progress=False, precision="fp32", device="cpu")
        row = history.iloc[0]
        assert row["train_at"] == 0 and row["train_at_1"] == pytest.approx(float(start.detach()), rel=1e-5)
        assert 0 < row["validation_at_1"] <= 1


def test_a_warm_up_without_an_epoch_is_an_error_and_not_zero_for_ever():
    student = net(0)
    for term in (
        atlab.AntiTransferLoss(student, atlab.Teacher(net(1), "1"), warm_up=3),
        GradientReversal(student, "1", torch.tensor([0, 1, 0, 1, 0]), warm_up=3),
    ):
        student(x())
        with pytest.raises(AtlabError, match=r"warm_up=3 needs the epoch: call set_epoch\(n\)"):
            term(x(), index=torch.arange(5))
        term.set_epoch(0)
        student(x())
        assert torch.isfinite(term(x(), index=torch.arange(5)))


def test_layers_of_other_names_are_mapped():
    student = nn.Sequential(nn.Identity(), *net(0))
    at = atlab.AntiTransferLoss(student, atlab.Teacher(net(1), ["1", "3"]), layer_map={"1": "2", "3": "4"})
    student(x())
    expected = sum(F.anti_transfer_loss(net(0)[:end](x()), net(1)[:end](x())) for end in (2, 4))
    assert float(at(x()).detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    with pytest.raises(AtlabError, match="unknown teacher layer in layer_map '2'; allowed: 1, 3"):
        atlab.AntiTransferLoss(student, atlab.Teacher(net(1), ["1", "3"]), layer_map={"2": "1"})


def test_without_reduction_there_is_one_value_per_clip():
    student, teacher = net(0), atlab.Teacher(net(1), "1")
    at = atlab.AntiTransferLoss(student, teacher, beta=2.0, reduction="none")
    student(x())
    loss = at(x())
    expected = F.anti_transfer_loss(student[:2](x()), teacher(x())["1"], reduction="none")
    assert loss.shape == (5,) and torch.allclose(loss, 2 * expected) and torch.allclose(at.values["1"], expected)
    for options in ({"aggregation": "clip_kernel"}, {"published": True}):
        with pytest.raises(AtlabError, match="one value per batch: use reduction='mean'"):
            atlab.AntiTransferLoss(student, teacher, reduction="none", **options)
    with pytest.raises(AtlabError, match="unknown reduction 'sum'; allowed: mean, none"):
        atlab.AntiTransferLoss(student, teacher, reduction="sum")


class Twice(nn.Module):
    """One activation for two convolutions, as in the blocks of a ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.act = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU()

    def forward(self, x):
        return self.act(self.second(self.act(self.first(x))))


def test_a_layer_that_runs_twice_is_a_sentence_for_student_and_teacher():
    once, twice = net(0), Twice()
    at = atlab.AntiTransferLoss(twice, atlab.Teacher(once, "1"), layer_map={"1": "act"})
    twice(x())
    with pytest.raises(AtlabError, match="layer 'act' ran 2 times in one forward pass: choose a module that runs once"):
        at(x())
    with pytest.raises(AtlabError, match="layer 'act' ran 2 times in one forward pass"):
        atlab.Teacher(twice, "act")(x())


def test_another_teacher_runs_to_its_end_once_and_then_stops_at_its_layer():
    teacher, ends = atlab.Teacher(net(0), "1"), []
    teacher.model[3].register_forward_hook(lambda *_: ends.append(1))
    first, second = teacher(x()), teacher(x())
    assert ends == [1] and torch.equal(first["1"], second["1"])


def test_fit_refuses_one_value_per_clip():
    clips, student = InMemory(x(), torch.arange(5) % 2), nn.Sequential(*net(0), nn.Flatten(), nn.Linear(96, 2))
    at = atlab.AntiTransferLoss(student, atlab.Teacher(net(1), "1"), reduction="none")
    with pytest.raises(AtlabError, match="expected a loss term with reduction='mean', got 'none'"):
        fit(student, clips, clips, loss_terms=[at], epochs=1, progress=False)


def test_networks_of_unequal_width_learn_which_aggregations_compare_them():
    student = net(0)
    at = atlab.AntiTransferLoss(student, atlab.Teacher(net(1, channels=7), "1"))
    student(x())
    with pytest.raises(AtlabError, match="layer '1': .* aggregations that compare these shapes: mean, .*clip_kernel"):
        at(x())


def test_identity_changes_with_every_option():
    student, teacher = net(0), atlab.Teacher(net(1), "1")
    options = [{}, {"layer_map": {"1": "3"}}, {"reduction": "none"}, {"warm_up": 2}]
    assert len({atlab.AntiTransferLoss(student, teacher, **o).identity for o in options}) == len(options)
    last = atlab.Teacher(net(1), "1", channel_dim=-1)
    assert last.identity != teacher.identity
    named = atlab.AntiTransferLoss(student, last, channel_dim=-1)
    assert "channel_dim -1" in str(named.identity)


def test_an_axis_that_is_named_for_one_of_two_equal_networks_is_an_error():
    nets = [nn.Sequential(nn.Linear(3, 5), nn.GELU()) for _ in range(2)]
    with pytest.raises(
        AtlabError,
        match="channel_dim=-1 is not given for the teacher, a Sequential as well: give it to atlab.Teacher, too",
    ):
        atlab.AntiTransferLoss(nets[0], atlab.Teacher(nets[1], "0"), channel_dim=-1)
    with pytest.raises(AtlabError, match="not given for the student, .* give it to atlab.AntiTransferLoss, too"):
        atlab.AntiTransferLoss(nets[0], atlab.Teacher(nets[1], "0", channel_dim=-1))
    atlab.AntiTransferLoss(nets[0], atlab.Teacher(nets[1], "0", channel_dim=-1), channel_dim=-1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda net: atlab.Teacher(net, layers=5), r"a layer is given by its name in named_modules\(\), .* found 5"),
        (lambda net: atlab.Teacher(net, layers=net[0]), "found Conv2d"),
        (
            lambda net: atlab.Teacher("net.safetensors", "0"),
            "must be a network .* found str; a file is read by atlab.models.load",
        ),
        (
            lambda net: atlab.Teacher(net, "0", channel_dim="last"),
            "channel_dim is the number of an axis, such as 1 or -1; found 'last'",
        ),
    ],
)
def test_arguments_of_other_types_are_sentences(make, said):
    with pytest.raises(AtlabError, match=said):
        make(nn.Sequential(nn.Conv2d(1, 2, 3)))


def test_a_teacher_of_pictures_refuses_waveforms_in_a_sentence():
    student, teacher = nn.Sequential(nn.Conv1d(1, 4, 9)), nn.Sequential(nn.Conv2d(1, 4, 3))
    at, x = atlab.AntiTransferLoss(student, atlab.Teacher(teacher, "0")), torch.randn(4, 1, 400)
    student(x)
    with pytest.raises(
        AtlabError, match=r"begins with Conv2d, which takes inputs of 4 axes .*found shape \(4, 1, 400\)"
    ):
        at(x)
