"""Anti-transfer as pure functions of feature maps (Guizzo, Weyde & Tarroni 2021, eq. 1-3 and table 6).

An *aggregation* turns feature maps [B, C, H, W] into a descriptor; a *similarity* compares the descriptors of
student and teacher, one value a clip. The loss is their composition, averaged over the batch.

Similarities need only inner products of descriptors, so each is written once for all of them. Everything is computed in
float32 under any autocast (float16 Grams overflow); float64 input stays float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from atlab.descriptors import (
    Descriptor, Factor, Maps, SquaredCosine, centre, flat, inner_products, is_kernel, per_clip, positive, self_product, size, u_centre, unit_scale,
)  # fmt: skip
from atlab.errors import AtlabError, unknown


# --- aggregations: feature maps [B, C, H, W] -> descriptor ------------------------------------------------


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
    return u_centre(self_product(clips)).unsqueeze(0)


def mean(features: Tensor) -> Tensor:
    """Mean over channels at each position (table 6): [B, C, H, W] -> [B, N]."""
    return flat(features).mean(1)


def sum(features: Tensor) -> Tensor:  # noqa: A001 - the field's name
    """Sum over channels at each position (table 6): [B, C, H, W] -> [B, N].

    Under `squared_cosine` and `cka`, which ignore scale, the same as `mean`.
    """
    return flat(features).sum(1)


def max(features: Tensor) -> Tensor:  # noqa: A001 - the field's name
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
    "gram": gram, "mean": mean, "sum": sum, "max": max, "comp_mul": comp_mul, "none": none,
    "pairwise": pairwise, "stochastic_pairwise": stochastic_pairwise,
    "position_gram": position_gram, "clip_kernel": clip_kernel,
}  # fmt: skip


# --- similarities: two descriptors -> one value a clip ----------------------------------------------------


def squared_cosine(student: Descriptor, teacher: Descriptor) -> Tensor:
    """Squared cosine of the vectorised descriptors (eq. 2): -> [B] in [0, 1], scale-invariant.

    A descriptor that is all zero has similarity 0 and a zero gradient.

    >>> squared_cosine(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.0]]))
    tensor([0.5000])
    """
    if isinstance(student, Tensor) and isinstance(teacher, Tensor):
        dtype = torch.promote_types(student.dtype, teacher.dtype)
        return SquaredCosine.apply(student.flatten(1).to(dtype), teacher.flatten(1).to(dtype))
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
    "squared_cosine": squared_cosine, "sigmoid_mse": sigmoid_mse, "cka": cka,
}  # fmt: skip


# --- the loss ---------------------------------------------------------------------------------------------

Aggregation = str | Callable[[Tensor], Tensor]
SimilarityName = str | Callable[[Tensor, Tensor], Tensor]


def anti_transfer_loss(
    student: Tensor,
    teacher: Tensor,
    aggregation: Aggregation = "gram",
    similarity: SimilarityName = "squared_cosine",
    *,
    published: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """Similarity of student and teacher feature maps, to be added to the loss (eq. 2 with beta = 1).

    Args:
        student: feature maps [B, C, H, W], with gradient.
        teacher: feature maps of the same clips at the same layer.
        aggregation: a name in `AGGREGATIONS`, or a callable [B, C, H, W] -> [B, n] or kernel [B, n, n].
        similarity: a name in `SIMILARITIES`, or a callable of two such descriptors -> [B].
        published: the authors' code instead of the paper: one Gram matrix over the batch, cosine of its rows,
            their absolute values averaged before the square. Only for "gram" with the paper's two similarities.
        reduction: "mean" -> a scalar, the mean over clips; "none" -> [B].

    Raises:
        AtlabError: an unknown name, feature maps whose shapes cannot be compared, fewer than 4 clips for
            `clip_kernel`.

    >>> x = torch.randn(4, 16, 12, 10)
    >>> round(float(anti_transfer_loss(x, x)), 4)
    1.0
    >>> anti_transfer_loss(x, -2 * x, aggregation="mean", reduction="none").shape
    torch.Size([4])
    """
    with torch.autocast(student.device.type, enabled=False):
        if published:
            return _published(student, teacher, aggregation, similarity, reduction)
        _check_shapes(student, teacher, aggregation)
        target = describe(teacher, aggregation, lean=not callable(similarity))
    return target_loss(student, target, aggregation, similarity, reduction=reduction)


def target_loss(
    student: Tensor,
    target: Descriptor,
    aggregation: Aggregation = "gram",
    similarity: SimilarityName = "squared_cosine",
    *,
    reduction: str = "mean",
) -> Tensor:
    """`anti_transfer_loss` against a teacher that was described beforehand: target = describe(features, aggregation).

    >>> x, y = torch.randn(4, 16, 12, 10), torch.randn(4, 16, 12, 10)
    >>> float(target_loss(x, describe(y)) - anti_transfer_loss(x, y))
    0.0
    """
    if reduction not in ("mean", "none"):
        raise unknown("reduction", reduction, ["mean", "none"])
    if aggregation == "clip_kernel" and reduction == "none":
        raise AtlabError("clip_kernel has one value a batch, none a clip: use reduction='mean'")
    compare = _resolve("similarity", similarity, SIMILARITIES)
    with torch.autocast(student.device.type, enabled=False):
        if callable(similarity):
            values = _compare_plain(compare, describe(student, aggregation, lean=False), target)
        else:
            values = compare(describe(student, aggregation), target)
    return values.mean() if reduction == "mean" else values


def describe(features: Tensor, aggregation: Aggregation = "gram", lean: bool = True) -> Descriptor:
    """What `aggregation` makes of feature maps [B, C, H, W]; kernels as `Factor` where that costs less.

    <x xᵀ, y yᵀ> = ||xᵀ y||², so a kernel of n examples with m features each can be left unbuilt; that takes
    fewer operations when m < n / 3 (conv11-13 of VGG16 for `gram`, early layers for `position_gram`).

    >>> type(describe(torch.randn(2, 512, 7, 8))).__name__, describe(torch.randn(2, 64, 30, 30)).shape
    ('Factor', torch.Size([2, 64, 64]))
    """
    if lean and aggregation in ("gram", "position_gram") and features.ndim > 1:
        n, m = features.shape[1], math.prod(features.shape[2:])  # channels, positions
        if aggregation == "gram" and 3 * m < n:
            return Factor(flat(features))
        if aggregation == "position_gram" and 3 * n < m:
            return Factor(flat(features).mT)
    return _resolve("aggregation", aggregation, AGGREGATIONS)(features)


def linear_cka(x: Tensor, y: Tensor, unbiased: bool = True) -> Tensor:
    """Linear CKA of two representations of the same n clips: [n, ...], [n, ...] -> scalar.

    Kornblith et al. 2019, eq. 4. The unbiased estimate (Song et al. 2012) may be negative and needs n >= 4;
    the biased one is near 1 for any features when n is small. Invariant to rotation and isotropic scaling.

    >>> x = torch.randn(50, 10)
    >>> round(float(linear_cka(x, 2 * x)), 4)
    1.0
    """
    if len(x) != len(y):
        raise AtlabError(
            f"CKA compares two representations of the same clips, found {len(x)} and {len(y)} clips"
        )
    if unbiased:
        return cka(clip_kernel(x.flatten(1)), clip_kernel(y.flatten(1))).squeeze(0)
    return cka(Factor(flat(x).flatten(1)[None]), Factor(flat(y).flatten(1)[None])).squeeze(0)


# --- names, shapes, other people's callables --------------------------------------------------------------


def _resolve(kind: str, given: str | Callable, registry: dict[str, Callable]) -> Callable:
    if callable(given):
        return given
    if given not in registry:
        raise unknown(kind, given, registry)
    return registry[given]


def _check_shapes(student: Tensor, teacher: Tensor, aggregation: Aggregation) -> None:
    """What has to agree: clips always, channels for `gram`, positions for all that keep them."""
    s, t = tuple(student.shape), tuple(teacher.shape)
    wants = {"gram": s[:2] == t[:2], "clip_kernel": s[0] == t[0]}
    for name in ("position_gram", "mean", "sum", "max", "comp_mul", "pairwise", "stochastic_pairwise"):
        wants[name] = s[0] == t[0] and s[2:] == t[2:]
    agrees = s[0] == t[0] if callable(aggregation) else wants.get(aggregation, s == t)
    if not agrees:
        raise AtlabError(
            f"student {s} and teacher {t} feature maps [B, C, H, W] cannot be compared by {aggregation!r}"
        )


def _compare_plain(compare: Callable, student: Descriptor, teacher: Descriptor) -> Tensor:
    """A user's similarity sees plain tensors: channel pairs are laid out as rows and averaged a clip."""
    if not isinstance(student, Maps):
        return compare(student, teacher)
    (b, c, n), k = student.x.shape, teacher.x.shape[1]
    if student.every_pair:
        s = student.x[:, :, None].expand(b, c, k, n).reshape(-1, n)
        t = teacher.x[:, None].expand(b, c, k, n).reshape(-1, n)
    else:
        s, t = (
            student.x.reshape(-1, n),
            teacher.x[:, torch.randint(k, (c,), device=teacher.x.device)].reshape(-1, n),
        )
    return compare(s, t).reshape(b, -1).mean(1)


def _published(student: Tensor, teacher: Tensor, aggregation, similarity, reduction: str) -> Tensor:
    """The authors' code: rows are the B * C maps of the whole batch, so clips are compared with each other."""
    if aggregation != "gram" or similarity not in ("squared_cosine", "sigmoid_mse") or reduction != "mean":
        raise AtlabError(
            "published=True reproduces the authors' batch-wide Gram: aggregation 'gram', similarity 'squared_cosine' or "
            f"'sigmoid_mse', reduction 'mean'; found {aggregation!r}, {similarity!r}, {reduction!r}"
        )
    _check_shapes(student, teacher, "none")
    g_s, g_t = (self_product(flat(f).flatten(0, 1)) / (f.numel() * 0.001) for f in (student, teacher))
    if similarity == "sigmoid_mse":
        return -torch.sigmoid((g_s - g_t).square().mean())
    rows = torch.nn.functional.cosine_similarity(g_s, g_t, dim=1, eps=1e-12)
    return rows.abs().mean().square()
