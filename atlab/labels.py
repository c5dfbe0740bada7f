"""What strategies are called in figures and tables; lists of names; text from outside in Markdown and HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable

from atlab.errors import AtlabError

NAMES = {
    "baseline": "baseline",
    "wi": "WI",
    "frozen_wi": "frozen WI",
    "at": "AT",
    "inverse_at": "inverse AT",
    "dual_at": "dual AT",
    "gradient_reversal": "gradient reversal",
    "second_stream": "second stream",
    "reweighting": "reweighting",
    "group_dro": "group DRO",
    "just_train_twice": "just train twice",
    "product_of_experts": "product of experts",
    "last_layer_retraining": "last-layer retraining",
}

# Strategies that take no orthogonal network; of these, all but the baseline take orthogonal labels or clips.
WITHOUT_NETWORK = ("baseline", "gradient_reversal", "second_stream", "reweighting", "group_dro")

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# What Markdown or HTML would read as more than text; an underscore inside a word means nothing to either.
_MARKUP = re.compile(r"""[\\`*{}\[\]<>&$#|~!"']|(?<![^\W_])_|_(?![^\W_])|:(?=//)""")


def plain(text: object) -> str:
    """Text that shows as itself, on one line, wherever it is put into Markdown or HTML.

    Names and messages come from data sets, cards, runs and grids, which a stranger may have written.

    >>> plain("<img src=x> and squared_cosine"), plain("![a](http://b)")
    ('&#60;img src=x&#62; and squared_cosine', '&#33;&#91;a&#93;(http&#58;//b)')
    """
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", " ".join(str(text).split()))


def listed(names: str | Iterable[str | int]) -> tuple[str, ...]:
    """Several names as a tuple, of a text with commas or of a list (whole numbers may be names); AtlabError for anything else.

    >>> listed("conv1, conv5"), listed(["conv1"]), listed(""), listed([7])
    (('conv1', 'conv5'), ('conv1',), (), ('7',))
    """
    if isinstance(names, str):
        return tuple(part.strip() for part in names.split(",") if part.strip())
    found = tuple(names) if isinstance(names, Iterable) else (None,)
    if not all(isinstance(name, str | int) for name in found):
        raise AtlabError(f"expected names in a list, or in a text with commas between them, found {names!r}")
    return tuple(str(name) for name in found)


def shown(value: object) -> object:
    """A list of names or whole numbers as text for people; anything else as it is.

    >>> shown(("conv1", "conv5")), shown([]), shown([1, 2]), shown(0.5)
    ('conv1, conv5', '', '1, 2', 0.5)
    """
    names = isinstance(value, list | tuple) and all(isinstance(item, str | int) for item in value)
    return ", ".join(map(str, value)) if names else value


def natural(text: str) -> tuple:
    """A sorting key that puts conv5 before conv13, 0.5 before 10, and the digits' names in the order of the digits.

    >>> sorted(["conv13", "conv5", "conv1, conv5"], key=natural)
    ['conv1, conv5', 'conv5', 'conv13']
    >>> sorted(["one", "zero", "two"], key=natural)
    ['zero', 'one', 'two']
    """
    try:
        return (0, float(DIGITS.index(text)) if text in DIGITS else float(text), ())
    except ValueError:
        parts = re.findall(r"\d+|\D+", str(text))
        return (1, 0.0, tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts))
