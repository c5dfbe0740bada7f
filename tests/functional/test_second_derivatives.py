"""First and second derivatives of every aggregation and similarity against finite differences, in float64."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from atlab import functional as F

# Channels and positions so that kernels are built, and so that they are left as factors.
SHAPES = [(4, 3, 2, 2), (4, 7, 1, 2), (4, 2, 3, 3)]


def maps(seed: int, shape: tuple) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator, dtype=torch.float64) + 0.05).requires_grad_()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("similarity", F.SIMILARITIES)
@pytest.mark.parametrize("aggregation", F.AGGREGATIONS)
def test_of_student_and_teacher(aggregation, similarity, shape):
    def loss(s, t):
        torch.manual_seed(0)  # stochastic_pairwise draws its pairs
        return F.anti_transfer_loss(s, t, aggregation, similarity)

    s, t = maps(0, shape), maps(1, shape)
    assert gradcheck(loss, (s, t), fast_mode=True) and gradgradcheck(loss, (s, t), fast_mode=True)


@pytest.mark.parametrize("similarity", ["squared_cosine", "sigmoid_mse"])
def test_of_the_published_form(similarity):
    def loss(s, t):
        return F.anti_transfer_loss(s, t, similarity=similarity, published=True)

    inputs = maps(2, SHAPES[0]), maps(3, SHAPES[0])
    assert gradcheck(loss, inputs) and gradgradcheck(loss, inputs)


def test_the_norm_of_the_gradient_has_the_gradient_of_a_naive_formula():
    """A gradient penalty, as a user writes it, entry by entry against plain autograd operations."""
    s, t = maps(4, SHAPES[0]), maps(5, SHAPES[0]).detach()

    def naive(x):
        a, b = (torch.einsum("bcn,bdn->bcd", f.flatten(2), f.flatten(2)).flatten(1) for f in (x, t))
        return ((a * b).sum(1).square() / (a.square().sum(1) * b.square().sum(1))).mean()

    def penalty(loss):
        (first,) = torch.autograd.grad(loss, s, create_graph=True)
        return torch.autograd.grad(first.square().sum(), s)[0]

    found, wanted = penalty(F.anti_transfer_loss(s, t)), penalty(naive(s))
    assert wanted.abs().max() > 1e-6 and torch.allclose(found, wanted, rtol=1e-8, atol=1e-12)


def test_a_silent_clip_has_finite_second_derivatives():
    x = maps(6, SHAPES[0]).detach()
    x[1] = 0
    x.requires_grad_()
    (first,) = torch.autograd.grad(F.anti_transfer_loss(x, maps(7, SHAPES[0]).detach()), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    assert torch.isfinite(second).all() and second[1].abs().max() == 0 and second[0].abs().max() > 0


def test_functional_transforms_differentiate_it():
    s, t = maps(8, SHAPES[0]).detach(), maps(9, SHAPES[0]).detach()
    for aggregation in F.AGGREGATIONS:
        if aggregation == "stochastic_pairwise":
            continue
        found = torch.func.grad(lambda x, a=aggregation: F.anti_transfer_loss(x, t, a))(s)
        s.requires_grad_()
        (wanted,) = torch.autograd.grad(F.anti_transfer_loss(s, t, aggregation), s)
        s = s.detach()
        assert torch.allclose(found, wanted, atol=1e-12), aggregation
