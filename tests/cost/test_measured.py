"""The rivals of a measured step compute what atlab computes, so that their times may be compared."""

from __future__ import annotations

import pytest
import torch

import atlab
from atlab.cost import measured


@pytest.mark.parametrize("layer", ["conv1", "conv5", "conv13"])
def test_the_loss_by_hand_is_that_of_atlab_with_its_gradient(layer):
    torch.manual_seed(0)
    student, orthogonal = atlab.models.vgg16(3, 1 / 16).eval(), atlab.models.vgg16(2, 1 / 16).eval()
    x = torch.rand(3, 1, 64, 64)
    found = {}
    by_hand = measured.by_hand(student, orthogonal, layer)
    with atlab.AntiTransferLoss(student, atlab.Teacher(orthogonal, layer)) as ours:
        for name, loss in (("by hand", lambda: by_hand(x, None)), ("ours", lambda: ours(x))):
            student.zero_grad()
            student(x)
            value = loss()
            value.backward()
            found[name] = [value.detach(), student.features[0].weight.grad.clone()]
    for mine, theirs in zip(found["ours"], found["by hand"], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
    assert found["ours"][1].abs().max() > 0


def test_variants_that_are_asked_for_are_timed_in_turn():
    times = measured.step_times("conv1", 1 / 32, 2, torch.device("cpu"), 4, (1, 32, 32), variants=("plain", "by_hand"))
    assert set(times) == {"plain", "by_hand"} and all(len(t) == 2 and (t > 0).all() for t in times.values())
