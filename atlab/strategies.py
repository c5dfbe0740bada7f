"""Training strategies: each sets initial weights, names what stays frozen and adds loss terms; no more.

A strategy is a function of the student, the networks of the orthogonal tasks and the anti-transfer settings; it
changes the student's weights in place where it starts from others and returns a `Plan` for `training.fit`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import nn

from atlab.cached_teacher import CachedTeacher
from atlab.errors import AtlabError, unknown
from atlab.loss import AntiTransferLoss
from atlab.teacher import Teacher


@dataclass(frozen=True)
class AtSettings:
    """Which layers, aggregation, similarity and weight the anti-transfer loss takes (see `AntiTransferLoss`).

    `wrap` turns each live teacher into what the loss uses; `CachedTeacher` in a lambda is the use for it.
    """

    layers: Sequence[str] = ("conv5",)
    aggregation: str = "gram"
    similarity: str = "squared_cosine"
    beta: float = 1.0
    published: bool = False
    wrap: Callable[[Teacher], Teacher | CachedTeacher] = lambda teacher: teacher


@dataclass
class Plan:
    """What a strategy asks of the training: loss terms to add, parameter-name prefixes to freeze."""

    loss_terms: list[Callable] = field(default_factory=list)
    frozen: list[str] = field(default_factory=list)

    def freeze(self, student: nn.Module) -> None:
        """Take the frozen parameters out of training."""
        for name, parameter in student.named_parameters():
            if any(name.startswith(prefix) for prefix in self.frozen):
                parameter.requires_grad_(False)

    def close(self) -> None:
        """Remove the hooks of every loss term."""
        for term in self.loss_terms:
            term.close()


def baseline(student: nn.Module, orthogonal: Sequence[nn.Module], settings: AtSettings) -> Plan:
    """Random weights, nothing frozen, the target loss alone."""
    return Plan()


def wi(student: nn.Module, orthogonal: Sequence[nn.Module], settings: AtSettings) -> Plan:
    """Weight initialisation: all convolutions start from the orthogonal network, then everything trains."""
    from atlab.models import copy_weights

    copy_weights(_one(orthogonal, "wi"), student, "features.")
    return Plan()


def at(student: nn.Module, orthogonal: Sequence[nn.Module], settings: AtSettings) -> Plan:
    """Anti-transfer: random weights and the anti-transfer loss against each orthogonal network (eq. 3)."""
    if not orthogonal:
        raise AtlabError("strategy 'at' needs a network of an orthogonal task, found none")
    teachers = [settings.wrap(Teacher(model, settings.layers)) for model in orthogonal]
    return Plan(
        [
            AntiTransferLoss(
                student,
                teachers,
                settings.aggregation,
                settings.similarity,
                settings.beta,
                settings.published,
            )
        ]
    )


STRATEGIES: dict[str, Callable[[nn.Module, Sequence[nn.Module], AtSettings], Plan]] = {
    "baseline": baseline,
    "wi": wi,
    "at": at,
}


def apply(
    name: str, student: nn.Module, orthogonal: Sequence[nn.Module] = (), settings: AtSettings | None = None
) -> Plan:
    """Prepare `student` for the named strategy; freezes what the plan says.

    >>> import atlab
    >>> student, speaker = (atlab.models.vgg16(num_classes=n, width=1 / 16) for n in (10, 24))
    >>> plan = apply("wi", student, [speaker])
    >>> bool((student.features[0].weight == speaker.features[0].weight).all()), plan.loss_terms
    (True, [])
    """
    if name not in STRATEGIES:
        raise unknown("strategy", name, STRATEGIES)
    plan = STRATEGIES[name](student, orthogonal, settings or AtSettings())
    plan.freeze(student)
    return plan


def _one(orthogonal: Sequence[nn.Module], strategy: str) -> nn.Module:
    if len(orthogonal) != 1:
        raise AtlabError(
            f"strategy {strategy!r} starts from exactly one orthogonal network, found {len(orthogonal)}"
        )
    return orthogonal[0]
