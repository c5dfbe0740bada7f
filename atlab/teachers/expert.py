"""What an orthogonal network's features say about the target: a linear classifier fitted to them."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor

from atlab.teachers.cached import Clips
from atlab.teachers.live import Teacher


def linear_expert(teacher: Teacher, clips: Clips, classes: int, decay: float = 1e-3) -> Tensor:
    """Log-probabilities of the target's classes [N, K], float64, by logistic regression on the teacher's features.

    The features are those of the teacher's last layer, averaged over positions and standardised over the clips. The
    mean cross-entropy + decay / 2 x the sum of squared weights is minimised. N is one more than the largest row number; rows that are
    not among the clips have zeros.

    Args:
        clips: training clips of the target (x, y target class [B], index row number [B]).
        classes: K; one without clips has a low probability everywhere.

    >>> import atlab
    >>> clips = atlab.data.InMemory(torch.randn(6, 1, 32, 32), torch.tensor([0, 1, 0, 1, 0, 1]))
    >>> teacher = Teacher(atlab.models.vgg16(num_classes=4, width=1 / 16), layers="conv5")
    >>> linear_expert(teacher, clips, classes=2).shape
    torch.Size([6, 2])
    """
    pooled, codes, rows = [], [], []
    for x, y, index in clips.epoch(0):
        maps = teacher(x)[teacher.layers[-1]]
        pooled.append(maps.double().flatten(2).mean(2).cpu())
        codes.append(y.cpu())
        rows.append(index.cpu())
    features, y, row = torch.cat(pooled), torch.cat(codes), torch.cat(rows)
    spread = features.std(0, correction=0)
    features = (features - features.mean(0)) / torch.where(spread > 0, spread, 1.0)
    table = torch.zeros(int(row.max()) + 1, classes, dtype=torch.float64)
    table[row] = _fitted(features, y, classes, decay).log_softmax(1)
    return table


def _fitted(features: Tensor, y: Tensor, classes: int, decay: float) -> Tensor:
    """The logits [n, K] of multinomial logistic regression on features [n, D]."""
    weight = torch.zeros(features.shape[1], classes, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(weight.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=1000, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = nnf.cross_entropy(features @ weight + bias, y) + decay / 2 * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return (features @ weight + bias).detach()
