"""Every aggregation x similarity against naive float64 loops: values, gradients, ranges, invariances."""

from __future__ import annotations

import math

import pytest
import torch

from atlab import functional as F
from atlab.errors import AtlabError
from atlab.functional.descriptors import Factor, flat

B, C, H, W = 5, 4, 3, 2
PAIRS = [(a, s) for a in F.AGGREGATIONS for s in F.SIMILARITIES if a != "stochastic_pairwise"]


def maps(seed: int, shape=(B, C, H, W), dtype=torch.float64) -> torch.Tensor:
    """ReLU-like maps: about half zeros would hide comp_mul, so positive everywhere."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) + 0.05


# --- the naive side: one clip at a time, explicit loops, no shared code -----------------------------------


def naive_kernel(rows: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([torch.stack([torch.dot(a, b) for b in rows]) for a in rows])


def naive_u_centred(k: torch.Tensor) -> torch.Tensor:
    n = len(k)
    rows = [sum(k[i, j] for j in range(n) if j != i) for i in range(n)]
    total = sum(rows)
    out = [
        [
            k[i, j] - rows[i] / (n - 2) - rows[j] / (n - 2) + total / ((n - 1) * (n - 2)) if i != j else 0 * total
            for j in range(n)
        ]
        for i in range(n)
    ]
    return torch.stack([torch.stack(row) for row in out])


def naive_descriptors(f: torch.Tensor, aggregation: str) -> list[list[torch.Tensor]]:
    """For each compared item (a clip, or the batch) the list of tensors that are compared one by one."""
    b, c = f.shape[:2]
    if aggregation == "clip_kernel":
        return [[naive_u_centred(naive_kernel([f[i].reshape(-1) for i in range(b)]))]]
    out = []
    for clip in f.reshape(b, c, -1):
        if aggregation == "gram":
            out.append([naive_kernel(list(clip))])
        elif aggregation == "position_gram":
            out.append([naive_kernel(list(clip.T))])
        elif aggregation == "comp_mul":
            product = torch.ones_like(clip[0])
            for channel in clip:
                product = product * channel**0.001
            out.append([product])
        elif aggregation in ("mean", "sum", "max"):
            value = {"mean": clip.mean(0), "sum": clip.sum(0), "max": clip.max(0).values}[aggregation]
            out.append([value])
        elif aggregation == "none":
            out.append([clip.reshape(-1)])
        elif aggregation in ("pairwise", "stochastic_pairwise"):
            out.append(list(clip))
        else:
            raise ValueError(f"write down what {aggregation!r} computes, as a loop over clips")
    return out


def naive_similarity(a: torch.Tensor, b: torch.Tensor, similarity: str) -> torch.Tensor:
    if similarity == "sigmoid_mse":
        return -1 / (1 + torch.exp(-((a - b) ** 2).sum() / a.numel()))
    if similarity == "squared_cosine":
        return (a * b).sum() ** 2 / ((a * a).sum() * (b * b).sum())
    if a.ndim == 2:
        n = len(a)
        centring = torch.eye(n, dtype=a.dtype) - 1 / n
        a, b = centring @ a @ centring, centring @ b @ centring
        return (a * b).sum() / torch.sqrt((a * a).sum() * (b * b).sum())
    a, b = a - a.mean(), b - b.mean()
    return (a * b).sum() ** 2 / ((a * a).sum() * (b * b).sum())


def naive_loss(s: torch.Tensor, t: torch.Tensor, aggregation: str, similarity: str) -> torch.Tensor:
    per_clip = []
    for items_s, items_t in zip(naive_descriptors(s, aggregation), naive_descriptors(t, aggregation), strict=True):
        pairs = [(x, y) for x in items_s for y in items_t]
        per_clip.append(sum(naive_similarity(x, y, similarity) for x, y in pairs) / len(pairs))
    return sum(per_clip) / len(per_clip)


@pytest.mark.parametrize(("aggregation", "similarity"), PAIRS)
def test_value_and_gradient_equal_a_naive_loop(aggregation, similarity):
    s, t = maps(0).requires_grad_(), maps(1)
    fast = F.anti_transfer_loss(s, t, aggregation, similarity)
    slow = naive_loss(s, t, aggregation, similarity)
    assert float(fast.detach()) == pytest.approx(float(slow.detach()), rel=1e-10, abs=1e-12)
    (g_fast,), (g_slow,) = torch.autograd.grad(fast, s), torch.autograd.grad(slow, s)
    assert g_slow.abs().max() > 1e-9, "a test of zero gradients would prove nothing"
    assert torch.allclose(g_fast, g_slow, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("similarity", F.SIMILARITIES)
def test_stochastic_pairwise_is_an_unbiased_estimate_of_pairwise(similarity):
    s, t = maps(4), maps(5)
    torch.manual_seed(0)
    draws = torch.stack([F.anti_transfer_loss(s, t, "stochastic_pairwise", similarity) for _ in range(4000)])
    exact = F.anti_transfer_loss(s, t, "pairwise", similarity)
    assert abs(draws.mean() - exact) < 4 * draws.std() / math.sqrt(len(draws))
    assert draws.std() > 0


@pytest.mark.parametrize("similarity", F.SIMILARITIES)
@pytest.mark.parametrize(("aggregation", "shape"), [("gram", (3, 12, 1, 3)), ("position_gram", (3, 2, 4, 4))])
def test_implicit_kernels_equal_explicit_ones(aggregation, shape, similarity):
    """<x xᵀ, y yᵀ> = ||xᵀ y||²: the N x N form and the C x C form are the same loss."""
    s, t = maps(6, shape).requires_grad_(), maps(7, shape)
    lean, full = F.describe(s, aggregation), F.describe(s, aggregation, lean=False)
    assert isinstance(lean, Factor) and isinstance(full, torch.Tensor)
    compare = F.SIMILARITIES[similarity]
    values = [
        compare(a, F.describe(t, aggregation, form)).sum()
        for a, form in ((lean, True), (full, False), (lean, False), (full, True))
    ]
    gradients = [torch.autograd.grad(v, s, retain_graph=True)[0] for v in values]
    for value, gradient in zip(values[1:], gradients[1:], strict=True):
        assert float(value.detach()) == pytest.approx(float(values[0].detach()), rel=1e-9)
        assert torch.allclose(gradient, gradients[0], rtol=1e-7, atol=1e-12)


def test_squared_cosine_of_grams_is_the_squared_uncentred_cka_with_channels_as_examples():
    s, t = maps(8), maps(9)
    x, y = s.flatten(2), t.flatten(2)
    cross = (x.mT @ y).square().sum((1, 2))
    norms = (x.mT @ x).square().sum((1, 2)).sqrt() * (y.mT @ y).square().sum((1, 2)).sqrt()
    assert torch.allclose(F.anti_transfer_loss(s, t, reduction="none"), (cross / norms) ** 2)


def test_channel_order_changes_gram_and_not_the_permutation_invariant_kernels():
    shape = (8, 16, 6, 5)
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).relu()
    shuffled = features[:, torch.randperm(16, generator=torch.Generator().manual_seed(1))]
    for similarity in F.SIMILARITIES:
        for kernel in ("position_gram", "clip_kernel"):
            same = F.anti_transfer_loss(features, features, kernel, similarity)
            assert torch.allclose(F.anti_transfer_loss(features, shuffled, kernel, similarity), same)
    assert float(F.anti_transfer_loss(features, features)) == pytest.approx(1)
    assert float(F.anti_transfer_loss(features, shuffled)) < 0.95


@pytest.mark.parametrize("similarity", ["squared_cosine", "cka"])
@pytest.mark.parametrize("aggregation", [a for a in F.AGGREGATIONS if a not in ("comp_mul", "stochastic_pairwise")])
@pytest.mark.parametrize("scale", [1e-15, 1e-6, 1e6, 1e12])
def test_scale_invariance_in_float32(aggregation, similarity, scale):
    """comp_mul is not scale-invariant (its power compresses scale away, its floor does not); all others are."""
    s, t = maps(10, dtype=torch.float32), maps(11, dtype=torch.float32)
    value = F.anti_transfer_loss(s, t, aggregation, similarity)
    scaled = F.anti_transfer_loss(s * scale, t, aggregation, similarity)
    assert float(scaled) == pytest.approx(float(value), rel=2e-3, abs=1e-5)


@pytest.mark.parametrize("aggregation", F.AGGREGATIONS)
def test_range(aggregation):
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        s, t = (torch.randn(B, C, H, W, generator=generator, dtype=torch.float64).relu() for _ in range(2))
        assert -1e-12 <= float(F.anti_transfer_loss(s, t, aggregation, "squared_cosine")) <= 1 + 1e-12
        assert -1 <= float(F.anti_transfer_loss(s, t, aggregation, "sigmoid_mse")) <= -0.5
        low = -1 if aggregation == "clip_kernel" else 0
        assert low - 1e-12 <= float(F.anti_transfer_loss(s, t, aggregation, "cka")) <= 1 + 1e-12


@pytest.mark.parametrize("similarity", F.SIMILARITIES)
@pytest.mark.parametrize("aggregation", F.AGGREGATIONS)
@pytest.mark.parametrize("silent", ["student", "teacher", "both"])
def test_an_all_zero_clip_gives_finite_values_and_gradients(aggregation, similarity, silent):
    s, t = maps(12, dtype=torch.float32), maps(13, dtype=torch.float32)
    if silent in ("student", "both"):
        s[2] = 0
    if silent in ("teacher", "both"):
        t[2] = 0
    s.requires_grad_()
    loss = F.anti_transfer_loss(s, t, aggregation, similarity)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(s.grad).all()
    if (
        aggregation in ("gram", "position_gram", "mean", "sum", "max", "none", "pairwise")
        and similarity == "squared_cosine"
    ):
        assert float(F.anti_transfer_loss(s, t, aggregation, similarity, reduction="none")[2]) == 0
        assert s.grad[2].abs().max() == 0


def test_dead_channels_in_comp_mul_count_as_the_floor():
    f = torch.tensor([[[[0.0, 2.0]], [[0.5, 0.0]]]], requires_grad=True)
    value = F.comp_mul(f)
    expected = torch.tensor([[(1e-8 * 0.5) ** 0.001, (2 * 1e-8) ** 0.001]])
    assert torch.allclose(value, expected)
    value.sum().backward()
    assert torch.isfinite(f.grad).all() and float(f.grad[0, 0, 0, 0]) == 0


@pytest.mark.parametrize("similarity", ["squared_cosine", "sigmoid_mse"])
def test_published_equals_the_authors_formulas(similarity):
    """AUDIT: one (B C) x (B C) Gram over the batch / (B C H W) / 0.001; |cosine| of rows averaged, then squared."""
    s, t = maps(14).requires_grad_(), maps(15)
    grams = [naive_kernel(list(f.reshape(B * C, -1))) / (B * C * H * W) / 0.001 for f in (s, t)]
    if similarity == "squared_cosine":
        rows = [abs(torch.dot(a, b) / (a.norm() * b.norm())) for a, b in zip(*grams, strict=True)]
        expected = (sum(rows) / len(rows)) ** 2
    else:
        expected = -torch.sigmoid(((grams[0] - grams[1]) ** 2).mean())
    value = F.anti_transfer_loss(s, t, "gram", similarity, published=True)
    assert float(value) == pytest.approx(float(expected), rel=1e-10)
    (got,), (want,) = torch.autograd.grad(value, s), torch.autograd.grad(expected, s)
    assert torch.allclose(got, want, rtol=1e-7, atol=1e-14)


def test_published_differs_from_the_paper():
    torch.manual_seed(0)
    s, t = torch.randn(2, 4, 16, 8, 8, dtype=torch.float64).relu()
    assert abs(float(F.anti_transfer_loss(s, t, published=True) - F.anti_transfer_loss(s, t))) > 0.01


def test_mixed_precision_is_computed_in_float32():
    """float16 Grams of conv1-like maps overflow; under autocast the loss must still be the float32 one."""
    s, t = maps(16, (2, 8, 40, 40), torch.float32) * 30, maps(17, (2, 8, 40, 40), torch.float32) * 30
    exact = F.anti_transfer_loss(s, t)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float(F.anti_transfer_loss(s, t)) == pytest.approx(float(exact), rel=1e-6)
    assert float(F.anti_transfer_loss(s.half(), t.half())) == pytest.approx(float(exact), rel=1e-3)
    assert float(F.anti_transfer_loss(s.bfloat16(), t.bfloat16())) == pytest.approx(float(exact), rel=1e-2)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "shape", [(3, 1, 5, 7), (2, 3, 31, 7), (3, 5, 40, 41), (2, 8, 33, 31), (1, 8, 3, 3), (2, 16, 9, 9)]
)
@pytest.mark.parametrize(
    ("dtype", "exact", "rounded"),
    [(torch.float64, 1e-12, 1e-12), (torch.float32, 1e-5, 1e-5), (torch.bfloat16, 1e-5, 1e-2)],
)
def test_gram_matrices_of_any_number_of_channels_in_any_layout(shape, layout, dtype, exact, rounded):
    """Few channels are multiplied side by side, bfloat16 ones in float32; the gradient of bfloat16 maps is bfloat16."""
    torch.manual_seed(0)
    x = torch.randn(shape).to(dtype).contiguous(memory_format=layout).requires_grad_()
    found = F.gram(x)
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    maps = x.detach().double()
    wanted, gradient = torch.zeros(found.shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
    for b in range(shape[0]):
        for i in range(shape[1]):
            for j in range(shape[1]):
                wanted[b, i, j] = (maps[b, i] * maps[b, j]).sum()
                gradient[b, i] += (weights[b, i, j] + weights[b, j, i]).double() * maps[b, j]
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32) and x.grad.dtype == dtype
    assert (found.double() - wanted).norm() <= exact * wanted.norm()
    assert (x.grad.double() - gradient).norm() <= rounded * gradient.norm()


@pytest.mark.parametrize("aggregation", [F.gram, F.position_gram, F.clip_kernel])
def test_kernels_are_float32_under_autocast(aggregation):
    x = torch.randn(5, 6, 9, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = aggregation(x)
    assert found.dtype == torch.float32 and torch.equal(found, aggregation(x))


def test_squared_cosine_of_two_precisions_is_that_of_the_finer():
    s, t = torch.rand(3, 4, 4), torch.rand(3, 4, 4, dtype=torch.float64)
    found = F.squared_cosine(s.requires_grad_(), t)
    assert found.dtype == torch.float64 and torch.allclose(found, F.squared_cosine(s.double(), t))
    found.sum().backward()
    assert s.grad.dtype == torch.float32


def test_channels_last_gives_the_same_loss_without_a_copy():
    s, t = maps(18, (3, 8, 10, 9), torch.float32), maps(19, (3, 8, 10, 9), torch.float32)
    last = s.to(memory_format=torch.channels_last)
    assert flat(last).data_ptr() == last.data_ptr()
    for aggregation in ("gram", "position_gram", "mean", "none"):
        value = F.anti_transfer_loss(s, t, aggregation)
        assert float(F.anti_transfer_loss(last, t, aggregation)) == pytest.approx(float(value), rel=1e-5)


def test_a_users_callables_take_the_place_of_names():
    s, t = maps(20), maps(21)
    value = F.anti_transfer_loss(s, t, lambda f: f.mean((2, 3)), lambda a, b: (a - b).abs().mean(1))
    assert float(value) == pytest.approx(float((s.mean((2, 3)) - t.mean((2, 3))).abs().mean()))
    for aggregation in ("gram", "position_gram", "pairwise", "stochastic_pairwise"):
        mine = F.anti_transfer_loss(s, t, aggregation, lambda a, b: torch.ones(len(a), dtype=a.dtype))
        assert float(mine) == 1
    own = lambda a, b: torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1)) ** 2  # noqa: E731
    for aggregation in ("gram", "pairwise"):
        assert float(F.anti_transfer_loss(s, t, aggregation, own)) == pytest.approx(
            float(F.anti_transfer_loss(s, t, aggregation))
        )


def test_linear_cka_against_hsic():
    """Unbiased HSIC of Song et al. 2012, eq. 5, in a plain loop-free float64 formula of its own."""
    x, y = (torch.randn(12, d, dtype=torch.float64, generator=torch.Generator().manual_seed(d)) for d in (5, 7))
    y[:, :5] += x

    def hsic(k, l):
        n = len(k)
        k, l = k - torch.diag(k.diag()), l - torch.diag(l.diag())
        one = torch.ones(n, dtype=k.dtype)
        middle = (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ l @ one)
        return (torch.trace(k @ l) + middle) / (n * (n - 3))

    k, l = x @ x.T, y @ y.T
    expected = hsic(k, l) / torch.sqrt(hsic(k, k) * hsic(l, l))
    assert float(F.linear_cka(x, y)) == pytest.approx(float(expected), rel=1e-9)
    xc, yc = x - x.mean(0), y - y.mean(0)
    biased = (xc.T @ yc).norm() ** 2 / ((xc.T @ xc).norm() * (yc.T @ yc).norm())
    assert float(F.linear_cka(x, y, unbiased=False)) == pytest.approx(float(biased), rel=1e-9)


@pytest.mark.parametrize("unbiased", [True, False])
def test_linear_cka_of_float32_far_from_the_origin_is_that_of_float64(unbiased):
    x, y = (torch.randn(40, d, generator=torch.Generator().manual_seed(d)) for d in (12, 20))
    y[:, :12] += x
    far = [part + 1000 for part in (x, y)]
    expected = float(F.linear_cka(*(part.double() for part in far), unbiased))
    assert expected > 0.3 and float(F.linear_cka(*far, unbiased)) == pytest.approx(expected, abs=1e-4)


def test_unbiased_cka_of_unrelated_features_is_near_zero_where_the_biased_one_is_near_one():
    unrelated = [(torch.randn(16, 400), torch.randn(16, 400)) for _ in range(20)]
    assert abs(sum(float(F.linear_cka(x, y)) for x, y in unrelated) / 20) < 0.05
    assert sum(float(F.linear_cka(x, y, unbiased=False)) for x, y in unrelated) / 20 > 0.9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, t: F.anti_transfer_loss(s, t, "grams"), "unknown aggregation 'grams'; nearest: 'gram'"),
        (lambda s, t: F.anti_transfer_loss(s, t, similarity="cosine"), "unknown similarity 'cosine'"),
        (lambda s, t: F.anti_transfer_loss(s, t, reduction="sum"), "unknown reduction 'sum'"),
        (lambda s, t: F.anti_transfer_loss(s, t[:, :2]), r"student \(5, 4, 3, 2\) and teacher \(5, 2, 3, 2\)"),
        (lambda s, t: F.anti_transfer_loss(s, t[:, :, :2], "mean"), "cannot be compared by 'mean'"),
        (lambda s, t: F.anti_transfer_loss(s[:3], t[:3], "clip_kernel"), "batch of at least 4, found 3"),
        (lambda s, t: F.anti_transfer_loss(s, t, "clip_kernel", reduction="none"), "one value per batch"),
        (lambda s, t: F.anti_transfer_loss(s, t, "mean", published=True), "published=True reproduces"),
        (lambda s, t: F.linear_cka(s, t[:3]), "same clips, found 5 and 3"),
        (lambda s, t: F.gram(s[0, 0, 0]), r"must be \[B, C, ...\], found shape \(2,\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(AtlabError, match=message):
        call(maps(22), maps(23))


def test_kernels_that_need_not_agree_in_channels_compare_networks_of_different_width():
    s, t = maps(24), maps(25, (B, 7, H, W))
    for aggregation in ("position_gram", "clip_kernel", "mean", "max", "pairwise"):
        assert 0 <= float(F.anti_transfer_loss(s, t, aggregation)) <= 1


def test_an_error_about_shapes_lists_the_aggregations_that_compare_them():
    for student, teacher, allowed in (
        (
            (B, C, H, W),
            (B, 7, H, W),
            "mean, sum, max, comp_mul, pairwise, stochastic_pairwise, position_gram, clip_kernel",
        ),
        ((B, C, H, W), (B, 7, H, 5), "clip_kernel"),
        ((3, C, H, W), (3, 7, H, 5), ""),
    ):
        with pytest.raises(AtlabError) as error:
            F.anti_transfer_loss(maps(0, student), maps(1, teacher))
        said = (
            f"aggregations that compare these shapes: {allowed}" if allowed else "no aggregation compares these shapes"
        )
        assert str(error.value).endswith(said)
        for name in F.AGGREGATIONS:
            if name in allowed.split(", "):
                assert torch.isfinite(F.anti_transfer_loss(maps(0, student), maps(1, teacher), name))
            else:
                with pytest.raises(AtlabError, match="cannot be compared"):
                    F.anti_transfer_loss(maps(0, student), maps(1, teacher), name)


def test_a_described_teacher_that_does_not_fit_is_named():
    with pytest.raises(AtlabError, match=r"descriptor has shape \(5, 4, 4\) and the teacher's \(5, 7, 7\)"):
        F.target_loss(maps(0), F.describe(maps(1, (B, 7, H, W))))


def test_an_aggregation_that_was_added_is_recommended_only_for_shapes_that_it_compares(monkeypatch):
    monkeypatch.setitem(F.AGGREGATIONS, "time_gram", lambda features: F.gram(features.mean(3)))
    s, t = torch.rand(5, 4, 3, 2), torch.rand(5, 2, 3, 2)
    with pytest.raises(AtlabError, match="aggregations that compare these shapes: mean, sum, max") as refused:
        F.anti_transfer_loss(s, t)
    assert "time_gram" not in str(refused.value)
    with pytest.raises(AtlabError, match="aggregations that compare these shapes: gram, clip_kernel, time_gram"):
        F.anti_transfer_loss(torch.rand(5, 4, 3, 2), torch.rand(5, 4, 6, 2), "mean")
