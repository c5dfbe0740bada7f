"""Anti-transfer as pure functions of feature maps (Guizzo, Weyde & Tarroni 2021, eq. 1-3 and table 6).

An *aggregation* turns feature maps [B, C, H, W] into a descriptor; a *similarity* compares the descriptors of
student and teacher, one value per clip. The loss is their composition, averaged over the batch.

Similarities need only inner products of descriptors, so each is written once for all of them. Everything is computed in
float32 under any autocast (float16 Grams overflow); float64 input stays float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from atlab.errors import AtlabError, unknown
from atlab.functional.aggregations import AGGREGATIONS
from atlab.functional.descriptors import Descriptor, Factor, Maps, flat, self_product
from atlab.functional.similarities import SIMILARITIES

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
        raise AtlabError("clip_kernel has one value per batch, none per clip: use reduction='mean'")
    compare = resolve("similarity", similarity, SIMILARITIES)
    with torch.autocast(student.device.type, enabled=False):
        if callable(similarity):
            values = _compare_plain(compare, describe(student, aggregation, lean=False), target)
        else:
            described = describe(student, aggregation)
            _check_descriptors(described, target)
            values = compare(described, target)
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
    return resolve("aggregation", aggregation, AGGREGATIONS)(features)


# --- names, shapes, other people's callables --------------------------------------------------------------


def resolve(kind: str, given: str | Callable, registry: dict[str, Callable]) -> Callable:
    """The function of a name, or the callable given; AtlabError with the nearest names if there is none."""
    if callable(given):
        return given
    if not isinstance(given, str):
        raise AtlabError(f"expected {kind} as a name or a function, got {given!r}; names: {', '.join(registry)}")
    if given not in registry:
        raise unknown(kind, given, registry)
    return registry[given]


def _check_shapes(student: Tensor, teacher: Tensor, aggregation: Aggregation, published: bool = False) -> None:
    s, t = tuple(student.shape), tuple(teacher.shape)
    if s == t or (not published and (s[0] == t[0] if callable(aggregation) else _comparable(s, t, aggregation))):
        return
    others = ", ".join(name for name in AGGREGATIONS if _comparable(s, t, name))
    raise AtlabError(
        f"student {s} and teacher {t} feature maps [B, C, ...] cannot be compared by {aggregation!r}{' as published' if published else ''}; "
        + (f"aggregations that compare these shapes: {others}" if others else "no aggregation compares these shapes")
    )


def _comparable(s: tuple, t: tuple, aggregation: str) -> bool:
    """Whether an aggregation makes descriptors of one extent of both shapes; tried on small maps that differ where these do."""
    if s[0] != t[0]:
        return False
    clips, differs = min(s[0], 4), [a != b for a, b in zip(s[1:], t[1:], strict=False)]
    small = [
        torch.zeros(clips, *(3 + k * d for d in differs), *[3] * (len(x) - 1 - len(differs)))
        for k, x in enumerate((s, t))
    ]
    try:
        extents = [_extent(AGGREGATIONS[aggregation](maps)) for maps in small]
    except AtlabError:  # too few clips for a kernel of clips
        return False
    return extents[0] == extents[1]


def _check_descriptors(student: Descriptor, teacher: Descriptor) -> None:
    """AtlabError if a described teacher does not fit the student."""
    s, t = _extent(student), _extent(teacher)
    if s != t:
        raise AtlabError(
            f"the student's descriptor has shape {s} and the teacher's {t}: student and teacher differ in clips, channels or positions, so "
            "choose another layer or aggregation"
        )


def _extent(d: Descriptor) -> tuple:
    if isinstance(d, Maps):
        return d.x.shape[0], d.x.shape[2]
    return (*d.x.shape[:2], d.x.shape[1]) if isinstance(d, Factor) else tuple(d.shape)


def _compare_plain(compare: Callable, student: Descriptor, teacher: Descriptor) -> Tensor:
    """A user's similarity sees plain tensors: channel pairs are laid out as rows and averaged per clip."""
    if not (isinstance(student, Maps) and isinstance(teacher, Maps)):
        return compare(student, teacher)
    (b, c, n), k = student.x.shape, teacher.x.shape[1]
    if student.every_pair:
        s = student.x[:, :, None].expand(b, c, k, n).reshape(-1, n)
        t = teacher.x[:, None].expand(b, c, k, n).reshape(-1, n)
    else:
        s, t = (student.x.reshape(-1, n), teacher.x[:, torch.randint(k, (c,), device=teacher.x.device)].reshape(-1, n))
    return compare(s, t).reshape(b, -1).mean(1)


def _published(student: Tensor, teacher: Tensor, aggregation, similarity, reduction: str) -> Tensor:
    """The authors' code: rows are the B * C maps of the whole batch, so clips are compared with each other."""
    if aggregation != "gram" or similarity not in ("squared_cosine", "sigmoid_mse") or reduction != "mean":
        raise AtlabError(
            "published=True reproduces the authors' batch-wide Gram: aggregation 'gram', similarity 'squared_cosine' or "
            f"'sigmoid_mse', reduction 'mean'; found {aggregation!r}, {similarity!r}, {reduction!r}"
        )
    _check_shapes(student, teacher, aggregation, published=True)
    g_s, g_t = (self_product(flat(f).flatten(0, 1)) / (f.numel() * 0.001) for f in (student, teacher))
    if similarity == "sigmoid_mse":
        return -torch.sigmoid((g_s - g_t).square().mean())
    rows = torch.nn.functional.cosine_similarity(g_s, g_t, dim=1, eps=1e-12)
    return rows.abs().mean().square()
