"""What keeps a step cheap, by counts that no other load on the machine changes."""

from __future__ import annotations

import contextlib

import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import atlab
from atlab.data import Batches, Spectrogram, loaders
from atlab.data.synthetic.toy import toy
from atlab.functional.aggregations import gram
from atlab.functional.anti_transfer import anti_transfer_loss, target_loss
from atlab.functional.descriptors import flat, self_product
from atlab.system import devices
from atlab.training.loop import fit


def maps(layout: torch.memory_format, dtype: torch.dtype = torch.float32, channels: int = 16) -> torch.Tensor:
    x = torch.rand(3, channels, 12, 10, generator=torch.Generator().manual_seed(0)).to(dtype)
    return x.to(memory_format=layout).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_of_the_loss_has_the_layout_of_the_feature_maps(layout, dtype):
    """One of another layout would be converted, and everything below would compute on it."""
    x, other = maps(layout, dtype), torch.rand(3, 16, 12, 10)
    seen = []
    x.register_hook(lambda gradient: seen.append(gradient))
    anti_transfer_loss(x, other).backward()
    assert seen[0].dtype == dtype and seen[0].is_contiguous(memory_format=layout)


def test_the_gradient_is_the_same_in_both_layouts():
    gradients = []
    for layout in (torch.contiguous_format, torch.channels_last):
        x = maps(layout)
        weights = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(1))
        (self_product(flat(x)) * weights).sum().backward()
        gradients.append(x.grad)
    reference = torch.einsum("bij,bjhw->bihw", (weights + weights.mT).double(), x.detach().double())
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-6)
    assert torch.allclose(gradients[1].double(), reference, rtol=1e-5)


class Copies(TorchDispatchMode):
    """Bytes written by operations that only convert or copy."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        out = function(*arguments, **(options or {}))
        if function.overloadpacket.__name__ in ("clone", "_to_copy", "copy_", "contiguous"):
            self.bytes += out.nbytes
        return out


@pytest.mark.parametrize("channels", [4, 16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("dtype", "casts", "kernel"), [(torch.float32, 0, 0), (torch.bfloat16, 4 + 4, 2)])
def test_feature_maps_are_cast_but_never_copied(layout, dtype, casts, kernel, channels):
    """In float32 nothing is copied; from bfloat16 both networks' maps are cast to float32, and the gradient of a Gram matrix back."""
    x, other = maps(layout, dtype, channels), maps(layout, dtype, channels).detach()
    with Copies() as copies:
        anti_transfer_loss(x, other).backward()
    assert copies.bytes == casts * x.numel() + kernel * len(x) * channels**2


# Operations that only look at types or hand on the same memory in another shape.
VIEWS = (
    "view",
    "permute",
    "transpose",
    "expand",
    "_unsafe_view",
    "unsqueeze",
    "squeeze",
    "detach",
    "t",
    "slice",
    "promote_types",
)


class Kernels(TorchDispatchMode):
    """Counts operations that compute something; on small descriptors each costs its call."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.count += function.overloadpacket.__name__ not in VIEWS
        return function(*arguments, **(options or {}))


def test_the_loss_and_its_gradient_take_few_operations():
    x, target = maps(torch.channels_last), gram(torch.rand(3, 16, 12, 10))
    with Kernels() as kernels:
        target_loss(x, target, "gram", "squared_cosine").backward()
    assert kernels.count <= 28


# ---------------------------------------------------------------- what a training runs


class Calls:
    """Counts the clips that pass through a module."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.clips, self.calls = 0, 0
        module.register_forward_hook(self._count)

    def _count(self, _, inputs, output) -> None:
        self.clips, self.calls = self.clips + len(output), self.calls + 1


def vgg(seed: int):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return atlab.models.vgg16(3, width=1 / 32)


@pytest.fixture(scope="module")
def fs(tmp_path_factory):
    return toy(tmp_path_factory.mktemp("toy") / "set", words=3, speakers=3, repetitions=3, samples=4200)


def parts(fs) -> tuple[Batches, Batches]:
    codes = fs.codes("word")
    return Batches(fs, range(16), codes, batch_size=6, shuffle=True), Batches(fs, range(16, 24), codes, batch_size=6)


def train(
    fs,
    make_teacher=lambda model, data: atlab.Teacher(model, "conv5"),
    epochs: int = 3,
    precision: str = "auto",
    aggregation="gram",
):
    """(history, calls of the student, calls of the first convolution of the teacher) of a small training."""
    student, data = vgg(0), parts(fs)
    teacher = make_teacher(vgg(1), data)
    of_student = Calls(student)
    of_teacher = Calls(teacher.model.features[0]) if hasattr(teacher, "model") else None
    with atlab.AntiTransferLoss(student, teacher, aggregation) as at:
        options = {"device": "cpu", "precision": precision, "progress": False, "patience": epochs}
        history = fit(student, *data, loss_terms=[at], epochs=epochs, **options)
    return history.drop(columns="seconds"), of_student, of_teacher


