"""Many regressions at once against scikit-learn, one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from atlab.invariance.probes import logistic
from atlab.invariance.probes.logistic import Design, Problems

FOLDS = 3


def clips(n: int = 300, d: int = 6, classes: int = 3, seed: int = 0):
    """Features of several scales, one of them constant; unequal classes; folds."""
    rng = np.random.default_rng(seed)
    y = rng.choice(classes, n, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    x = rng.standard_normal((n, d)) + 0.8 * rng.standard_normal((classes, d))[y]
    x[:, 1] = 100 + 0.01 * x[:, 1]
    x[:, 2] = 3.0
    return x, y, rng.integers(FOLDS, size=n)


def fitted(x, y, part, strengths, *, classes=3, tolerance=1e-20, dtype=torch.float64, **more):
    design = Design(x, dtype=dtype)
    sets = ~torch.eye(FOLDS, dtype=torch.bool)
    fold = torch.arange(FOLDS).repeat_interleave(len(strengths))
    problems = Problems(
        torch.from_numpy(part),
        torch.from_numpy(np.atleast_2d(y)),
        classes,
        sets[fold],
        torch.zeros_like(fold),
        torch.tensor(strengths, dtype=torch.float64).repeat(FOLDS),
        **{k: more.pop(k) for k in ("balanced", "penalised") if k in more},
    )
    space = logistic.spaces(design.moments(problems.part, FOLDS), sets)
    return (design, problems, logistic.fit(design, problems, space, fold, tolerance=tolerance, most=3000, **more))


@pytest.mark.parametrize("balanced", [True, False])
def test_coefficients_and_objective_are_scikit_learns(balanced):
    x, y, part = clips()
    strengths = [0.01, 1.0]
    _, problems, solution = fitted(x, y, part, strengths, balanced=balanced)
    for p in range(len(problems.strength)):
        chosen = part != p // len(strengths)
        c = strengths[p % len(strengths)]
        scaled = StandardScaler().fit_transform(x[chosen])
        other = LogisticRegression(C=c, class_weight="balanced" if balanced else None, tol=1e-12, max_iter=10_000)
        other.fit(scaled, y[chosen])
        np.testing.assert_allclose(solution.standardised[p].T, other.coef_, atol=1e-6)
        weights = len(scaled) / (3 * np.bincount(y[chosen])) if balanced else np.ones(3)
        logs = other.predict_log_proba(scaled)[np.arange(len(scaled)), y[chosen]]
        want = -(weights[y[chosen]] * logs).mean() + (other.coef_**2).sum() / (2 * c * len(scaled))
        assert float(solution.objective[p]) == pytest.approx(want, abs=1e-9)


def test_logits_are_those_of_scikit_learn_on_all_clips():
    x, y, part = clips()
    design, _, solution = fitted(x, y, part, [0.1])
    found = torch.cat([z for _, z in logistic.logits(design, solution)])
    for fold in range(FOLDS):
        scaler = StandardScaler().fit(x[part != fold])
        other = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-12, max_iter=10_000)
        other.fit(scaler.transform(x[part != fold]), y[part != fold])
        want = other.predict_proba(scaler.transform(x))
        np.testing.assert_allclose(found[:, fold].softmax(1), want, atol=1e-6)


@pytest.mark.parametrize("c", [0.01, 1.0])
def test_two_classes_are_scikit_learns_with_the_same_strength(c):
    x, y, part = clips(classes=2)
    _, _, solution = fitted(x, y, part, [c], classes=2)
    chosen = part != 0
    scaled = StandardScaler().fit_transform(x[chosen])
    other = LogisticRegression(C=c, class_weight="balanced", tol=1e-12, max_iter=10_000).fit(scaled, y[chosen])
    one = solution.standardised[0, :, 1] - solution.standardised[0, :, 0]
    np.testing.assert_allclose(one, other.coef_[0], atol=1e-6)
    weights = len(scaled) / (2 * np.bincount(y[chosen]))
    logs = other.predict_log_proba(scaled)[np.arange(len(scaled)), y[chosen]]
    want = -(weights[y[chosen]] * logs).mean() + (other.coef_**2).sum() / (2 * c * len(scaled))
    assert float(solution.objective[0]) == pytest.approx(want, abs=1e-9)


def test_penalised_intercepts_are_a_constant_feature():
    x, y, part = clips()
    design, _, solution = fitted(x, y, part, [0.1], balanced=False, penalised=True)
    scaler = StandardScaler().fit(x[part != 0])
    other = LogisticRegression(C=0.1, fit_intercept=False, tol=1e-12, max_iter=10_000)
    other.fit(np.c_[scaler.transform(x[part != 0]), np.ones((part != 0).sum())], y[part != 0])
    want = other.predict_proba(np.c_[scaler.transform(x), np.ones(len(x))])
    found = torch.cat([z for _, z in logistic.logits(design, solution)])[:, 0].softmax(1)
    np.testing.assert_allclose(found, want, atol=1e-6)


def test_streaming_and_starting_elsewhere_find_the_same(monkeypatch):
    x, y, part = clips()
    _, _, want = fitted(x, y, part, [0.1, 1.0])
    start = torch.randn(6, 6, 3, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    _, _, moved = fitted(x, y, part, [0.1, 1.0], start=start)
    np.testing.assert_allclose(moved.standardised, want.standardised, atol=1e-6)
    monkeypatch.setattr(logistic, "RESIDENT", 0)
    monkeypatch.setattr(logistic, "BLOCK", 1000)  # several blocks of clips
    design, _, streamed = fitted(x, y, part, [0.1, 1.0])
    assert design._resident is None
    np.testing.assert_allclose(streamed.standardised, want.standardised, atol=1e-6)
    _, _, some = fitted(x, y, part, [0.1], rows=torch.arange(300).flip(0))
    np.testing.assert_allclose(some.standardised, want.standardised[::2], atol=1e-6)


def test_starting_at_the_optimum_ends_at_once():
    x, y, part = clips()
    design, _, want = fitted(x, y, part, [0.1])
    space = logistic.spaces(design.moments(torch.from_numpy(part), FOLDS), ~torch.eye(FOLDS, dtype=torch.bool))
    centred = want.intercepts + torch.einsum("pd,pdk->pk", space.mean, want.coefficients)
    _, _, again = fitted(x, y, part, [0.1], start=(want.standardised, centred), tolerance=1e-14)
    assert again.passes == 1
    np.testing.assert_allclose(again.standardised, want.standardised, atol=1e-6)


def test_float32_comes_near_with_a_tolerance_to_match():
    x, y, part = clips(1000, 20, 5)
    _, _, want = fitted(x, y, part, [0.01, 10.0], classes=5)
    single = {"classes": 5, "dtype": torch.float32}
    for tolerance, near in ((1e-5, 1e-2), (1e-8, 1e-5)):
        _, _, found = fitted(x.astype(np.float32), y, part, [0.01, 10.0], tolerance=tolerance, **single)
        assert (found.objective - want.objective).abs().max() < near


@pytest.mark.gpu
def test_a_gpu_finds_the_same():
    x, y, part = clips()
    _, _, want = fitted(x, y, part, [0.1])
    design = Design(x, "cuda", torch.float64)
    sets = ~torch.eye(FOLDS, dtype=torch.bool, device="cuda")
    fold = torch.arange(FOLDS, device="cuda")
    problems = Problems(
        torch.from_numpy(part).cuda(),
        torch.from_numpy(y[None]).cuda(),
        3,
        sets,
        torch.zeros_like(fold),
        torch.full((FOLDS,), 0.1, dtype=torch.float64, device="cuda"),
    )
    found = logistic.fit(
        design, problems, logistic.spaces(design.moments(problems.part, FOLDS), sets), fold, tolerance=1e-20
    )
    np.testing.assert_allclose(found.standardised.cpu(), want.standardised, atol=1e-6)
