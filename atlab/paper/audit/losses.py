"""The published loss compared with the paper's, and what either cannot see: feature maps in, numbers out.

The published behaviours are written anew from their description, in NumPy and float64, independent of `atlab.functional`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from atlab import functional


def paper_similarity(student: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """Eq. 1 and 2 clip by clip: feature maps [B, C, H, W], [B, C, H, W] -> [B] in [0, 1].

    >>> maps = np.arange(24.0).reshape(1, 2, 3, 4)
    >>> paper_similarity(maps, 3 * maps).round(6)
    array([1.])
    """
    values = []
    for one, other in zip(np.float64(student), np.float64(teacher), strict=True):
        grams = [maps.reshape(len(maps), -1) @ maps.reshape(len(maps), -1).T for maps in (one, other)]
        s, t = (gram.ravel() for gram in grams)
        values.append((s @ t / (np.linalg.norm(s) * np.linalg.norm(t))) ** 2)
    return np.array(values)


def published_similarity(student: np.ndarray, teacher: np.ndarray) -> float:
    """The authors' code: one Gram matrix over the maps of all clips, the cosine of each of its rows, their absolute
    values averaged, the mean squared: [B, C, H, W], [B, C, H, W] -> a number.
    """
    grams = []
    for maps in (np.float64(student), np.float64(teacher)):
        rows = maps.reshape(maps.shape[0] * maps.shape[1], -1)
        grams.append(rows @ rows.T / maps.size / 0.001)
    cosines = [s @ t / (np.linalg.norm(s) * np.linalg.norm(t) or 1.0) for s, t in zip(*grams, strict=True)]
    return float(np.mean(np.abs(cosines)) ** 2)


def gram(student: Tensor, teacher: Tensor) -> dict[str, float]:
    """Both losses of the same feature maps [B, C, H, W], each from `atlab.functional` and derived anew.

    `gradients` is the cosine of their gradients for the student's maps, `between_clips` the share of the published
    Gram's entries that compare different clips.
    """
    x = student.detach().double().requires_grad_()
    losses = [functional.anti_transfer_loss(x, teacher.double(), published=published) for published in (False, True)]
    slopes = [torch.autograd.grad(loss, x)[0] for loss in losses]
    arrays = student.detach().numpy(), teacher.detach().numpy()
    return {
        "paper": float(losses[0].detach()),
        "paper_again": float(paper_similarity(*arrays).mean()),
        "published": float(losses[1].detach()),
        "published_again": published_similarity(*arrays),
        "gradients": float(torch.cosine_similarity(slopes[0].flatten(), slopes[1].flatten(), dim=0)),
        "between_clips": 1 - 1 / len(x),
        "factor": float((losses[1] / losses[0]).detach()),
    }


def beta(student: Tensor, teacher: Tensor, value: float = -1.0) -> dict[str, float]:
    """The weight of the loss taken once (paper) and twice (published HEAD): change of similarity after a small step.

    Each step goes down the gradient of the weighted loss; a negative beta should raise the similarity.
    """
    x = student.detach().double().requires_grad_()
    before = functional.anti_transfer_loss(x, teacher.double())
    (slope,) = torch.autograd.grad(before, x)
    changes = {}
    for name, weight in (("once", value), ("twice", value * value), ("twice_positive", 1.0)):
        step = -1e-3 * weight * slope * x.detach().norm() / slope.norm()
        changes[name] = float(functional.anti_transfer_loss(x.detach() + step, teacher.double()) - before.detach())
    return changes


def sigmoid_variants(mse: float, beta: float = 1.0) -> dict[str, float]:
    """The paper's negative MSE under a sigmoid and the code's two, with their slopes over the MSE.

    paper: -beta sigmoid(MSE), the code's first form too; second: sigmoid(-beta MSE). At beta = 1 they differ by 1 in value and in
    nothing else.

    >>> {name: round(value, 4) for name, value in sigmoid_variants(1.0, beta=20).items()}
    {'first': -14.6212, 'second': 0.0, 'first_slope': -3.9322, 'second_slope': -0.0}
    """
    m = torch.tensor(float(mse), dtype=torch.float64, requires_grad=True)
    first, second = -beta * torch.sigmoid(m), torch.sigmoid(-beta * m)
    slopes = [float(torch.autograd.grad(loss, m)[0]) for loss in (first, second)]
    return {
        "first": float(first.detach()),
        "second": float(second.detach()),
        "first_slope": slopes[0],
        "second_slope": slopes[1],
    }


def vanishing(student: Tensor, teacher: Tensor, scales: Sequence[float] = (0.01, 1.0)) -> dict[str, float]:
    """Sigmoid MSE of raw Gram matrices: MSE, loss and its gradient's norm with both maps scaled by each of `scales`;
    names end in the scale without its point (mse_001, mse_1).
    """
    numbers = {}
    for scale in scales:
        x, y = (scale * student.detach().double()).requires_grad_(), scale * teacher.double()
        loss = functional.anti_transfer_loss(x, y, similarity="sigmoid_mse")
        (slope,) = torch.autograd.grad(loss, x)
        difference = functional.gram(x) - functional.gram(y)
        name = f"{scale:g}".replace(".", "")
        numbers[f"mse_{name}"] = float(difference.detach().square().mean())
        numbers[f"loss_{name}"], numbers[f"gradient_{name}"] = float(loss.detach()), float(slope.norm())
    return numbers


def dead_channels(student: Tensor, teacher: Tensor) -> dict[str, float]:
    """Compressed multiplication against the number of dead channels at each position: feature maps after ReLU.

    `correlation` of the two over positions of the student's clips, `similarity` of unrelated maps under squared cosine.
    """
    products = functional.comp_mul(student.detach()).double()
    dead = (student.detach() == 0).sum(1).flatten(1).double()
    both = torch.stack([products.flatten(), dead.flatten()])
    value = functional.anti_transfer_loss(student.detach(), teacher, aggregation="comp_mul")
    return {"correlation": float(torch.corrcoef(both)[0, 1]), "similarity": float(value)}
