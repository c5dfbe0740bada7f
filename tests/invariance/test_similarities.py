"""Similarity against naive float64 computations, with its declared invariances and its interval's coverage."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atlab import models
from atlab.data import InMemory
from atlab.errors import AtlabError
from atlab.invariance import similarities


def naive_hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012, eq. 5, term by term."""
    n = len(x)
    a, b = x @ x.T, y @ y.T
    np.fill_diagonal(a, 0), np.fill_diagonal(b, 0)
    one = np.ones(n)
    total = np.trace(a @ b) + one @ a @ one * (one @ b @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ a @ b @ one)
    return total / (n * (n - 3))


def features(n: int = 24, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, 5, generator=generator, dtype=torch.float64)
    return x, 3 + x.flatten(1) @ torch.randn(30, 7, generator=generator, dtype=torch.float64) + torch.randn(
        n, 7, generator=generator
    )


def cka(x: torch.Tensor, y: torch.Tensor) -> float:
    cross, one, two = similarities.hsic([x], [y])
    return float(cross[0, 0] / np.sqrt(one[0] * two[0]))


def test_hsic_is_the_naive_one():
    x, y = features()
    a, b = x.flatten(1).numpy(), y.numpy()
    cross, one, two = similarities.hsic([x, y], [y])
    assert cross[0, 0] == pytest.approx(naive_hsic(a, b), rel=1e-9) and cross[1, 0] == pytest.approx(
        naive_hsic(b, b), rel=1e-9
    )
    assert one[0] == pytest.approx(naive_hsic(a, a), rel=1e-9) and two[0] == pytest.approx(naive_hsic(b, b), rel=1e-9)
    # Large values that hardly vary, in single precision.
    far = (x + 1000).float()
    assert similarities.hsic([far], [y])[1][0] == pytest.approx(naive_hsic(a, a), rel=1e-2)


def test_networks_are_compared_by_the_means_of_their_batches(networks, tones):
    from atlab import Taps
    from atlab.invariance.features import batches_of

    batches = batches_of(tones, range(0, 96, 2), batch_size=16)
    found = similarities.similarity(*networks, batches, ["conv2", "conv5"], progress=False).set_index(
        ["layer", "other"]
    )
    sums = np.zeros(3)
    for x, _, _ in batches.epoch(0):
        with torch.no_grad(), Taps(networks[0], ["conv2", "conv5"]) as one, Taps(networks[1], ["conv5"]) as two:
            networks[0](x), networks[1](x)
            a, b = one["conv2"].double().flatten(1).numpy(), two["conv5"].double().flatten(1).numpy()
        sums += [naive_hsic(a, b), naive_hsic(a, a), naive_hsic(b, b)]
    assert found.loc[("conv2", "conv5"), "cka"] == pytest.approx(sums[0] / np.sqrt(sums[1] * sums[2]), rel=1e-4)
    assert found.loc[("conv2", "conv5"), "batches"] == 3


def test_cka_does_not_see_rotation_scale_and_shift():
    x, y = features()
    x = x.flatten(1)
    want = cka(x, y)
    rotation = torch.linalg.qr(torch.randn(30, 30, dtype=torch.float64))[0]
    order = torch.randperm(30)
    for same in (x @ rotation, 7.5 * x, x + 11, x[:, order]):
        assert cka(same, y) == pytest.approx(want, abs=1e-9)
    stretched = x * torch.linspace(0.01, 10, 30, dtype=torch.float64)
    assert abs(cka(stretched, y) - want) > 0.01, "it is not invariant to other linear maps"
    assert cka(x, x) == pytest.approx(1.0)


def test_at_similarity_sees_the_order_of_channels_and_not_the_scale_of_the_map():
    class Given(torch.nn.Module):
        """Feature maps as they come."""

        def __init__(self, change=lambda x: x):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))
            self.layer, self.change = torch.nn.Identity(), change

        def forward(self, x):
            return self.layer(self.change(x * self.scale)).mean((2, 3))

    x = torch.rand(12, 6, 4, 5) * torch.linspace(0.1, 3, 6)[:, None, None]
    clips = InMemory(x, torch.zeros(12, dtype=torch.int64), batch_size=6)

    def at(change) -> float:
        return float(similarities.similarity(Given(), Given(change), clips, ["layer"], progress=False)["at"][0])

    assert at(lambda x: x) == pytest.approx(1.0, abs=1e-6)
    assert at(lambda x: 9 * x) == pytest.approx(1.0, abs=1e-6)
    assert at(lambda x: x.flip(1)) < 0.9
    assert at(lambda x: x.flatten(2)[:, :, torch.arange(19, -1, -1)].unflatten(2, (4, 5))) == pytest.approx(
        1.0, abs=1e-6
    )
    one = torch.nn.functional.normalize((x.flatten(2) @ x.flatten(2).mT).flatten(1).double(), dim=1)
    two = torch.nn.functional.normalize((x.flip(1).flatten(2) @ x.flip(1).flatten(2).mT).flatten(1).double(), dim=1)
    assert at(lambda x: x.flip(1)) == pytest.approx(float((one * two).sum(1).square().mean()), rel=1e-5)


