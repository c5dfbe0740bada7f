"""The treatments of Yosinski et al. 2014 (figure 1): which layers of a network come from where, and which of them learn."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from atlab.errors import AtlabError, unknown
from atlab.transfer.cut import Cut, check_layer, copy_layers, layers

OWN, OTHER = "own", "other"


class Treatment(NamedTuple):
    """Where the first n layers come from: a network of the same task, of the other one, or neither; whether they learn."""

    source: str
    tuned: bool
    words: str


# Named as in the paper for target B; with target A they are its AnA and BnA, its statistically identical mirror.
TREATMENTS = {
    "base": Treatment("", True, "trained on the target from random weights"),
    "BnB": Treatment(OWN, False, "selffer: n layers of the target's own base network, frozen"),
    "BnB+": Treatment(OWN, True, "selffer, fine-tuned"),
    "AnB": Treatment(OTHER, False, "transfer: n layers of the other task's base network, frozen"),
    "AnB+": Treatment(OTHER, True, "transfer, fine-tuned"),
    "random": Treatment("", False, "n layers of random weights, frozen"),
}


def treatment(name: str) -> Treatment:
    """The treatment of a name; AtlabError for another one.

    >>> treatment("AnB+").source, treatment("AnB+").tuned
    ('other', True)
    """
    if name not in TREATMENTS:
        raise unknown("treatment", name, TREATMENTS)
    return TREATMENTS[name]


def check(name: str, n: int, count: int) -> None:
    """AtlabError unless treatment `name` makes sense with n of `count` layers.

    n = 0 copies nothing: every treatment is then a base network. n = `count` is "base" itself for BnB, and more of its
    training for BnB+; with weights of another task or random ones it would have no layer left that learns the target
    (Yosinski et al. 2014, footnote 2).
    """
    wanted = treatment(name)
    if name == "base" and n:
        raise AtlabError(f"treatment 'base' copies no layer: expected n = 0, got {n}")
    if not 0 <= n <= count:
        raise AtlabError(f"n must be a number of layers from 0 to {count}, found {n}")
    if n == count and wanted.source != OWN and n:
        raise AtlabError(f"{name} with n = {n} leaves no layer to learn the target; allowed: 0 to {count - 1}")


def apply(name: str, n: int, model: nn.Module, own: nn.Module | None = None, other: nn.Module | None = None) -> Cut:
    """Give a newly initialised network the first n layers of its treatment: -> the network, cut there, ready for `fit`.

    Args:
        name: a name in `TREATMENTS`.
        n: number of layers.
        model: a network of the target task with random weights; changed in place.
        own, other: base networks of the target task and of the other one, where the treatment takes from them.

    Raises AtlabError for an unknown treatment, an n that it does not allow, and a base network that is missing or does not
    fit.

    >>> import atlab
    >>> base, new = (atlab.models.alexnet(4, width=1 / 16, images="small") for _ in range(2))
    >>> cut = apply("AnB", 2, new, other=base)
    >>> [name for name, parameter in new.named_parameters() if not parameter.requires_grad]
    ['features.0.weight', 'features.0.bias', 'features.3.weight', 'features.3.bias']
    """
    wanted = treatment(name)
    check(name, check_layer(model, n), len(layers(model)))
    if wanted.source and n:
        base = own if wanted.source == OWN else other
        if base is None:
            raise AtlabError(
                f"{name} copies layers of a network of the {'target' if wanted.source == OWN else 'other'} task: give it"
            )
        copy_layers(base, model, n)
    return Cut(model, n, frozen=not wanted.tuned)
