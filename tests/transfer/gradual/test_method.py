"""Gradual transfer: copied layers are the base's, held ones (with their statistics) stay, others move; nothing is lost."""

from __future__ import annotations

import copy

import pytest
import torch

import atlab
from atlab.data import InMemory
from atlab.errors import AtlabError
from atlab.models import densenet40, fayek_a, fayek_b
from atlab.system import devices
from atlab.transfer.gradual import method as room
from atlab.transfer.gradual.method import copy_hidden, gradual, intervals


def task(classes: int, shape: tuple[int, ...], clips: int = 24, seed: int = 0, **options) -> InMemory:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(clips) % classes
    x = torch.randn(clips, *shape, generator=generator) + y.float().reshape(-1, 1, 1, 1)
    return InMemory(x, y, batch_size=8, rows=torch.arange(clips) + 100, **options)


def trained(build, shape, **arguments):
    """A base whose batch-norm statistics are not those of a new network."""
    torch.manual_seed(1)
    base = build(3, **arguments)
    data = task(3, shape)
    base.set_normalisation(0.5, 2.0)
    atlab.training.fit(base, data, data, epochs=1, progress=False)
    return base


BUILDS = {
    "a": (fayek_a, (1, 12, 9), {"width": 1 / 32, "coefficients": 12, "context": 9}),
    "b": (fayek_b, (1, 12, 9), {"width": 1 / 64, "coefficients": 12, "context": 9}),
    "densenet": (densenet40, (1, 8, 8), {"width": 1 / 12, "in_channels": 1}),
}


@pytest.fixture(scope="module", params=list(BUILDS))
def base_and_data(request):
    build, shape, arguments = BUILDS[request.param]
    base = trained(build, shape, **arguments)
    return base, task(2, shape, seed=5, shuffle=True), task(2, shape, clips=10, seed=6)


def stage_of(name: str) -> str:
    return name.split(".")[1] if name.startswith("stages.") else ""


def test_copied_layers_equal_the_base_bit_for_bit(base_and_data):
    base = base_and_data[0]
    torch.manual_seed(3)
    new = copy_hidden(base, 5).state_dict()
    for name, tensor in base.state_dict().items():
        if stage_of(name) == "output":
            assert new[name].shape != tensor.shape
        else:
            assert torch.equal(new[name], tensor), name


def test_held_stages_keep_weights_and_statistics_and_the_others_move(base_and_data):
    base, train, validation = base_and_data
    before = copy.deepcopy(base.state_dict())
    names = [name for name, _ in base.stages.named_children()]
    held = [0, 1, len(names) - 2, len(names) - 1]
    seen = []
    for result in gradual(base, 2, train, validation, held, epochs=2, progress=False, learning_rate=0.01):
        seen.append(result.held)
        fixed = names[: result.held]
        assert not result.model.training and len(result.history) == 2
        for name, tensor in result.model.state_dict().items():
            stage = stage_of(name)
            if stage == "output":
                continue
            same = torch.equal(tensor, before[name])
            if stage in fixed or not stage:
                assert same, f"{name} moved with {result.held} stages held"
            elif name.endswith(("weight", "running_mean", "running_var", "num_batches_tracked")):
                assert not same, f"{name} did not move with {result.held} stages held"
    assert seen == held
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items()), (
        "the base is left alone"
    )


def test_the_output_layer_is_tuned_alone_first(base_and_data):
    """With all hidden stages held the result is logistic regression on the base's last hidden activations."""
    base, train, validation = base_and_data
    hidden = len(base.stages) - 1
    (result,) = gradual(base, 2, train, validation, [hidden], epochs=3, output_epochs=2, progress=False, seed=4)
    torch.manual_seed(4)
    new = copy_hidden(base, 2).eval()
    mode = devices.precision("auto", "cpu")  # as in training: bf16 where the CPU is made for it
    with torch.no_grad(), mode.settings(), mode.autocast():
        x, v = (new.stages[:hidden]((data.x - new.input_mean) / new.input_std).float() for data in (train, validation))
    features = [
        InMemory(part, data.y, batch_size=8, shuffle=data.shuffle, rows=data.rows)
        for part, data in ((x, train), (v, validation))
    ]
    atlab.training.fit(new.stages.output, *features, epochs=2, patience=2, seed=4, progress=False)
    second = atlab.training.fit(new.stages.output, *features, epochs=3, seed=4, progress=False)
    assert torch.allclose(result.model.stages.output.weight, new.stages.output.weight, atol=1e-4)
    assert result.history["train_loss"].tolist() == pytest.approx(second["train_loss"].tolist(), rel=1e-3)


def test_activations_kept_and_computed_anew_train_the_same_network(base_and_data, monkeypatch):
    base, train, validation = base_and_data

    def run():
        (result,) = gradual(base, 2, train, validation, [1], epochs=2, progress=False)
        return result.model.state_dict()

    kept = run()
    monkeypatch.setattr(room, "RESIDENT_BYTES", 0)
    anew = run()
    assert all(torch.allclose(kept[name].float(), anew[name].float(), atol=1e-5) for name in kept)


def test_held_stages_are_computed_once_not_once_an_epoch(base_and_data, monkeypatch):
    base, train, validation = base_and_data
    drawn = []
    epoch = InMemory.epoch

    def counted(self, number, start=0):
        for batch in epoch(self, number, start):
            drawn.append(self is train)
            yield batch

    monkeypatch.setattr(InMemory, "epoch", counted)
    list(gradual(base, 2, train, validation, [1, 2], epochs=4, progress=False))
    # The output layer's own tuning and two values of l_c: one pass each, and two batches to learn shapes.
    assert sum(drawn) == 3 * (len(train) + 2)


def test_a_new_normalisation_and_the_same_seed_again(base_and_data):
    base, train, validation = base_and_data
    first, second = (
        next(gradual(base, 2, train, validation, [0], epochs=1, progress=False, normalisation=(1.0, 3.0), seed=9))
        for _ in range(2)
    )
    assert float(first.model.input_mean.flatten()[0]) == 1.0 and float(first.model.input_std.flatten()[0]) == 3.0
    assert atlab.models.weights_hash(first.model) == atlab.models.weights_hash(second.model)


def test_intervals_are_the_papers():
    assert list(intervals(fayek_b(2, width=1 / 64)).values()) == list(range(13))
    assert intervals(densenet40(2, width=1 / 12)) == {
        "0": 0,
        "block 1": 1,
        "blocks 2-3": 3,
        "blocks 4-5": 5,
        "blocks 6-7": 7,
    }


def test_what_cannot_be_transferred_is_refused():
    base = fayek_a(2, width=1 / 32)
    data = task(2, (1, 40, 15), clips=4)
    with pytest.raises(AtlabError, match="0 to 5 held stages of fayek_a, got 6"):
        next(gradual(base, 2, data, data, [6]))
    with pytest.raises(AtlabError, match="output_epochs must be at least 1, found 0"):
        next(gradual(base, 2, data, data, [0], output_epochs=0))
    with pytest.raises(AtlabError, match="unknown architecture with stages: 'vgg16'"):
        copy_hidden(atlab.models.vgg16(2, width=1 / 64), 2)
