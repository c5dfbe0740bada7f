"""What strategies are called in figures and tables, and how text from outside is put into Markdown and HTML."""

from __future__ import annotations

import re

NAMES = {
    "baseline": "baseline",
    "wi": "WI",
    "frozen_wi": "frozen WI",
    "at": "AT",
    "inverse_at": "inverse AT",
    "dual_at": "dual AT",
    "gradient_reversal": "gradient reversal",
}

# What Markdown or HTML would read as more than text; an underscore inside a word means nothing to either.
_MARKUP = re.compile(r"""[\\`*{}\[\]<>&$#|~!"']|(?<![^\W_])_|_(?![^\W_])|:(?=//)""")


def plain(text: object) -> str:
    """Text that shows as itself, on one line, wherever it is put into Markdown or HTML.

    Names and messages come from data sets, cards, runs and grids, which a stranger may have written.

    >>> plain("<img src=x> and squared_cosine"), plain("![a](http://b)")
    ('&#60;img src=x&#62; and squared_cosine', '&#33;&#91;a&#93;(http&#58;//b)')
    """
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", " ".join(str(text).split()))
