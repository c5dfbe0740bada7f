"""LEACE against its guarantee and the package's own fit; erasing in a network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from atlab.data import Batches, InMemory
from atlab.errors import AtlabError
from atlab.invariance import features, removal


def planted(n: int = 900, classes: int = 3, d: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Correlated features with the class in their means."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = (rng.standard_normal((n, d)) + 2 * rng.standard_normal((classes, d))[y]) @ rng.standard_normal((d, d))
    return torch.from_numpy(x), torch.from_numpy(y)


def test_no_linear_probe_is_better_than_one_that_sees_nothing():
    x, y = planted()
    centre, change = removal.leace(x, y)
    erased = (x - (x - centre) @ change).numpy()
    before = cross_val_score(LogisticRegression(max_iter=2000), x.numpy(), y.numpy(), cv=5).mean()
    assert before > 0.9
    # Its own clips: not even a probe without regularisation that is judged on its training clips beats a constant.
    probe = LogisticRegression(C=1e6, max_iter=5000, tol=1e-10).fit(erased, y.numpy())
    loss = -probe.predict_log_proba(erased)[np.arange(len(y)), y].mean()
    assert loss == pytest.approx(np.log(3), abs=1e-6)
    covariance = (erased - erased.mean(0)).T @ (np.eye(3)[y] - 1 / 3) / len(y)
    assert np.abs(covariance).max() < 1e-9 * float(x.abs().max())


def test_it_is_the_packages_fit_and_the_smallest_change():
    from concept_erasure import LeaceFitter

    x, y = planted()
    fitter = LeaceFitter.fit(
        x, torch.nn.functional.one_hot(y).double(), shrinkage=False, constrain_cov_trace=False, svd_tol=1e-7
    )
    centre, change = removal.leace(x, y)
    torch.testing.assert_close(x - (x - centre) @ change, fitter.eraser(x), atol=1e-8, rtol=1e-8)
    # Projecting the class means out of the plain features erases too, and changes the features more (in their own metric).
    means = torch.stack([x[y == k].mean(0) for k in range(3)]) - x.mean(0)
    _, _, directions = torch.linalg.svd(means, full_matrices=False)
    plain = (x - x.mean(0)) @ directions[:2].T @ directions[:2]
    metric = torch.linalg.inv(torch.cov(x.T, correction=0))

    def size(difference):
        return float(((difference @ metric) * difference).sum(1).mean())

    assert size((x - centre) @ change) < size(plain)


def test_an_erased_layer_holds_nothing_linear_and_the_network_is_left_as_it_was(tones, networks):
    model, rows = networks[0], np.arange(96)
    codes = tones.codes("speaker")
    fit = Batches(tones, rows, codes, batch_size=16)
    before = features.extract(model, features.batches_of(tones, rows), ["conv5"])
    eraser = removal.erase(model, fit, "conv5", pool="mean", precision="fp32")["conv5"]
    whole = features.extract(model, features.batches_of(tones, rows), ["conv5"], "mean", precision="fp32")["conv5"]
    with removal.erased(model, eraser):
        inside = features.extract(model, features.batches_of(tones, rows), ["conv5"], "mean", precision="fp32")["conv5"]
    one, other = (np.stack([found[codes == k].mean(0) for k in range(3)]).std(0).max() for found in (inside, whole))
    assert one < 1e-3 * other
    after = features.extract(model, features.batches_of(tones, rows), ["conv5"])
    np.testing.assert_array_equal(before.logits, after.logits)


@pytest.mark.parametrize("rule", removal.RULES)
def test_maps_are_changed_by_the_eraser_of_their_vectors(rule):
    maps = torch.rand(9, 4, 5, 6, dtype=torch.float64)
    clips = InMemory(maps.float(), torch.arange(9) % 3, batch_size=4)
    model = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 1))
    eraser = removal.erase(model, clips, "0", rule, "mean")["0"]
    out = eraser.maps(maps)
    if rule == "position":
        torch.testing.assert_close(out[2, :, 3, 1], eraser.vectors(maps[2, :, 3, 1].float()).float(), check_dtype=False)
    else:
        torch.testing.assert_close(out.mean((2, 3)), eraser.vectors(maps.mean((2, 3)).float()), check_dtype=False)
        torch.testing.assert_close(out - out.mean((2, 3), True), maps - maps.mean((2, 3), True), atol=1e-5, rtol=1e-4)
    assert out.dtype == maps.dtype


def test_a_network_that_uses_the_factor_loses_by_its_removal_and_one_that_does_not_keeps_its_accuracy(monkeypatch):
    """The class is in one channel; one network reads it there, the other reads the factor, which goes with it in training."""
    y = torch.arange(200) % 2
    factor = (torch.arange(200) // 2) % 2
    x = torch.stack([y, factor], 1).float()[:, :, None, None].expand(-1, -1, 4, 4) + 0.1 * torch.rand(200, 2, 4, 4)

    def reads(channel: int) -> torch.nn.Module:
        head = torch.nn.Linear(2, 2)
        with torch.no_grad():
            head.weight.zero_(), head.bias.copy_(torch.tensor([0.0, -5.5]))
            head.weight[1, channel] = 10
        return torch.nn.Sequential(torch.nn.Identity(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), head)

    test = InMemory(x[100:], y[100:], batch_size=50)
    losses = {}
    for name, channel, code in (("its own", 0, factor), ("used", 0, y), ("other", 1, factor)):
        fit = InMemory(x[:100], code[:100], batch_size=50)
        losses[name] = removal.removal(reads(channel), fit, test, "0", pool="mean", progress=False).iloc[0]
    assert losses["its own"]["accuracy"] == 1 and losses["its own"]["difference"] == 0
    assert losses["used"]["erased"] < 0.7 and losses["used"]["high"] < 0
    assert losses["other"]["n"] == 100


def test_what_cannot_be_erased_is_named(networks, tones):
    batches = Batches(tones, range(4), np.zeros(len(tones), np.int64), batch_size=4)
    with pytest.raises(AtlabError, match="of one class"):
        removal.erase(networks[0], batches, "conv1")
    with pytest.raises(AtlabError, match="unknown erasing rule 'pool'; nearest: 'pooled'"):
        removal.erase(networks[0], batches, "conv1", "pool")