def test_one_forward_a_step_of_either_network_and_none_beyond_the_layer(fs):
    _, of_student, of_teacher = train(fs)
    steps = 3 * (3 + 2)  # 16 clips by 6 in training, 8 by 6 in validation
    assert (of_student.calls, of_student.clips) == (steps, 3 * 24)
    assert (of_teacher.calls, of_teacher.clips) == (steps, 3 * 24)


def test_a_cache_takes_one_teacher_pass_and_a_second_run_none(fs, tmp_path):
    counted = []

    def cached(model, data):
        live = atlab.Teacher(model, "conv5")
        counted.append(Calls(live.model.features[0]))
        return atlab.CachedTeacher(live, data, tmp_path / "cache")

    for _ in range(2):
        train(fs, cached, epochs=2)
    assert [calls.clips for calls in counted] == [24, 0]


def test_spectrograms_are_computed_once_a_training_where_they_fit(fs, monkeypatch):
    made = []
    forward = Spectrogram.forward
    monkeypatch.setattr(Spectrogram, "forward", lambda self, waves: (made.append(len(waves)), forward(self, waves))[1])
    train(fs)
    assert sum(made) == 24
    monkeypatch.setattr(loaders, "KEPT_BYTES", 0)
    train(fs)
    assert sum(made) == 24 + 3 * 24


# ---------------------------------------------------------------- the fast ways give the slow ways' numbers


@pytest.mark.parametrize("limits", [{"KEPT_BYTES": 0}, {"RESIDENT_BYTES": 0}])
def test_however_clips_are_held_the_loss_curve_has_the_same_bits(fs, monkeypatch, limits):
    wanted, *_ = train(fs)
    for name, value in limits.items():
        monkeypatch.setattr(loaders, name, value)
    pd.testing.assert_frame_equal(train(fs)[0], wanted, check_exact=True)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 2e-2)])
def test_cached_targets_give_the_live_teachers_loss_curve(fs, tmp_path, precision, tolerance):
    """Targets are stored in float16: 11 bits."""

    def cached(model, data):
        with devices.precision(precision, "cpu").autocast():
            return atlab.CachedTeacher(atlab.Teacher(model, "conv5"), data, tmp_path / "cache", channels_last=True)

    live, fast = train(fs, precision=precision)[0], train(fs, cached, precision=precision)[0]
    assert live["train_at"].iloc[0] > 0.1
    pd.testing.assert_frame_equal(fast, live, rtol=tolerance)


def test_a_gradient_in_bfloat16_gives_the_loss_curve_of_one_in_float32(fs):
    """bfloat16 has 8 bits; the features' gradient is rounded to it in either case."""
    wanted = train(fs, precision="bf16", aggregation=lambda maps: self_product(flat(maps)))[0]
    found = train(fs, precision="bf16")[0]
    assert found["train_at"].iloc[0] == pytest.approx(wanted["train_at"].iloc[0], rel=1e-3)
    pd.testing.assert_frame_equal(found, wanted, rtol=2e-2)


def test_channels_last_gives_the_loss_curve_of_the_default_layout(fs, monkeypatch):
    wanted, *_ = train(fs, precision="fp32")
    monkeypatch.setattr(devices.Precision, "place", lambda mode, model: model.to(mode.device))
    pd.testing.assert_frame_equal(train(fs, precision="fp32")[0], wanted, rtol=1e-4)


# ---------------------------------------------------------------- nothing waits for the device


def test_a_step_never_looks_at_a_value_on_the_device(fs, tmp_path, monkeypatch):
    """Tensors on the meta device have no values: whoever asks for one fails."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # which does not know that device
    data = parts(fs)
    for cached in (False, True):
        student, teacher = vgg(0), atlab.Teacher(vgg(1), ["conv2", "conv13"])
        if cached:
            teacher = atlab.CachedTeacher(teacher, data, tmp_path / "cache")
        mode = devices.Precision("bf16", torch.device("meta"), True)
        mode.place(student)
        batch = next(iter(data[0].epoch(0)))
        x, y = batch.x.to("meta"), batch.y.to("meta")
        with atlab.AntiTransferLoss(student, teacher) as at:
            losses = torch.nn.functional.cross_entropy(student(x), y) + at(x, index=batch.index)
            losses.backward()
            torch.optim.Adam(student.parameters()).step()
        with pytest.raises((RuntimeError, NotImplementedError)):
            losses.item()
