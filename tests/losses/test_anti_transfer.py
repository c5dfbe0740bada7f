"""AntiTransferLoss and Teacher inside other people's training loops: counts, wrappers, precision, memory."""

from __future__ import annotations

import copy
import gc
import os

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

import atlab
from atlab import functional as F
from atlab.errors import AtlabError

CONV = ("features.0", "features.3", "features.6")


class Net(nn.Module):
    """Three convolutions, one batch norm and dropout: enough to see drift and truncation."""

    tap_points = {"conv1": "features.2", "conv2": "features.4", "conv3": "features.7", "conv3.pre": "features.6"}

    def __init__(self, classes: int = 3, channels: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, 6, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(8 * 16, classes))

    def forward(self, x):
        return self.classifier(self.features(x))


def net(seed: int = 0, **kwargs) -> Net:
    torch.manual_seed(seed)
    return Net(**kwargs)


def batch(n: int = 6, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, 8, 8, generator=generator), torch.arange(n) % 3


def counted(model: nn.Module) -> dict[str, int]:
    """How often each leaf module runs, from here on."""
    counts = {name: 0 for name, m in model.named_modules() if not list(m.children())}
    for name in counts:
        model.get_submodule(name).register_forward_hook(
            lambda *_, name=name: counts.__setitem__(name, counts[name] + 1), prepend=True
        )
    return counts


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_the_three_lines_equal_two_explicit_forwards():
    student, model, (x, y) = net(0), net(1), batch()
    at = atlab.AntiTransferLoss(student, atlab.Teacher(model, "conv2"), beta=0.7)
    student.eval(), model.eval()
    loss = nnf.cross_entropy(student(x), y) + at(x)
    s, t = student.features[:5](x), model.features[:5](x).detach()
    expected = nnf.cross_entropy(student(x), y) + 0.7 * F.anti_transfer_loss(s, t)
    assert torch.allclose(loss, expected)
    got = torch.autograd.grad(loss, list(student.parameters()))
    for a, b in zip(got, torch.autograd.grad(expected, list(student.parameters())), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_one_student_forward_a_step_and_the_teacher_stops_at_its_last_layer():
    student, teacher = net(0), atlab.Teacher(net(1), ["conv2", "conv1"])
    at = atlab.AntiTransferLoss(student, teacher)
    of_student, of_teacher = counted(student), counted(teacher.model)
    for step in range(1, 4):
        x, y = batch(seed=step)
        (nnf.cross_entropy(student(x), y) + at(x)).backward()
        assert set(of_student.values()) == {step}
        reached = {"features.0", "features.1", "features.2", "features.3", "features.4"}
        assert {name for name, n in of_teacher.items() if n} == reached
        assert {of_teacher[name] for name in reached} == {step}


def test_no_gradient_no_drift_and_no_memory_growth_in_the_teacher_over_200_steps():
    student, model = net(0), net(1)
    model.train()
    teacher = atlab.Teacher(model, "conv3")
    before = copy.deepcopy(teacher.model.state_dict())
    at = atlab.AntiTransferLoss(student, teacher)
    optimizer = torch.optim.Adam(student.parameters())
    alive = []
    for step in range(200):
        x, y = batch(seed=step)
        optimizer.zero_grad()
        (nnf.cross_entropy(student(x), y) + at(x)).backward()
        optimizer.step()
        if step in (50, 199):
            gc.collect()
            alive.append(sum(1 for o in gc.get_objects() if type(o) is torch.Tensor))
    assert alive[1] <= alive[0]
    assert all(p.grad is None and not p.requires_grad for p in teacher.model.parameters())
    assert not teacher.model.training
    for name, value in teacher.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_original_of_a_teacher_is_untouched_and_may_be_the_students_start():
    model = net(1).train()
    teacher = atlab.Teacher(model, "conv1")
    assert model.training and all(p.requires_grad for p in model.parameters())
    at = atlab.AntiTransferLoss(model, teacher)
    x, y = batch()
    model.eval()
    (nnf.cross_entropy(model(x), y) + at(x)).backward()
    assert model.features[0].weight.grad is not None


def test_no_hook_is_left_after_close():
    student = net(0)
    with atlab.AntiTransferLoss(
        student, [atlab.Teacher(net(1), "conv1"), atlab.Teacher(net(2), ["conv3", "conv3.pre"])]
    ) as at:
        assert hooks(student) == 3 + 2  # and where the forward pass begins and ends
    assert hooks(student) == 0 and all(hooks(t.model) == 0 for t in at.teachers)


def test_a_teacher_made_from_a_tapped_student_records_nothing_there():
    student = net(0)
    at = atlab.AntiTransferLoss(student, atlab.Teacher(net(1), "conv1"))
    second = atlab.Teacher(student, "conv2")
    x, _ = batch()
    second(x)
    with pytest.raises(AtlabError, match="has no activation"):
        at(x)


def test_layers_teachers_and_signs_of_beta_add_up():
    student, a, b, (x, _) = net(0).eval(), net(1), net(2), batch()
    parts = {}
    for name, model, layer in (("a1", a, "conv1"), ("a3", a, "conv3.pre"), ("b2", b, "conv2")):
        with atlab.AntiTransferLoss(student, atlab.Teacher(model, layer)) as at:
            student(x)
            parts[name] = float(at(x).detach())
    both = [atlab.Teacher(a, ["conv1", "conv3.pre"]), atlab.Teacher(b, "conv2")]
    at = atlab.AntiTransferLoss(student, both, beta=[2.0, -0.5])
    student(x)
    assert float(at(x).detach()) == pytest.approx(2 * (parts["a1"] + parts["a3"]) - 0.5 * parts["b2"], rel=1e-5)


def test_inverse_at_raises_similarity_and_at_lowers_it():
    for beta, sign in ((1.0, -1), (-1.0, 1)):
        student, (x, _) = net(0), batch()
        at = atlab.AntiTransferLoss(student, atlab.Teacher(net(1), "conv2"), beta=beta)
        optimizer = torch.optim.SGD(student.parameters(), lr=0.5)
        values = []
        for _ in range(20):
            optimizer.zero_grad()
            student(x)
            loss = at(x)
            loss.backward()
            optimizer.step()
            values.append(float(loss.detach()) / beta)
        assert sign * (values[-1] - values[0]) > 0.01


@pytest.mark.parametrize("aggregation", F.AGGREGATIONS)
def test_every_aggregation_trains(aggregation):
    student, (x, _) = net(0), batch()
    at = atlab.AntiTransferLoss(student, atlab.Teacher(net(1), "conv3"), aggregation=aggregation)
    student(x)
    at(x).backward()
    gradient = student.features[0].weight.grad
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_under_bfloat16_autocast_it_is_the_float32_loss_of_bfloat16_features():
    student, teacher, (x, _) = net(0).eval(), atlab.Teacher(net(1), "conv3"), batch()
    at = atlab.AntiTransferLoss(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        student(x)
        loss = at(x)
        s, t = student.features(x), teacher(x)["conv3"]
    assert loss.dtype == torch.float32 and s.dtype == torch.bfloat16
    assert float(loss.detach()) == pytest.approx(float(F.anti_transfer_loss(s.float(), t.float()).detach()), rel=1e-5)
    loss.backward()
    assert torch.isfinite(student.features[0].weight.grad).all()


@pytest.mark.parametrize("order", ["compile after", "compile before"])
def test_torch_compile_gives_the_eager_loss(order):
    torch._dynamo.reset()
    student, teacher, (x, y) = net(0).eval(), atlab.Teacher(net(1), ["conv1", "conv3.pre"]), batch()
    if order == "compile before":
        compiled = torch.compile(student, backend="aot_eager")
        at = atlab.AntiTransferLoss(compiled, teacher)
    else:
        at = atlab.AntiTransferLoss(student, teacher)
        compiled = torch.compile(student, backend="aot_eager")
    values, gradients = [], []
    for forward in (compiled, student):
        for _ in range(2):
            student.zero_grad()
            loss = nnf.cross_entropy(forward(x), y) + at(x)
            loss.backward()
        values.append(float(loss.detach()))
        gradients.append(student.features[0].weight.grad.clone())
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert torch.allclose(*gradients, atol=1e-6)
    torch._dynamo.reset()


def test_the_teacher_follows_dtype_free_moves_and_memory_formats():
    """Moved and converted after the loss was made: the loss stays what it was."""
    student, teacher, (x, _) = net(0).eval(), atlab.Teacher(net(1), "conv2"), batch()
    at = atlab.AntiTransferLoss(student, teacher)
    student(x)
    expected = float(at(x).detach())
    student.to(memory_format=torch.channels_last)
    student(x.to(memory_format=torch.channels_last))
    assert float(at(x).detach()) == pytest.approx(expected, rel=1e-5)
    weight = teacher.model.features[3].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def _distributed_worker(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    student = net(0).eval()
    wrapped = nn.parallel.DistributedDataParallel(student)
    at = atlab.AntiTransferLoss(wrapped, atlab.Teacher(net(1), "conv2"))
    x, y = batch(8)
    half = slice(4 * rank, 4 * rank + 4)
    (nnf.cross_entropy(wrapped(x[half]), y[half]) + at(x[half])).backward()
    if rank == 0:
        from safetensors.torch import save_file

        save_file({n: p.grad for n, p in student.named_parameters()}, f"{folder}/gradients.safetensors")
    torch.distributed.destroy_process_group()


def test_two_distributed_processes_have_the_gradient_of_the_whole_batch(tmp_path):
    import socket

    from safetensors.torch import load_file

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    torch.multiprocessing.spawn(_distributed_worker, (port, str(tmp_path)), nprocs=2)
    student, (x, y) = net(0).eval(), batch(8)
    at = atlab.AntiTransferLoss(student, atlab.Teacher(net(1), "conv2"))
    (nnf.cross_entropy(student(x), y) + at(x)).backward()
    for name, gradient in load_file(tmp_path / "gradients.safetensors").items():
        assert torch.allclose(gradient, student.get_parameter(name).grad, atol=1e-6), name


def test_any_torchvision_network_and_layer():
    import torchvision

    student, model = (torchvision.models.resnet18(num_classes=3) for _ in range(2))
    at = atlab.AntiTransferLoss(student, atlab.Teacher(model, ["layer1.0.bn2", "layer2"]))
    x = torch.randn(2, 3, 32, 32)
    student.train()(x)
    loss = at(x)
    loss.backward()
    assert 0 < float(loss.detach()) <= 2 and torch.isfinite(student.conv1.weight.grad).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s, t: atlab.Teacher(t, "conv22"), "unknown layer of the teacher 'conv22'; nearest: 'conv2'"),
        (
            lambda s, t: atlab.AntiTransferLoss(nn.Sequential(nn.Linear(1, 1)), atlab.Teacher(t, "conv2")),
            "unknown layer of the student 'conv2'; allowed: 0",
        ),
        (lambda s, t: atlab.AntiTransferLoss(s, t), "teacher must be atlab.Teacher"),
        (lambda s, t: atlab.AntiTransferLoss(s, [nn.Linear(1, 1)]), "found Linear"),
        (
            lambda s, t: atlab.AntiTransferLoss(s, atlab.Teacher(t, "conv2"), beta=[1.0, 2.0]),
            "2 values of beta for 1 teachers",
        ),
        (lambda s, t: atlab.AntiTransferLoss(s, atlab.Teacher(t, "conv2"), aggregation="gramm"), "nearest: 'gram'"),
        (lambda s, t: atlab.AntiTransferLoss(s, atlab.Teacher(t, "conv2"), similarity="ckaa"), "nearest: 'cka'"),
    ],
)
def test_bad_arguments_are_named_at_construction(make, message):
    with pytest.raises(AtlabError, match=message):
        make(net(0), net(1))


