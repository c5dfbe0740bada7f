"""What a live teacher does with its input: device, type, other arguments, axes; and what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import atlab
from atlab import functional as F
from atlab.errors import AtlabError


def conv(channels: int = 1) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float32])
def test_it_follows_the_type_of_its_input_and_stays_the_same_teacher(dtype):
    teacher, x = atlab.Teacher(conv(), "1"), torch.randn(2, 1, 8, 8)
    identity = teacher.identity
    found = teacher(x.to(dtype))["1"]
    model = copy.deepcopy(conv()).to(dtype)
    assert found.dtype == dtype and torch.equal(found, model[1](model[0](x.to(dtype))).detach())
    assert teacher.identity == identity


def test_it_is_moved_only_when_it_is_elsewhere(monkeypatch):
    teacher, x, moves = atlab.Teacher(conv(), "1"), torch.randn(2, 1, 8, 8), []
    to = nn.Module.to
    monkeypatch.setattr(nn.Module, "to", lambda self, *a, **k: moves.append((a, k)) or to(self, *a, **k))
    teacher(x)
    teacher(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        teacher(x.bfloat16())
    assert moves == []
    teacher(x.double())
    teacher(x.double())
    assert len(moves) == 1


def test_a_functional_gradient_through_the_loss_is_that_of_autograd():
    student, x = conv(), torch.randn(3, 1, 8, 8)
    at = atlab.AntiTransferLoss(student, atlab.Teacher(conv().requires_grad_(False), "2"))
    parameters = {name: p.detach() for name, p in student.named_parameters()}

    def loss(parameters):
        torch.func.functional_call(student, parameters, (x,))
        return at(x)

    found = torch.func.grad(loss)(parameters)
    student(x)
    at(x).backward()
    for name, parameter in student.named_parameters():
        assert torch.allclose(found[name], parameter.grad, atol=1e-7), name


def test_student_teacher_and_loss_compile_as_one_graph():
    torch._dynamo.reset()
    student, x = conv(), torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        student[0].weight += 0.1
    at = atlab.AntiTransferLoss(student, atlab.Teacher(conv(), ["1", "2"]))

    def step(x):
        return student(x).mean() + at(x)

    eager, compiled = step(x), torch.compile(step, backend="aot_eager", fullgraph=True)(x)
    assert float(compiled.detach()) == pytest.approx(float(eager.detach()), rel=1e-5)
    torch._dynamo.reset()


def test_another_number_of_input_channels_is_one_sentence():
    with pytest.raises(
        AtlabError, match=r"takes inputs of 3 channels, found 1 in shape \(2, 1, 8, 8\): give the student"
    ):
        atlab.Teacher(conv(3), "1")(torch.randn(2, 1, 8, 8))


def test_errors_of_the_network_itself_are_its_own():
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        atlab.Teacher(conv(), "1")(torch.randn(2, 1, 2, 2))


class Masked(nn.Module):
    """Two inputs, as a transformer takes them: x [B, T, C] and which of its steps count."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, x, mask=None):
        return self.layer(x, src_key_padding_mask=mask)


def test_every_argument_reaches_the_teacher():
    student, model, x = Masked(0), Masked(1), torch.randn(4, 5, 8)
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[:, 3:] = True
    teacher = atlab.Teacher(model, "layer")
    at = atlab.AntiTransferLoss(student, teacher)
    student(x, mask=mask)
    found = at(x, mask=mask)
    with torch.no_grad():
        teacher_out, without = (model.train()(x, m).mT for m in (mask, None))
    expected = F.anti_transfer_loss(student(x, mask).mT, teacher_out)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert not torch.allclose(teacher_out, without)


@pytest.mark.parametrize("named", [None, -1])
def test_sequences_are_compared_over_their_channels(named):
    """A Gram matrix of channels [C, C], by a float64 loop over pairs of channels; over steps it would be another number."""
    student, model, x = Masked(0).double(), Masked(1).double(), torch.randn(3, 5, 8, dtype=torch.float64)
    at = atlab.AntiTransferLoss(student, atlab.Teacher(model, "layer", channel_dim=named), channel_dim=named)
    s, t = student(x).detach(), model.eval()(x).detach()
    found = float(at(x).detach())

    def naive(s, t):
        values = []
        for a, b in zip(s, t, strict=True):
            grams = [
                [[sum(f[k, i] * f[k, j] for k in range(len(f))) for j in range(f.shape[1])] for i in range(f.shape[1])]
                for f in (a, b)
            ]
            u, v = (torch.tensor(g, dtype=torch.float64).flatten() for g in grams)
            values.append((u @ v) ** 2 / ((u @ u) * (v @ v)))
        return float(sum(values) / len(values))

    assert found == pytest.approx(naive(s, t), rel=1e-9)
    assert abs(found - naive(s.mT, t.mT)) > 1e-3
