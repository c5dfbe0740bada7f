"""Training strategies: each sets initial weights, names what stays frozen and adds loss terms; no more.

A strategy is a function of the student, the networks it takes and the anti-transfer settings; it changes the student's
weights in place where it starts from others and returns a `Plan` for `training.fit`. A new one is a function of that
form in `STRATEGIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from atlab.errors import AtlabError, unknown
from atlab.losses import target
from atlab.losses.anti_transfer import AntiTransferLoss
from atlab.losses.gradient_reversal import GradientReversal
from atlab.losses.target import TargetLoss
from atlab.models import copy_weights
from atlab.teachers.cached import Clips
from atlab.teachers.expert import linear_expert
from atlab.teachers.live import Teacher
from atlab.teachers.stored import AnyTeacher


@dataclass(frozen=True)
class AtSettings:
    """Which layers, aggregation, similarity and weight the anti-transfer loss takes (see `AntiTransferLoss`).

    Attributes:
        warm_up: epochs over which beta grows from 0.
        start: "random", or "orthogonal" for a student that starts from the first network's convolutions.
        teacher: makes what the loss compares with from each network and the layers: `Teacher`, or a function that returns a
            `CachedTeacher` or a `StoredTeacher`.
        codes: orthogonal class number of every clip of the data set [N], -1 where unknown (gradient reversal only).
        groups: the group of every clip [N], -1 for those that are not trained on (strategies that weigh groups only).
        train: the target's training clips in batches (x, y, index), for strategies that look at them before training.
    """

    layers: Sequence[str] = ("conv5",)
    aggregation: str = "gram"
    similarity: str = "squared_cosine"
    beta: float = 1.0
    published: bool = False
    warm_up: int = 0
    start: str = "random"
    teacher: Callable[[nn.Module, Sequence[str]], AnyTeacher] = Teacher
    codes: Tensor | None = None
    groups: Tensor | None = None
    train: Clips | None = None


@dataclass
class Plan:
    """What a strategy asks of the training: loss terms to add, parameter-name prefixes to freeze, another loss of the target."""

    loss_terms: list[Callable] = field(default_factory=list)
    frozen: list[str] = field(default_factory=list)
    target_loss: TargetLoss | None = None

    def freeze(self, student: nn.Module) -> None:
        """Take the frozen parameters out of training."""
        for name, parameter in student.named_parameters():
            if any(name.startswith(prefix) for prefix in self.frozen):
                parameter.requires_grad_(False)

    def close(self) -> None:
        """Remove the hooks of every loss term."""
        for term in self.loss_terms:
            term.close()


def baseline(student: nn.Module, networks: Sequence[nn.Module], settings: AtSettings) -> Plan:
    """Random weights, nothing frozen, the target loss alone."""
    return Plan()


def second_stream(student: nn.Module, networks: Sequence[nn.Module], settings: AtSettings) -> Plan:
    """The control of losses on the orthogonal clips: these pass through the network as well, and no loss acts on them."""
    return Plan()


def wi(student: nn.Module, networks: Sequence[nn.Module], settings: AtSettings) -> Plan:
    """Weight initialisation: all convolutions start from the orthogonal network, then everything trains."""
    copy_weights(_one(networks, "wi"), student, "features.")
    return Plan()


def frozen_wi(student: nn.Module, networks: Sequence[nn.Module], settings: AtSettings) -> Plan:
    """Weight initialisation with the convolutions up to the (last) anti-transfer layer frozen (section 5.1, fig. 4).

    `training.fit` keeps the statistics of a batch norm whose weights are frozen.
    """
    copy_weights(_one(networks, "frozen_wi"), student, "features.")
    return Plan(frozen=_convolutions_up_to(student, settings.layers))


def at(student: nn.Module, networks: Sequence[nn.Module], settings: AtSettings) -> Plan:
    """Anti-transfer: the anti-transfer loss against each orthogonal network, at each layer (eq. 3).

    The weights are random, or the first network's convolutions with `start="orthogonal"`. The paper takes one network
    and one layer; several of either are what it leaves open.
    """
    if not networks:
        raise AtlabError("strategy 'at' needs a network of an orthogonal task, found none")
    if settings.start == "orthogonal":
        copy_weights(networks[0], student, "features.")
    teachers = [settings.teacher(model, settings.layers) for model in networks]
    s = settings
    return Plan([AntiTransferLoss(student, teachers, s.aggregation, s.similarity, s.beta, s.published, s.warm_up)])


def inverse_at(student: nn.Module, networks: Sequence[nn.Module], settings: AtSettings) -> Plan:
    """Anti-transfer with its sign turned: similarity to the orthogonal network is rewarded (section 5.1, fig. 4)."""
    return at(student, networks, replace(settings, beta=-abs(settings.beta)))


def dual_at(student: nn.Module, networks: Sequence[nn.Module], settings: AtSettings) -> Plan:
    """Dual anti-transfer (section 3): networks = [student of AT on the first task, network of the second task].

    The convolutions start from the former, and the loss is anti-transfer against the latter.
    """
    if len(networks) != 2:
        raise AtlabError(
            f"strategy 'dual_at' takes the network of its first stage and one orthogonal network, found {len(networks)}"
        )
    copy_weights(networks[0], student, "features.")
    return at(student, networks[1:], replace(settings, start="random"))


def reweighting(student: nn.Module, networks: Sequence[nn.Module], settings: AtSettings) -> Plan:
    """Every group of target and orthogonal class counts as much as any other, however few clips it has."""
    return Plan(target_loss=target.of_groups(_groups(settings, "reweighting")))


def group_dro(student: nn.Module, networks: Sequence[nn.Module], settings: AtSettings) -> Plan:
    """The worst group of target and orthogonal class counts most (Sagawa et al. 2020)."""
    return Plan(target_loss=target.GroupDro(_groups(settings, "group_dro")))


def just_train_twice(student: nn.Module, networks: Sequence[nn.Module], settings: AtSettings) -> Plan:
    """Clips that a network of a short first training gets wrong count `beta` times as much (Liu et al. 2021): no orthogonal labels."""
    if not settings.beta > 1:
        raise AtlabError(
            f"strategy 'just_train_twice' counts wrong clips beta times: expected beta above 1, got {settings.beta}"
        )
    first, found = _one(networks, "just_train_twice").eval(), {}
    with torch.no_grad():
        for x, y, index in _train(settings, "just_train_twice").epoch(0):
            right = (first(x).argmax(1) == y).tolist()
            found |= dict(zip(index.tolist(), right, strict=True))
    weights = torch.zeros(max(found) + 1)
    for row, right in found.items():
        weights[row] = 1.0 if right else settings.beta
    return Plan(target_loss=target.Weighted(weights))


def product_of_experts(student: nn.Module, networks: Sequence[nn.Module], settings: AtSettings) -> Plan:
    """The student learns what a linear expert on the orthogonal network's features does not know (Clark et al. 2019, He et al. 2019)."""
    if len(settings.layers) != 1:
        raise AtlabError(f"strategy 'product_of_experts' reads one layer, found {list(settings.layers)}")
    teacher = Teacher(_one(networks, "product_of_experts"), settings.layers)
    classes = student.get_submodule(_last_linear(student)).out_features
    expert = linear_expert(teacher, _train(settings, "product_of_experts"), classes)
    teacher.close()
    return Plan(target_loss=target.ProductOfExperts(expert))


