"""Losses of the target that weigh clips and groups, against naive loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atlab.data import InMemory
from atlab.errors import AtlabError
from atlab.losses.target import GroupDro, ProductOfExperts, Weighted, of_groups, pairs
from tests.training.test_loop import clips, equal, net, quick, weights

GROUPS = torch.tensor([0, 0, 0, 1, 1, 2, -1, 0])


def batch(rows, classes: int = 3, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(rows), classes, generator=generator, requires_grad=True)
    return logits, torch.randint(classes, (len(rows),), generator=generator), torch.tensor(rows)


def cross_entropies(logits, y) -> np.ndarray:
    z = logits.detach().double().numpy()
    return np.array([np.log(np.exp(row).sum()) - row[code] for row, code in zip(z, y.tolist(), strict=True)])


def test_over_all_training_clips_it_is_the_mean_of_the_groups_means():
    logits, y, index = batch([0, 1, 2, 3, 4, 5, 7])
    values, groups = cross_entropies(logits, y), GROUPS[index].numpy()
    expected = np.mean([values[groups == g].mean() for g in range(3)])
    assert float(of_groups(GROUPS)(logits, y, index).detach()) == pytest.approx(expected, rel=1e-6)


def test_a_batch_has_the_mean_of_weight_times_cross_entropy():
    given = torch.tensor([0.5, 1.0, 0.0, 6.0])
    logits, y, index = batch([3, 0, 2])
    scaled = given.double().numpy() / np.mean([0.5, 1.0, 6.0])
    expected = np.mean(scaled[index.numpy()] * cross_entropies(logits, y))
    assert float(Weighted(given)(logits, y, index).detach()) == pytest.approx(expected, rel=1e-6)


def test_group_dro_follows_algorithm_1_step_by_step():
    loss, q = GroupDro(GROUPS, step=0.5), np.full(3, 1 / 3)
    for step, rows in enumerate(([0, 3, 5, 1], [4, 3], [7, 2, 5])):
        logits, y, index = batch(rows, seed=step)
        values, groups = cross_entropies(logits, y), GROUPS[index].numpy()
        means = np.array([values[groups == g].mean() if (groups == g).any() else 0.0 for g in range(3)])
        q = q * np.exp(0.5 * means)
        q /= q.sum()
        value = loss(logits, y, index)
        assert float(value.detach()) == pytest.approx(float(q @ means), rel=1e-6)
        assert np.allclose(loss.module.q, q, atol=1e-6)
        value.backward()
        softmax = torch.softmax(logits.detach().double(), 1).numpy()
        sizes = [(groups == g).sum() for g in groups]
        expected = [
            (q[g] / n) * (p - np.eye(3)[c]) for g, n, p, c in zip(groups, sizes, softmax, y.tolist(), strict=True)
        ]
        assert np.allclose(logits.grad, expected, atol=1e-6), "q is a constant to the gradient"


def test_a_product_of_experts_is_normalised_over_the_classes():
    logits, y, index = batch([4, 0, 2])
    expert = torch.rand(5, 3, generator=torch.Generator().manual_seed(9)) + 0.1
    expert /= expert.sum(1, keepdim=True)
    product = torch.softmax(logits.detach().double(), 1).numpy() * expert[index].double().numpy()
    expected = np.mean([-np.log(row[code] / row.sum()) for row, code in zip(product, y.tolist(), strict=True)])
    loss = ProductOfExperts(expert.log())
    assert float(loss(logits, y, index).detach()) == pytest.approx(expected, rel=1e-6)
    assert loss.identity != ProductOfExperts(expert.flip(0).log()).identity


def test_pairs_number_what_occurs_among_the_training_clips():
    words, speakers = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 1, 1, 0, -1, 1])
    found = pairs(words, speakers, torch.tensor([0, 1, 2, 5]))
    assert found.tolist() == [0, 1, 2, -1, -1, 3]
    with pytest.raises(AtlabError, match="needs a class of both factors"):
        pairs(words, speakers, torch.tensor([0, 4]))


def grouped(n: int = 20) -> torch.Tensor:
    return torch.cat([torch.full((100,), -1), torch.arange(n) % 3])  # the rows of `clips` begin at 100


def test_it_is_minimised_and_validation_keeps_the_cross_entropy():
    model, train = net(), clips(20)
    weighted = Weighted(torch.cat([torch.zeros(100), torch.arange(1.0, 21.0)]))
    history = quick(model, train, epochs=1, learning_rate=1e-30, target_loss=weighted)
    plain = quick(net(), train, epochs=1, learning_rate=1e-30)
    assert history["validation_loss"][0] == plain["validation_loss"][0]
    assert history["train_loss"][0] != plain["train_loss"][0]
    assert not equal(*(weights(m) for m in (trained(weighted), trained(None))))


def trained(target_loss, **kwargs):
    model = net()
    quick(model, clips(20), learning_rate=0.01, target_loss=target_loss, **kwargs)
    return model


def test_a_training_interrupted_in_the_middle_goes_on_with_its_distribution(tmp_path):
    class Stops(GroupDro):
        calls = 0

        def __call__(self, logits, y, index):
            self.calls += 1
            if self.calls == 6:
                raise KeyboardInterrupt
            return super().__call__(logits, y, index)

    options = {"checkpoint": tmp_path / "c", "checkpoint_every": 0, "schedule": "one_cycle"}
    with pytest.raises(KeyboardInterrupt):
        trained(Stops(grouped(), 0.3), **options)
    resumed, whole = GroupDro(grouped(), 0.3), GroupDro(grouped(), 0.3)
    assert equal(weights(trained(resumed, **options)), weights(trained(whole, schedule="one_cycle")))
    assert torch.equal(resumed.module.q, whole.module.q) and whole.module.q.unique().numel() == 3
    with pytest.raises(AtlabError, match="belongs to another training: target_loss"):
        trained(GroupDro(grouped(), 0.2), **options)


def test_the_small_group_is_learned_better_with_its_weight():
    """Two groups of 36 and 4 clips ask for opposite answers to the same picture: whoever counts more decides."""
    torch.manual_seed(0)
    groups = (torch.arange(40) >= 36).long()
    train = InMemory(torch.randn(40, 1, 8, 8), groups.clone(), batch_size=10, shuffle=True)
    found = {}
    for name, target_loss in (("plain", None), ("weighted", of_groups(groups)), ("dro", GroupDro(groups, 1.0))):
        model = net(dropout=0.0)
        model.features.requires_grad_(False)
        model.features[0].weight.data.zero_()  # the network sees nothing: it can only learn the share of the classes
        quick(model, train, train, epochs=15, learning_rate=0.1, schedule="one_cycle", target_loss=target_loss)
        with torch.no_grad():
            found[name] = float(model(train.x).softmax(1)[0, 1])
    assert found["plain"] == pytest.approx(0.1, abs=0.03)
    assert found["weighted"] == pytest.approx(0.5, abs=0.08) and found["dro"] > 0.3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Weighted(torch.tensor([1.0, -1.0])), "finite, at least 0"),
        (lambda: Weighted(torch.zeros(2)), "not all 0"),
        (lambda: ProductOfExperts(torch.zeros(2, 2).log()), "must be finite"),
        (lambda: of_groups(torch.tensor([0, 0, -1])), "at least two groups"),
        (lambda: GroupDro(torch.tensor([0, 2])), "numbered from 0"),
    ],
)
def test_bad_use_is_named(make, message):
    with pytest.raises(AtlabError, match=message):
        make()
