"""Similarities of two descriptors, one value per clip."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from atlab.errors import AtlabError
from atlab.functional.aggregations import clip_kernel
from atlab.functional.descriptors import (
    Descriptor,
    Factor,
    SquaredCosine,
    centre,
    flat,
    inner_products,
    is_kernel,
    per_clip,
    positive,
    size,
    unit_scale,
)


def squared_cosine(student: Descriptor, teacher: Descriptor) -> Tensor:
    """Squared cosine of the vectorised descriptors (eq. 2): -> [B] in [0, 1], scale-invariant.

    A descriptor that is all zero has similarity 0 and a zero gradient.

    >>> squared_cosine(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.0]]))
    tensor([0.5000])
    """
    if isinstance(student, Tensor) and isinstance(teacher, Tensor):
        dtype = torch.promote_types(student.dtype, teacher.dtype)
        return SquaredCosine.apply(student.flatten(1).to(dtype), teacher.flatten(1).to(dtype))[0]
    st, ss, tt = inner_products(unit_scale(student), unit_scale(teacher))
    return per_clip(st.square() / positive(ss * tt))


def sigmoid_mse(student: Descriptor, teacher: Descriptor) -> Tensor:
    """Negative mean squared error under a sigmoid, -sigmoid(MSE) (section 5.5): -> [B] in [-1, -0.5].

    Not scale-invariant; its gradient vanishes from an MSE of about 10. The entries of raw Gram matrices are sums over
    positions and far beyond that: with `gram` or `position_gram` the loss then is -1 and trains nothing. Scale the
    features in an aggregation of your own, or use `published=True`, whose Gram is divided by its size.

    >>> sigmoid_mse(torch.zeros(1, 4), torch.zeros(1, 4))
    tensor([-0.5000])
    """
    if isinstance(student, Tensor) and isinstance(teacher, Tensor):
        return -torch.sigmoid((student - teacher).square().flatten(1).mean(1))
    st, ss, tt = inner_products(student, teacher)
    return per_clip(-torch.sigmoid((ss + tt - 2 * st).clamp_min(0) / size(student)))


def cka(student: Descriptor, teacher: Descriptor) -> Tensor:
    """Linear centred kernel alignment (Kornblith et al. 2019): -> [B], in [0, 1] for `gram`, `position_gram`.

    Kernels are centred over their examples (channels of `gram`, positions of `position_gram`); vectors and
    maps are one-feature representations, whose CKA is the squared correlation over positions. With
    `clip_kernel`, centred already, it is the unbiased CKA of the batch and may fall below 0.

    >>> from atlab.functional import gram
    >>> x = torch.randn(2, 8, 5, 6)
    >>> [round(value, 4) for value in cka(gram(x), gram(3 * x)).tolist()]
    [1.0, 1.0]
    """
    student, teacher = centre(unit_scale(student)), centre(unit_scale(teacher))
    st, ss, tt = inner_products(student, teacher)
    if is_kernel(student):
        return per_clip(st * torch.rsqrt(positive(ss)) * torch.rsqrt(positive(tt)))
    return per_clip(st.square() / positive(ss * tt))


SIMILARITIES: dict[str, Callable[[Descriptor, Descriptor], Tensor]] = {
    "squared_cosine": squared_cosine,
    "sigmoid_mse": sigmoid_mse,
    "cka": cka,
}


def linear_cka(x: Tensor, y: Tensor, unbiased: bool = True) -> Tensor:
    """Linear CKA of two representations of the same n clips: [n, ...], [n, ...] -> scalar.

    Kornblith et al. 2019, eq. 4. The unbiased estimate (Song et al. 2012) may be negative and needs n >= 4;
    the biased one is near 1 for any features when n is small. Invariant to rotation and isotropic scaling.

    >>> x = torch.randn(50, 10)
    >>> round(float(linear_cka(x, 2 * x)), 4)
    1.0
    """
    if len(x) != len(y):
        raise AtlabError(f"CKA compares two representations of the same clips, found {len(x)} and {len(y)} clips")
    if unbiased:
        return cka(clip_kernel(x), clip_kernel(y)).squeeze(0)
    return cka(Factor(flat(x).flatten(1)[None]), Factor(flat(y).flatten(1)[None])).squeeze(0)
