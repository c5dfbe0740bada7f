"""Aggregations: what of feature maps [B, C, H, W] is compared."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from atlab.errors import AtlabError
from atlab.functional.descriptors import Descriptor, Maps, flat, self_product, u_centre


def gram(features: Tensor) -> Tensor:
    """Channel Gram matrix of each clip, G_ij = F_i . F_j (eq. 1): [B, C, H, W] -> [B, C, C].

    Compares channel i with channel i: the same features in another channel order count as different.

    >>> gram(torch.ones(2, 3, 4, 5))[0]
    tensor([[20., 20., 20.],
            [20., 20., 20.],
            [20., 20., 20.]])
    """
    return self_product(flat(features, keep_bfloat16=True))


def position_gram(features: Tensor) -> Tensor:
    """Position Gram matrix of each clip, P_xy = sum_c F_cx F_cy: [B, C, H, W] -> [B, N, N] with N = H W.

    Invariant to the order of the channels and to any rotation of them; student and teacher may differ in C.

    >>> position_gram(torch.ones(2, 3, 4, 5)).shape
    torch.Size([2, 20, 20])
    """
    return self_product(flat(features).mT)


def clip_kernel(features: Tensor) -> Tensor:
    """Kernel of the clips of a batch, U-centred: [B, C, H, W] -> [1, B, B].

    K = X Xᵀ over flattened clips; off-diagonal entries are centred so that the inner product of two such
    kernels is n (n - 3) times the unbiased estimate of HSIC (Song et al. 2012; Székely & Rizzo 2014), and their
    cosine the debiased linear CKA. Invariant to channel order and rotation; the value belongs to
    the batch, so B is a sample size: at least 4, better 32 or more.

    >>> clip_kernel(torch.randn(8, 3, 4, 5)).shape
    torch.Size([1, 8, 8])
    """
    clips = flat(features).flatten(1)
    if len(clips) < 4:
        raise AtlabError(
            f"clip_kernel compares clips and needs a batch of at least 4, found {len(clips)} (choose a batch size that leaves no smaller last batch)"
        )
    # U-centring removes a common mean anyway, but only after its square has cost the kernel precision.
    return u_centre(self_product(clips - clips.mean(0))).unsqueeze(0)


def mean(features: Tensor) -> Tensor:
    """Mean over channels at each position (table 6): [B, C, H, W] -> [B, N]."""
    return flat(features).mean(1)


def sum(features: Tensor) -> Tensor:
    """Sum over channels at each position (table 6): [B, C, H, W] -> [B, N].

    Under `squared_cosine` and `cka`, which ignore scale, the same as `mean`.
    """
    return flat(features).sum(1)


def max(features: Tensor) -> Tensor:
    """Maximum over channels at each position (table 6): [B, C, H, W] -> [B, N]."""
    return flat(features).amax(1)


def comp_mul(features: Tensor, power: float = 0.001, floor: float = 1e-8) -> Tensor:
    """Compressed multiplication (section 5.5): product over channels of F ** 0.001, [B, C, H, W] -> [B, N].

    Computed as exp(0.001 sum_c log F_c). Activations below `floor` (dead channels, negative values before the
    non-linearity) count as `floor` and have zero gradient; the formula itself would make every such product 0.
    """
    return torch.exp(power * flat(features).clamp_min(floor).log().sum(1))


def none(features: Tensor) -> Tensor:
    """The feature maps themselves, not aggregated: [B, C, H, W] -> [B, C N]."""
    return flat(features).flatten(1)


def pairwise(features: Tensor) -> Maps:
    """Every student channel against every teacher channel; the loss is the mean over the C x C pairs."""
    return Maps(flat(features), every_pair=True)


def stochastic_pairwise(features: Tensor) -> Maps:
    """Every student channel against one random teacher channel, drawn anew at each call from torch's generator.

    An unbiased estimate of `pairwise` at 1 / C of its cost.
    """
    return Maps(flat(features), every_pair=False)


AGGREGATIONS: dict[str, Callable[[Tensor], Descriptor]] = {
    "gram": gram,
    "mean": mean,
    "sum": sum,
    "max": max,
    "comp_mul": comp_mul,
    "none": none,
    "pairwise": pairwise,
    "stochastic_pairwise": stochastic_pairwise,
    "position_gram": position_gram,
    "clip_kernel": clip_kernel,
}
