"""The three lines in anybody's loop: plain, autocast, accumulation, compiled, two processes; against a naive float64 loop."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import atlab
from tests.frameworks import distributed
from tests.frameworks.naive import LAYERS, Small, activations, agree, at_loss, batch, gradients, whole_loss


def parts() -> tuple[Small, Small, atlab.AntiTransferLoss]:
    student, speaker = Small(0), Small(1)
    return student, speaker, atlab.AntiTransferLoss(student, atlab.Teacher(speaker, LAYERS))


def own(student: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in student.named_parameters()}


def test_plain():
    (student, speaker, at), (x, y) = parts(), batch()
    loss = nn.functional.cross_entropy(student(x), y) + at(x)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(whole_loss(student, speaker, x, y).detach()), rel=1e-5)
    assert agree(own(student), gradients(student, speaker, x, y))


def test_bfloat16_autocast():
    (student, speaker, at), (x, _) = parts(), batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        student(x)
        loss = at(x)
        s, t = activations(student, LAYERS, x), activations(speaker, LAYERS, x)
    loss.backward()
    assert loss.dtype == torch.float32 and s[LAYERS[0]].dtype == torch.bfloat16
    expected = sum(at_loss(s[layer], t[layer]) for layer in LAYERS)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    (wanted,) = torch.autograd.grad(
        sum(at_loss(a, b.detach()) for a, b in zip(s.values(), t.values(), strict=True)), student.features[0].weight
    )
    assert torch.allclose(student.features[0].weight.grad, wanted, atol=0.02 * float(wanted.abs().max()))


def test_gradient_accumulation():
    (student, speaker, at), (x, y) = parts(), batch()
    for part in (slice(0, 4), slice(4, 8)):
        ((nn.functional.cross_entropy(student(x[part]), y[part]) + at(x[part])) / 2).backward()
    assert agree(own(student), gradients(student, speaker, x, y))


def test_compiled():
    torch._dynamo.reset()
    (student, speaker, at), (x, y) = parts(), batch()
    compiled = torch.compile(student, backend="aot_eager")
    for _ in range(2):
        student.zero_grad()
        (nn.functional.cross_entropy(compiled(x), y) + at(x)).backward()
    torch._dynamo.reset()
    at.close()
    assert agree(own(student), gradients(student, speaker, x, y))


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_have_the_gradient_of_the_whole_batch(tmp_path, kind):
    """DistributedDataParallel of a pickled student and loss; fully sharded parameters."""
    port, (x, y) = distributed.free_port(), batch()
    student, speaker, at = parts()
    given = (port, str(tmp_path), student, at) if kind == "ddp" else (port, str(tmp_path))
    torch.multiprocessing.spawn(getattr(distributed, kind), given, nprocs=2)
    assert agree(load_file(tmp_path / "gradients.safetensors"), gradients(student, speaker, x, y))
