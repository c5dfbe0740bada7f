"""Losses of the target that weigh clips or groups of clips: what `training.fit` may minimise in place of the cross-entropy."""

from __future__ import annotations

import hashlib
from typing import Protocol

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from atlab.errors import AtlabError


class TargetLoss(Protocol):
    """A loss called with logits [B, K], classes y [B] and row numbers index [B]: -> scalar.

    State that training carries along is in an attribute `module`, as in a `LossTerm`; `identity` tells two of them apart.
    """

    name: str

    @property
    def identity(self) -> str:
        """What it depends on."""

    def __call__(self, logits: Tensor, y: Tensor, index: Tensor) -> Tensor: ...


class Weighted:
    """Cross-entropy with a weight for every clip: the mean over the batch of weight x cross-entropy.

    Args:
        weights: of every clip of the data set [N], at least 0; their mean over the clips with a weight is made 1.

    >>> loss = Weighted(torch.tensor([1.0, 3.0]))
    >>> logits, y = torch.zeros(2, 2), torch.tensor([0, 1])
    >>> round(float(loss(logits, y, torch.tensor([0, 1]))), 4), round(float(loss(logits[:1], y[:1], torch.tensor([1]))), 4)
    (0.6931, 1.0397)
    """

    name = "weighted"

    def __init__(self, weights: Tensor) -> None:
        weights = torch.as_tensor(weights).double().cpu()
        if not (bool((weights >= 0).all()) and 0 < float(weights.sum()) < float("inf")):
            raise AtlabError("weights of clips must be finite, at least 0 and not all 0")
        self.weights = (weights / weights[weights > 0].mean()).float()

    def __call__(self, logits: Tensor, y: Tensor, index: Tensor) -> Tensor:
        """The weighted loss of a batch, a scalar."""
        weights = self.weights[torch.as_tensor(index).cpu()].to(logits.device)
        return (weights * nnf.cross_entropy(logits, y, reduction="none")).mean()

    @property
    def identity(self) -> str:
        """Hash of the weights."""
        return _hash(self.weights)


def of_groups(groups: Tensor) -> Weighted:
    """Cross-entropy in which every group counts as much as any other: clips are weighted by 1 / size of their group.

    Args:
        groups: group of every clip of the data set [N], -1 for clips that are not trained on.

    >>> of_groups(torch.tensor([0, 0, 0, 1, -1])).weights.tolist()
    [0.6666666865348816, 0.6666666865348816, 0.6666666865348816, 2.0, 0.0]
    """
    sizes = _sizes(groups)
    return Weighted(torch.where(groups >= 0, 1 / sizes[groups.clamp_min(0)], 0.0))


class GroupDro:
    """Group distributionally robust optimisation (Sagawa et al. 2020, algorithm 1): the worst group's loss, online.

    A distribution q over the groups grows exponentially with the loss of each group in the batch, and the loss is the mean of
    the groups' losses under q. q is in `module`, so that it is saved and restored with the weights.

    Args:
        groups: group of every clip of the data set [N], -1 for clips that are not trained on.
        step: of q, the paper's eta_q.

    >>> loss = GroupDro(torch.tensor([0, 1]), step=1.0)
    >>> logits, y = torch.tensor([[9.0, 0.0], [9.0, 0.0]]), torch.tensor([0, 1])
    >>> value = loss(logits, y, torch.tensor([0, 1]))
    >>> [round(share, 3) for share in loss.module.q.tolist()]
    [0.0, 1.0]
    """

    name = "group_dro"

    def __init__(self, groups: Tensor, step: float = 0.01) -> None:
        self.groups, self.step = groups, step
        sizes = _sizes(groups)
        self.module = _Distribution(len(sizes))

    def __call__(self, logits: Tensor, y: Tensor, index: Tensor) -> Tensor:
        """The mean of the groups' losses under q after its step, a scalar."""
        q = self.module.to(logits.device).q
        groups = nnf.one_hot(self.groups[torch.as_tensor(index).cpu()].to(q.device), len(q)).float()
        losses = groups.T @ nnf.cross_entropy(logits, y, reduction="none") / groups.sum(0).clamp_min(1)
        with (
            torch.no_grad()
        ):  # a group without clips in the batch has loss 0, and so keeps its weight but for the scale
            q *= torch.exp(self.step * losses)
            q /= q.sum()
        return (q.clone() * losses).sum()

    @property
    def identity(self) -> str:
        """Hash of the groups, and the step."""
        return f"{_hash(self.groups)} {self.step}"


class _Distribution(nn.Module):
    """A distribution over groups, uniform at first."""

    q: Tensor

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.register_buffer("q", torch.full((groups,), 1 / groups))


class ProductOfExperts:
    """Cross-entropy of the network's prediction times that of a biased expert, normalised (Clark et al. 2019; He et al. 2019).

    The network is not rewarded for what the expert knows already; only the network is tested.

    Args:
        log_probabilities: of the expert for every clip of the data set [N, K]; zeros where it knows nothing.

    >>> loss = ProductOfExperts(torch.tensor([[0.9, 0.1]]).log())
    >>> round(float(loss(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([0])).exp() ** -1), 4)
    0.9
    """

    name = "product_of_experts"

    def __init__(self, log_probabilities: Tensor) -> None:
        if not bool(torch.isfinite(log_probabilities).all()):
            raise AtlabError("the expert's log-probabilities must be finite")
        self.log_probabilities = log_probabilities.float().cpu()

    def __call__(self, logits: Tensor, y: Tensor, index: Tensor) -> Tensor:
        """The loss of a batch, a scalar."""
        expert = self.log_probabilities[torch.as_tensor(index).cpu()].to(logits.device)
        return nnf.cross_entropy(logits + expert, y)

    @property
    def identity(self) -> str:
        """Hash of the expert's log-probabilities."""
        return _hash(self.log_probabilities)


def pairs(first: Tensor, second: Tensor, rows: Tensor) -> Tensor:
    """The groups that two factors make: a number for every pair of their classes that the rows have, int64 [N].

    Args:
        first, second: class numbers of every clip of the data set [N].
        rows: row numbers of the training clips; all others have the group -1.

    >>> pairs(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1]), torch.tensor([0, 2, 3])).tolist()
    [0, -1, 1, 1]
    """
    both = torch.stack([torch.as_tensor(first), torch.as_tensor(second)], 1)[rows]
    if bool((both < 0).any()):
        raise AtlabError("every training clip needs a class of both factors to belong to a group")
    groups = torch.full((len(first),), -1)
    groups[rows] = both.unique(dim=0, return_inverse=True)[1]
    return groups


def _sizes(groups: Tensor) -> Tensor:
    sizes = torch.bincount(groups[groups >= 0]).double()
    if len(sizes) < 2 or not bool((sizes > 0).all()):
        raise AtlabError("expected at least two groups of training clips, numbered from 0")
    return sizes


def _hash(values: Tensor) -> str:
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()[:16]
