"""The anti-transfer loss as a loop over clips in float64, on activations caught by a hook of the test's own."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """Two convolutions and a linear layer: [B, 1, 8, 8] -> logits [B, 3]."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(inplace=True))
            self.head = nn.Linear(6 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


LAYERS = ["features.1", "features.3"]


def batch(clips: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    """x [B, 1, 8, 8], y [B]."""
    x = torch.randn(clips, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return x, torch.arange(clips) % 3


def activations(model: nn.Module, layers: list[str], *inputs, **keywords) -> dict[str, Tensor]:
    """What each layer returns in a forward pass of its own, with gradient."""
    found: dict[str, Tensor] = {}

    def keep(layer):
        def hook(module, given, out):
            found[layer] = (out if isinstance(out, Tensor) else out[0]).clone()

        return hook

    handles = [model.get_submodule(layer).register_forward_hook(keep(layer)) for layer in layers]
    model(*inputs, **keywords)
    for handle in handles:
        handle.remove()
    return found


def at_loss(s: Tensor, t: Tensor) -> Tensor:
    """Mean over clips of the squared cosine of the channel Gram matrices of s and t [B, C, ...], in float64."""
    values = []
    for a, b in zip(s.double(), t.double(), strict=True):
        grams = []
        for maps in (a.flatten(1), b.flatten(1)):
            grams.append(torch.stack([torch.stack([torch.dot(u, v) for v in maps]) for u in maps]))
        g, h = grams
        values.append((g * h).sum() ** 2 / ((g * g).sum() * (h * h).sum()))
    return torch.stack(values).mean()


def whole_loss(student: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy plus the anti-transfer loss at `LAYERS`, each from forward passes of its own."""
    s = activations(student, LAYERS, x)
    with torch.no_grad():
        t = activations(teacher.eval(), LAYERS, x)
    return nn.functional.cross_entropy(student(x), y) + sum(at_loss(s[layer], t[layer]) for layer in LAYERS)


def gradients(student: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Of `whole_loss`, by parameter."""
    names, parameters = zip(*student.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(whole_loss(student, teacher, x, y), parameters), strict=True))


def agree(found: dict[str, Tensor], expected: dict[str, Tensor], atol: float = 1e-6) -> bool:
    """Whether all gradients agree, and are not just zero."""
    assert found.keys() == expected.keys() and max(float(g.abs().max()) for g in expected.values()) > 1e-2
    return all(torch.allclose(found[name], expected[name], atol=atol, rtol=1e-4) for name in expected)