def test_mismatched_shapes_name_the_layer_and_both_shapes():
    student, (x, _) = net(0), batch()
    at = atlab.AntiTransferLoss(student, atlab.Teacher(net(1, channels=5), "conv1"))
    student(x)
    with pytest.raises(AtlabError, match=r"layer 'conv1': student \(6, 4, 8, 8\) and teacher \(6, 5, 8, 8\)"):
        at(x)


def test_calling_twice_or_before_the_forward_is_explained():
    student, (x, _) = net(0), batch()
    at = atlab.AntiTransferLoss(student, atlab.Teacher(net(1), "conv1"))
    with pytest.raises(AtlabError, match="run the model's forward pass first"):
        at(x)
    student(x)
    at(x)
    with pytest.raises(AtlabError, match="was used already: run the model again"):
        at(x)


@pytest.mark.parametrize("beta", [float("nan"), float("inf"), "15", None, [1.0, "2"]])
def test_beta_is_a_finite_number(beta):
    with pytest.raises(AtlabError, match="beta must be a finite number"):
        atlab.AntiTransferLoss(net(0), [atlab.Teacher(net(1), "conv2"), atlab.Teacher(net(2), "conv2")], beta=beta)


def test_numbers_of_other_libraries_are_numbers():
    import numpy as np

    teacher = atlab.Teacher(net(1), "conv2")
    for beta in (2, np.float32(2), torch.tensor(2.0)):
        assert atlab.AntiTransferLoss(net(0), teacher, beta=beta).betas == [2.0]


