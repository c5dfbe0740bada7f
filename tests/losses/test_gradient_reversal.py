"""Gradient reversal: the adversary learns, the student is pushed the other way, nothing stays behind."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

import atlab
from atlab import training
from atlab.errors import AtlabError
from atlab.losses.gradient_reversal import GradientReversal

CODES = torch.tensor([0, 1, 2, 0, 1, 2, 0, -1])


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).double()


def test_the_student_gets_the_negative_of_the_adversarys_gradient_times_beta():
    student, x, index = net(), torch.randn(8, 1, 6, 6, dtype=torch.float64), torch.arange(8)
    term = GradientReversal(student, "1", CODES, beta=0.5)
    student(x)
    term(x, index=index).backward()
    found = student[0].weight.grad.clone(), term.module[0].weight.grad.clone()
    head = term.module
    student.zero_grad()
    head.zero_grad()
    pooled = student[1](student[0](x)).float().mean((2, 3))
    known = CODES >= 0
    nnf.cross_entropy(head(pooled)[known], CODES[known]).backward()
    assert torch.allclose(found[0], -0.5 * student[0].weight.grad, atol=1e-7)
    assert torch.allclose(found[1], head[0].weight.grad, atol=1e-7)


def test_clips_of_unknown_class_do_not_count_and_a_batch_of_them_has_loss_zero():
    student = net()
    term = GradientReversal(student, "0", CODES)
    x = torch.randn(2, 1, 6, 6, dtype=torch.float64)
    student(x)
    both = float(term(x, index=torch.tensor([3, 7])).detach())
    student(x)
    alone = term(x, index=torch.tensor([3, 7]))
    student(x)
    none = term(x, index=torch.tensor([7, 7]))
    assert both > 0 and float(none.detach()) == 0 and torch.isfinite(alone)


def test_the_gradient_grows_over_the_warm_up_and_the_adversary_learns_from_the_start():
    student, x = net(), torch.randn(8, 1, 6, 6, dtype=torch.float64)
    term = GradientReversal(student, "1", CODES, warm_up=2)
    sizes = []
    for epoch in range(4):
        term.set_epoch(epoch)
        student.zero_grad()
        student(x)
        term(x, index=torch.arange(8)).backward()
        sizes.append(float(student[0].weight.grad.norm()))
        assert float(term.module[0].weight.grad.norm()) > 0
    assert sizes[0] == 0 and sizes[1] == pytest.approx(sizes[2] / 2) and sizes[2] == pytest.approx(sizes[3])


def test_a_training_killed_in_the_middle_resumes_with_the_same_adversary(tmp_path):
    """The checkpoint holds the adversary and its Adam state: an interrupted training ends with the same bits."""
    x, y, codes = torch.randn(24, 1, 32, 32), torch.arange(24) % 2, torch.arange(24) % 3

    class Killed(Exception):
        pass

    def run(checkpoint, stop_at=None):
        torch.manual_seed(3)
        student = atlab.models.vgg16(2, width=1 / 16)
        term = GradientReversal(student, "conv3", codes, warm_up=2)
        calls, original = [], term.module.forward

        def counted(*inputs):
            calls.append(1)
            if stop_at is not None and len(calls) > stop_at:
                raise Killed
            return original(*inputs)

        term.module.forward = counted
        clips = atlab.data.InMemory(x, y, batch_size=8, shuffle=True)
        training.fit(
            student,
            clips,
            clips,
            loss_terms=[term],
            epochs=3,
            progress=False,
            precision="fp32",
            checkpoint=checkpoint,
            checkpoint_every=0,
        )
        return [*student.state_dict().values(), *term.module.state_dict().values()]

    with pytest.raises(Killed):
        run(tmp_path / "c", stop_at=8)
    assert (tmp_path / "c").exists()
    assert all(map(torch.equal, run(tmp_path / "c"), run(tmp_path / "whole")))


def test_trained_with_fit_it_hides_what_it_was_told_to_hide():
    """Two independent bits drive two halves of the picture; the target is one, the other is to be hidden."""
    torch.manual_seed(0)
    bits = torch.randint(0, 2, (64, 2))
    x = torch.randn(64, 1, 32, 32) * 0.3
    x[:, 0, :, :16] += bits[:, 0, None, None]
    x[:, 0, :, 16:] += bits[:, 1, None, None]
    clips = atlab.data.InMemory(x, bits[:, 0], batch_size=16, shuffle=True)
    student = atlab.models.vgg16(2, width=1 / 16)
    term = GradientReversal(student, "conv5", bits[:, 1])
    before = term.module[0].weight.detach().clone()
    history = training.fit(student, clips, clips, loss_terms=[term], epochs=3, progress=False, precision="fp32")
    assert {"train_adversary", "validation_adversary"} <= set(history.columns)
    assert not torch.equal(term.module[0].weight, before), "the adversary trains with the student"
    term.close()
    assert not any(m._forward_hooks for m in student.modules())


def test_channels_are_found_inside_a_block():
    block = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sequential(nn.Conv2d(2, 6, 1), nn.BatchNorm2d(6)), nn.Conv2d(6, 3, 1))
    assert GradientReversal(block, "1", CODES).module[0].in_features == 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GradientReversal(net(), "conv9", CODES), "unknown layer of the student 'conv9'"),
        (lambda: GradientReversal(net(), "0", torch.zeros(3, dtype=torch.long)), "at least two orthogonal classes"),
        (lambda: GradientReversal(nn.Sequential(nn.Linear(2, 2)), "0", CODES), "no convolution up to it"),
    ],
)
def test_bad_use_is_named(make, message):
    with pytest.raises(AtlabError, match=message):
        make()


def test_it_asks_for_row_numbers():
    student = net()
    term = GradientReversal(student, "0", CODES)
    x = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    student(x)
    with pytest.raises(AtlabError, match="row numbers"):
        term(x)