def last_layer_retraining(student: nn.Module, networks: Sequence[nn.Module], settings: AtSettings) -> Plan:
    """A trained baseline, of which the last layer alone learns anew, every group counting alike (Kirichenko et al. 2023)."""
    base = _one(networks, "last_layer_retraining").state_dict()
    last = f"{_last_linear(student)}."
    own = {name: tensor for name, tensor in student.state_dict().items() if name.startswith(last)}
    student.load_state_dict(base | own)
    frozen = [name for name, _ in student.named_parameters() if name not in own]
    return Plan(frozen=frozen, target_loss=target.of_groups(_groups(settings, "last_layer_retraining")))


def gradient_reversal(student: nn.Module, networks: Sequence[nn.Module], settings: AtSettings) -> Plan:
    """Domain-adversarial training (Ganin et al. 2016) at each layer: orthogonal labels instead of a network."""
    if settings.codes is None:
        raise AtlabError("strategy 'gradient_reversal' needs the orthogonal class of every clip: AtSettings(codes=...)")
    if len(settings.layers) != 1:
        raise AtlabError(f"strategy 'gradient_reversal' reads one layer, found {list(settings.layers)}")
    return Plan([GradientReversal(student, settings.layers[0], settings.codes, settings.beta, settings.warm_up)])