def test_published_with_another_aggregation_is_refused_at_construction():
    with pytest.raises(AtlabError, match="published=True reproduces the authors' loss"):
        atlab.AntiTransferLoss(net(0), atlab.Teacher(net(1), "conv2"), aggregation="mean", published=True)


def test_identity_tells_losses_apart_and_does_not_depend_on_the_process():
    def mine(features):
        return features.mean((2, 3))

    def identity(**arguments):
        return atlab.AntiTransferLoss(net(0), atlab.Teacher(net(1), "conv2"), **arguments).identity

    assert identity() == identity() != identity(beta=2.0)
    assert "mine" in identity(aggregation=mine) and "0x" not in identity(aggregation=mine)


def test_beta_grows_over_the_warm_up():
    student, teacher = (atlab.models.vgg16(2, width=1 / 16).eval() for _ in range(2))
    loss, x = (
        atlab.AntiTransferLoss(student, atlab.Teacher(teacher, layers="conv3"), warm_up=4),
        torch.randn(2, 1, 32, 32),
    )
    values = []
    for epoch in (0, 1, 2, 4, 9):
        loss.set_epoch(epoch)
        student(x)
        values.append(float(loss(x).detach()))
    full = values[-1]
    assert full > 0 and values == pytest.approx([0, full / 4, full / 2, full, full])


def test_what_no_loss_can_be_is_one_sentence():
    student, teacher = (atlab.models.vgg16(2, width=1 / 64) for _ in range(2))
    with pytest.raises(AtlabError, match="warm_up must be at least 0 epochs, got -1"):
        atlab.AntiTransferLoss(student, atlab.Teacher(teacher, "conv5"), warm_up=-1)
    with pytest.raises(
        AtlabError, match=r"expected aggregation as a name or a function, got \['gram'\]; names: gram, "
    ):
        atlab.AntiTransferLoss(student, atlab.Teacher(teacher, "conv5"), aggregation=["gram"])
    at, x = atlab.AntiTransferLoss(student, atlab.Teacher(teacher, "conv5")), torch.rand(2, 1, 64, 64)
    student(x)
    with pytest.raises(
        AtlabError, match="the teacher cannot be called as the student was .*row numbers of clips are given as index="
    ):
        at(x, torch.tensor([0, 1]))
    coloured = atlab.AntiTransferLoss(
        student, atlab.Teacher(atlab.models.vgg16(2, width=1 / 64, in_channels=3), "conv5")
    )
    student(x)
    with pytest.raises(AtlabError, match="the teacher, called as the student was: vgg16 takes"):
        coloured(x)
