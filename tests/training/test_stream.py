"""The second stream of batches: which clips a step sees, what it does to weights and statistics, exact resume."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as nnf

import atlab
from atlab.errors import AtlabError
from atlab.training import Stream
from tests.training.test_loop import Net, Plain, clips, equal, net, quick, weights, without_time


class Small:
    """A loss term on a layer's outputs, which records the rows it was called with."""

    name = "small"

    def __init__(self, model, layer: str, stop_at: int = 0) -> None:
        self.taps, self.layer, self.rows, self.stop_at = atlab.Taps(model, layer), layer, [], stop_at

    def __call__(self, x, index=None):
        if len(self.rows) + 1 == self.stop_at:
            raise KeyboardInterrupt
        self.rows.append(index.tolist())
        return self.taps.take(x)[self.layer].square().mean()


def other(n: int = 20, batch_size: int = 6, shuffle: bool = True):
    return clips(n, batch_size=batch_size, shuffle=shuffle, seed=7)


def test_one_epoch_equals_a_plain_loop_over_both_batches():
    model, reference, train, second = net(Plain, classes=2), net(Plain, classes=2), clips(), other(24)
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.01)
    for (x, y, _), (z, _, _) in zip(train.epoch(0), second.epoch(0), strict=True):
        optimizer.zero_grad()
        (nnf.cross_entropy(reference(x), y) + reference.first(z.flatten(1)).square().mean()).backward()
        optimizer.step()
    term = Small(model, "first")
    history = quick(model, train, epochs=1, learning_rate=0.01, stream=Stream(second, [term]))
    for got, wanted in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(got, wanted, atol=1e-6)
    assert "validation_small" not in history
    with torch.no_grad():  # its column is the mean over steps, here of a network that does not move
        fixed = net(Plain, classes=2)
        values = [fixed.first(z.flatten(1)).square().mean().item() for z, _, _ in second.epoch(0)]
    sizes = [len(y) for _, y, _ in train.epoch(0)]
    found = quick(fixed, train, epochs=1, learning_rate=1e-30, stream=Stream(second, [Small(fixed, "first")]))
    expected = sum(n * v for n, v in zip(sizes, values, strict=True)) / sum(sizes)
    assert found["train_small"][0] == pytest.approx(expected, rel=1e-6)


def test_a_step_sees_the_full_batches_of_one_epoch_after_the_other():
    model, second = net(Plain, classes=2), other(20)
    term = Small(model, "first")
    quick(model, clips(), epochs=3, stream=Stream(second, [term]))
    full = [[batch.index.tolist() for batch in second.epoch(number)][:3] for number in range(4)]
    assert term.rows == [full[step // 3][step % 3] for step in range(12)], "12 steps of 4 an epoch, 3 full batches"


@pytest.mark.parametrize("statistics", ["shared", "apart"])
def test_running_statistics_count_the_second_stream_or_not(statistics):
    model, train, second = net(dropout=0.0), clips(6), other(6, shuffle=False)
    first = model.features[0]
    seen = [first(batches.x).detach().double() for batches in (train, second)]
    means = [maps.mean((0, 2, 3)) for maps in seen]
    expected = 0.1 * means[0]
    if statistics == "shared":
        expected = 0.9 * expected + 0.1 * means[1]
    term = Small(
        model, "features.1"
    )  # of the normalised maps: their variance is that of the weights if normalised by itself
    history = quick(model, train, epochs=1, learning_rate=1e-30, stream=Stream(second, [term], statistics))
    assert torch.allclose(model.features[1].running_mean.double(), expected, atol=1e-6)
    assert history["train_small"][0] == pytest.approx(1.0, abs=1e-3), "normalised by its own batch either way"


def test_without_a_term_only_the_statistics_move():
    alone, control = net(dropout=0.0), net(dropout=0.0)
    quick(alone, learning_rate=0.01, schedule="one_cycle")
    quick(control, learning_rate=0.01, schedule="one_cycle", stream=Stream(other()))
    trained = {name for name, tensor in weights(alone).items() if not torch.equal(tensor, weights(control)[name])}
    assert trained == {"features.1.running_mean", "features.1.running_var", "features.1.num_batches_tracked"}
    quick(apart := net(dropout=0.0), learning_rate=0.01, schedule="one_cycle", stream=Stream(other(), (), "apart"))
    assert equal(weights(apart), weights(alone))


def test_batch_norms_whose_weights_are_frozen_keep_their_statistics():
    model = net()
    model.features.requires_grad_(False)
    before = weights(model)
    quick(model, stream=Stream(other(), [Small(model, "features.0")]), epochs=1)
    assert all(torch.equal(before[name], t) for name, t in weights(model).items() if name.startswith("features."))


@pytest.mark.parametrize("stop_at", [2, 5, 6])
def test_a_training_interrupted_in_the_middle_ends_with_the_same_bits(tmp_path, stop_at):
    def run(path, stop_at=0, seed=0):
        model = net(Net, seed=seed)
        stream = Stream(other(), [Small(model, "features.1", stop_at)])
        history = quick(model, stream=stream, checkpoint=tmp_path / path, checkpoint_every=0, schedule="one_cycle")
        return model, history

    with pytest.raises(KeyboardInterrupt):
        run("interrupted", stop_at)
    resumed, whole = run("interrupted", seed=5), run("whole")
    assert equal(weights(resumed[0]), weights(whole[0]))
    assert without_time(resumed[1]) == without_time(whole[1])


def test_a_checkpoint_of_another_stream_is_refused(tmp_path):
    path, model = tmp_path / "c", net()
    with pytest.raises(KeyboardInterrupt):
        stream = Stream(other(), [Small(model, "features.1", 3)])
        quick(model, stream=stream, checkpoint=path, checkpoint_every=0)
    for changed in (
        {"stream": Stream(other(18), [Small(model, "features.1")])},
        {"stream": Stream(other(), [Small(model, "features.1")], "apart")},
        {"loss_terms": [Small(model, "features.1")]},
    ):
        with pytest.raises(AtlabError, match="belongs to another training: .*stream"):
            quick(model, checkpoint=path, **changed)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Stream(other(5)), "at least one full batch of 6 clips, found 5"),
        (lambda: Stream(other(), (), "own"), "unknown stream statistics 'own'"),
        (lambda: quick(net(), stream=Stream(other(batch_size=1))), "the second stream has batches of 1"),
        (
            lambda: quick(
                net(), loss_terms=[Small(net(), "features.1")], stream=Stream(other(), [Small(net(), "features.1")])
            ),
            "expected loss terms with different names",
        ),
    ],
)
def test_bad_use_is_named(make, message):
    with pytest.raises(AtlabError, match=message):
        make()
