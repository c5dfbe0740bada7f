"""Treatments: copied layers equal the base's bit for bit, frozen ones stay so, batch-norm statistics too, others move."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from atlab import models, training
from atlab.data import InMemory
from atlab.errors import AtlabError
from atlab.system import devices
from atlab.transfer import Cut, copy_layers, layers
from atlab.transfer.prefix import PrefixBatches
from atlab.transfer.treatments import TREATMENTS, apply, treatment

FP32 = devices.precision("fp32", "cpu")
BUILDS = {
    "alexnet": lambda classes: models.alexnet(classes, width=1 / 32, images="small"),
    "vgg16": lambda classes: models.vgg16(classes, width=1 / 64, in_channels=3),
    "densenet40": lambda classes: models.densenet40(classes, width=1 / 12),
}
LAYERS = {"alexnet": 8, "vgg16": 16, "densenet40": 8}


def clips(count: int = 12, batch_size: int = 4, shuffle: bool = False) -> InMemory:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(count, 3, 32, 32, generator=generator)
    return InMemory(x, torch.arange(count) % 3, batch_size=batch_size, shuffle=shuffle, seed=1)


def net(name: str, classes: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = BUILDS[name](classes)
    model.set_normalisation(0.1 + 0.1 * seed, 0.5)
    for module in model.modules():  # statistics that are nobody's defaults
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model


def state(model: nn.Module, start: int, end: int | None = None) -> dict[str, torch.Tensor]:
    parts = list(layers(model).items())[start:end]
    return {f"{name}.{key}": t.clone() for name, part in parts for key, t in part.state_dict().items()}


def same(a: dict, b: dict) -> list[bool]:
    assert a.keys() == b.keys()
    return [torch.equal(a[key], b[key]) for key in a]


def fitted(cut: Cut) -> None:
    training.fit(
        cut, clips(shuffle=True), clips(), epochs=1, learning_rate=0.01, precision="fp32", device="cpu", progress=False
    )


@pytest.mark.parametrize("name", BUILDS)
def test_the_layers_in_a_row_are_the_network(name):
    model = net(name).eval()
    x = clips().x
    assert len(layers(model)) == LAYERS[name]
    assert {id(p) for part in layers(model).values() for p in part.parameters()} == {id(p) for p in model.parameters()}
    for n in (0, 1, LAYERS[name] - 1, LAYERS[name]):
        assert torch.allclose(Cut(model, n, frozen=False)(x), model(x), atol=1e-6)


@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.parametrize("which", ["BnB", "BnB+", "AnB", "AnB+", "random"])
def test_weights_are_where_the_treatment_says(name, which):
    own, other, new = net(name, 3, 1), net(name, 5, 2), net(name, 3, 3)
    drawn, n = copy.deepcopy(new), LAYERS[name] // 2
    cut = apply(which, n, new, own, other)
    source = {"own": own, "other": other, "": drawn}[TREATMENTS[which].source]
    assert all(same(state(new, 0, n), state(source, 0, n))), "copied bit for bit"
    assert all(same(state(new, n), state(drawn, n))), "the layers above are new"
    assert float(new.input_mean.flatten()[0]) == float(source.input_mean.flatten()[0])
    before = state(new, 0, n)
    fitted(cut)
    below = same(state(new, 0, n), before)
    parameters = [p.requires_grad for part in list(layers(new).values())[:n] for p in part.parameters()]
    if TREATMENTS[which].tuned:
        assert not all(below) and all(parameters)
    else:
        assert all(below) and not any(parameters), "neither weights nor batch-norm statistics move"
    assert not any(same(state(new, n), state(drawn, n))[:2]), "the layers above learn"
    assert all(same(state(own, 0), state(net(name, 3, 1), 0))), "the base network is left as it was"


def test_frozen_batch_norm_moves_where_it_learns():
    """So that the test above could fail: fine-tuned, the statistics of the same layers do move."""
    base, new = net("densenet40", 3, 1), net("densenet40", 3, 3)
    cut = apply("BnB+", 4, new, base)
    before = {k: t for k, t in state(new, 0, 4).items() if "running" in k}
    fitted(cut)
    assert before and not any(torch.equal(t, state(new, 0, 4)[k]) for k, t in before.items())


@pytest.mark.parametrize("which", TREATMENTS)
def test_no_layer_copied_leaves_the_new_network(which):
    new = net("alexnet", 3, 3)
    drawn = copy.deepcopy(new)
    cut = apply(which, 0, new, net("alexnet", 3, 1), net("alexnet", 3, 2))
    assert all(same(state(new, 0), state(drawn, 0))) and not cut.frozen
    assert all(p.requires_grad for p in new.parameters()) and torch.equal(new.input_mean, drawn.input_mean)


def test_all_layers_copied_is_the_base_network():
    base, new = net("alexnet", 3, 1), net("alexnet", 3, 3)
    cut = apply("BnB", 8, new, base)
    assert all(same(state(new, 0), state(base, 0)))
    x = clips().x
    assert torch.equal(cut.eval()(x), base.eval()(x)) and not any(p.requires_grad for p in cut.parameters())
    fitted(apply("BnB+", 8, new := net("alexnet", 3, 3), base))
    assert not any(same(state(new, 0), state(base, 0))), "frozen no more: all of it learns on"


@pytest.mark.parametrize("which", ["AnB", "AnB+", "random"])
def test_all_layers_of_another_task_cannot_learn_the_target(which):
    with pytest.raises(AtlabError, match="n = 8 leaves no layer to learn the target; allowed: 0 to 7"):
        apply(which, 8, net("alexnet"), net("alexnet"), net("alexnet"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: treatment("BNB"), "treatment.*'BNB'.*BnB"),
        (lambda: apply("base", 2, net("alexnet")), "'base' copies no layer"),
        (lambda: apply("AnB", 9, net("alexnet")), "0 to 8 of AlexNet, found 9"),
        (lambda: apply("AnB", 1.5, net("alexnet")), "0 to 8 of AlexNet, found 1.5"),
        (
            lambda: apply("AnB", 2, net("alexnet"), own=net("alexnet")),
            "AnB copies layers of a network of the other task",
        ),
        (lambda: copy_layers(net("vgg16"), net("alexnet"), 2), "layer conv1 of the source does not fit"),
        (
            lambda: copy_layers(net("vgg16"), net("densenet40"), 2),
            "layer block1 of the source does not fit.*None instead",
        ),
        (lambda: layers(nn.Linear(2, 2)), "Linear cannot be cut into layers"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(AtlabError, match=message):
        call()


@pytest.mark.parametrize("name", BUILDS)
def test_training_from_cached_activations_is_training_with_the_layers_run(name):
    """Dropout on, another order every epoch: the same losses, epoch by epoch, and the same weights to rounding."""
    n, trained, histories = LAYERS[name] // 2, [], []
    for cached in (False, True):
        cut = apply("BnB", n, net(name, 3, 3), net(name, 3, 1))
        data, order = clips(16), clips(16, shuffle=True)
        model = cut
        if cached:
            model, stored = cut.rest, PrefixBatches(cut.prefix, data, FP32)
            data, order = stored, stored.like(order)
        histories.append(
            training.fit(
                model, order, data, epochs=3, learning_rate=1e-3, precision="fp32", device="cpu", progress=False, seed=5
            )
        )
        trained.append(state(cut.model, 0))
    columns = ["train_loss", "train_accuracy", "validation_loss", "validation_accuracy"]
    assert histories[0][columns].to_numpy() == pytest.approx(histories[1][columns].to_numpy(), abs=1e-5)
    apart = torch.cat([(a - b).abs().flatten() for a, b in zip(*(t.values() for t in trained), strict=True)])
    assert (apart > 1e-5).float().mean() < 0.001, "Adam makes whole steps of gradients that are rounding alone"
    assert not torch.allclose(histories_tensor(histories[0]), histories_tensor(histories[0])[[1, 2, 0]]), "it did learn"


def histories_tensor(history) -> torch.Tensor:
    return torch.tensor(history["train_loss"].to_numpy())


def test_the_frozen_layers_run_once_a_clip(tmp_path):
    cut = apply("BnB", 3, net("alexnet", 3, 3), net("alexnet", 3, 1))
    seen = []
    cut.prefix.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    stored = PrefixBatches(cut.prefix, clips(), FP32)
    ran = sum(seen)
    for epoch in range(3):
        assert sum(len(batch.x) for batch in stored.epoch(epoch)) == 12
    assert ran == 12 + 1 and sum(seen) == ran, "each once, and one clip to learn the shape"


def test_a_large_cache_lies_on_disk_and_is_found_again(tmp_path, monkeypatch):
    cut = apply("BnB", 3, net("alexnet", 3, 3), net("alexnet", 3, 1))
    memory = PrefixBatches(cut.prefix, clips(), FP32)
    disk = PrefixBatches(cut.prefix, clips(), FP32, tmp_path, resident_bytes=100)
    assert disk.identity == memory.identity and (tmp_path / disk.identity / "activations.npy").exists()
    runs = []
    cut.prefix.register_forward_hook(lambda *_: runs.append(1))
    again = PrefixBatches(cut.prefix, clips(), FP32, tmp_path, resident_bytes=100)
    assert len(runs) == 1, "for the shape only"
    for one, other in zip(memory.epoch(0), again.like(clips()).epoch(0), strict=True):
        assert torch.equal(one.x, other.x) and torch.equal(one.y, other.y) and torch.equal(one.index, other.index)
    assert PrefixBatches(net("alexnet"), clips(), FP32).identity != memory.identity
    with pytest.raises(AtlabError, match="activations are of other clips"):
        memory.like(clips(8))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(AtlabError, match=r"0\.0 GB, .* has 0\.0 GB free; cached=False"):
        PrefixBatches(cut.prefix, clips(), FP32, tmp_path / "other", resident_bytes=100)