STRATEGIES: dict[str, Callable[[nn.Module, Sequence[nn.Module], AtSettings], Plan]] = {
    "baseline": baseline,
    "wi": wi,
    "frozen_wi": frozen_wi,
    "at": at,
    "inverse_at": inverse_at,
    "dual_at": dual_at,
    "gradient_reversal": gradient_reversal,
    "second_stream": second_stream,
    "reweighting": reweighting,
    "group_dro": group_dro,
    "just_train_twice": just_train_twice,
    "product_of_experts": product_of_experts,
    "last_layer_retraining": last_layer_retraining,
}


def apply(
    name: str, student: nn.Module, networks: Sequence[nn.Module] = (), settings: AtSettings | None = None
) -> Plan:
    """Prepare `student` for the named strategy; freezes what the plan says.

    >>> import atlab
    >>> student, speaker = (atlab.models.vgg16(num_classes=n, width=1 / 16) for n in (10, 24))
    >>> plan = apply("frozen_wi", student, [speaker], AtSettings(layers=["conv2"]))
    >>> bool((student.features[0].weight == speaker.features[0].weight).all()), plan.frozen
    (True, ['features.0.', 'features.2.'])
    """
    if name not in STRATEGIES:
        raise unknown("strategy", name, STRATEGIES)
    plan = STRATEGIES[name](student, networks, settings or AtSettings())
    plan.freeze(student)
    return plan


def _groups(settings: AtSettings, strategy: str) -> Tensor:
    if settings.groups is None:
        raise AtlabError(f"strategy {strategy!r} needs the group of every training clip: AtSettings(groups=...)")
    return settings.groups


def _train(settings: AtSettings, strategy: str) -> Clips:
    if settings.train is None:
        raise AtlabError(f"strategy {strategy!r} looks at the target's training clips: AtSettings(train=...)")
    return settings.train


def _one(networks: Sequence[nn.Module], strategy: str) -> nn.Module:
    if len(networks) != 1:
        raise AtlabError(f"strategy {strategy!r} takes exactly one network, found {len(networks)}")
    return networks[0]


def _last_linear(student: nn.Module) -> str:
    names = [name for name, module in student.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise AtlabError("expected a network that ends in a linear layer, found none in it")
    return names[-1]


def _convolutions_up_to(student: nn.Module, layers: Sequence[str]) -> list[str]:
    """Parameter prefixes of everything that learns from the input to the last of `layers` (conv1..), norms included."""
    points = {name: path for name, path in getattr(student, "tap_points", {}).items() if not name.endswith(".pre")}
    for layer in layers:
        if layer.removesuffix(".pre") not in points:
            raise unknown("convolution to freeze up to", layer, points)
    last = max(list(points).index(layer.removesuffix(".pre")) for layer in layers)
    until = int(list(points.values())[last].removeprefix("features."))
    return [f"features.{i}." for i, part in enumerate(student.features[:until]) if list(part.parameters())]
