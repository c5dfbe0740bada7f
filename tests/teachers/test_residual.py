"""Residual teachers: features minus their class means, cached or not."""

from __future__ import annotations

import pytest
import torch

import atlab
from atlab.errors import AtlabError
from atlab.teachers.residual import ResidualTeacher

CODES = torch.tensor([0, 1, 0, 1, 1, 2, -1])


@pytest.fixture
def clips():
    torch.manual_seed(1)
    return atlab.data.InMemory(torch.randn(5, 1, 32, 32), CODES[:5], batch_size=2)


def teacher() -> atlab.Teacher:
    torch.manual_seed(0)
    return atlab.Teacher(atlab.models.vgg16(3, width=1 / 16), layers=["conv3", "conv5"])


def test_targets_are_features_minus_the_mean_of_their_class_over_the_training_clips(clips):
    residual = ResidualTeacher(teacher(), clips, CODES)
    maps = teacher()(clips.x)
    for layer in ("conv3", "conv5"):
        for row in range(5):
            same = [i for i in range(5) if CODES[i] == CODES[row]]
            want = maps[layer][row].double() - torch.stack([maps[layer][i].double() for i in same]).mean(0)
            found = residual.targets(clips.x[row : row + 1], index=torch.tensor([row]))[layer][0]
            assert torch.allclose(found.double(), want, atol=1e-6)


@pytest.mark.parametrize("row", [5, 6])
def test_clips_of_classes_without_training_clips_keep_the_mean_over_all(clips, row):
    residual, x = ResidualTeacher(teacher(), clips, CODES), torch.randn(1, 1, 32, 32)
    want = teacher()(x)["conv5"] - teacher()(clips.x)["conv5"].mean(0)
    assert torch.allclose(residual.targets(x, index=torch.tensor([row]))["conv5"], want, atol=1e-5)


def test_a_cache_of_it_gives_the_same_loss(clips, tmp_path):
    losses = []
    for wrap in (lambda t: t, lambda t: atlab.CachedTeacher(t, clips, tmp_path / "cache", "clip_kernel")):
        torch.manual_seed(2)
        student = atlab.models.vgg16(2, width=1 / 16).eval()
        loss = atlab.AntiTransferLoss(student, wrap(ResidualTeacher(teacher(), clips, CODES)), "clip_kernel")
        student(clips.x)
        losses.append(float(loss(clips.x, index=torch.arange(5)).detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3) and losses[0] > 0


def test_it_is_another_teacher_to_a_cache_and_a_checkpoint(clips):
    assert ResidualTeacher(teacher(), clips, CODES).identity != teacher().identity
    other = torch.tensor([1, 0, 0, 1, 1, 2, -1])
    shuffled = atlab.data.InMemory(clips.x, other[:5], batch_size=2)
    assert ResidualTeacher(teacher(), clips, CODES).identity != ResidualTeacher(teacher(), shuffled, other).identity


def test_it_asks_for_row_numbers(clips):
    with pytest.raises(AtlabError, match="row numbers"):
        ResidualTeacher(teacher(), clips, CODES).targets(clips.x)