def test_planted_likeness_is_ordered():
    rng = np.random.default_rng(3)
    speaker = np.eye(5)[np.arange(100) % 5]
    values = []
    for amount in (0.0, 0.5, 1.0, 3.0):
        x = rng.standard_normal((100, 20))
        x[:, :5] += amount * 3 * speaker
        values.append(cka(torch.from_numpy(x), torch.from_numpy(speaker)))
    assert values == sorted(values) and abs(values[0]) < 0.1 and values[-1] > 0.5


@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_the_interval_of_cka_holds_its_level(shared):
    """Gaussian features that share a part; the true value is that of all batches together."""
    rng, size, batches, repetitions = np.random.default_rng(4), 32, 8, 1000
    x = rng.standard_normal((batches * repetitions, size, 20))
    y = shared * x * np.linspace(1, 0, 20) + rng.standard_normal(x.shape)
    terms = unbiased(x, y)
    cross, one, two = (part.mean() for part in terms)
    truth, hits = cross / np.sqrt(one * two) if shared else 0.0, 0
    for start in range(0, len(x), batches):
        some = [
            (np.array([[c]]), np.array([a]), np.array([b]))
            for c, a, b in zip(*(t[start : start + batches] for t in terms), strict=True)
        ]
        row = similarities._cka_rows(some, np.full(batches, size), ["a"], ["b"])[0]
        hits += row["low"] <= truth <= row["high"]
    assert 0.93 <= hits / repetitions <= 0.97, hits / repetitions


def unbiased(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HSIC (x, y), (x, x) and (y, y) of many batches [B, n, D] at once, by U-centring."""
    n = x.shape[1]

    def centred(z):
        k = z @ z.transpose(0, 2, 1) * (1 - np.eye(n))
        rows = k.sum(2)
        k = k - (rows[:, :, None] + rows[:, None]) / (n - 2) + k.sum((1, 2))[:, None, None] / ((n - 1) * (n - 2))
        return k * (1 - np.eye(n))

    a, b = centred(x), centred(y)
    return tuple((p * q).sum((1, 2)) / (n * (n - 3)) for p, q in ((a, b), (a, a), (b, b)))


def test_what_stands_above_the_floor_was_learned(networks, tones):
    from atlab.invariance.features import batches_of

    table = similarities.similarity(
        networks[0], networks[0], batches_of(tones, range(48), batch_size=16), "conv5", floor=True, progress=False
    )
    assert (
        table["cka"][0] == pytest.approx(1.0, abs=1e-5) and table["cka_floor"][0] < 1 and 0 < table["at_floor"][0] < 1
    )


def test_random_weights_keep_form_and_normalisation(networks):
    fresh = similarities.random_weights(networks[0], 3)
    assert fresh.input_mean == networks[0].input_mean and not fresh.training
    again = similarities.random_weights(networks[0], 3)
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), again.parameters(), strict=True))
    assert not torch.equal(fresh.features[0].weight, networks[0].features[0].weight)
    foreign = torch.nn.Sequential(torch.nn.Linear(3, 4))
    assert not torch.equal(similarities.random_weights(foreign)[0].weight, foreign[0].weight)


def test_too_few_clips_are_named(networks, tones):
    from atlab.invariance.features import batches_of

    with pytest.raises(AtlabError, match="at least 4, found 3"):
        similarities.similarity(*networks, batches_of(tones, range(3)), "conv1")


def test_random_weights_keep_the_card_that_says_which_classes_the_outputs_are(tmp_path):
    path = models.save(
        models.vgg16(3, width=1 / 32), tmp_path / "three.safetensors", task="word", classes=["a", "b", "c"]
    )
    assert similarities.random_weights(models.load(path)).card["classes"] == ["a", "b", "c"]
