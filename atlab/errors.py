"""One error type for everything a user can put right, with messages that name the nearest match."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AtlabError(ValueError):
    """Input that atlab cannot use; the message says what was found and what is allowed."""


def unknown(kind: str, found: object, allowed: Iterable[object]) -> AtlabError:
    """The error for a name that is not among the allowed ones; raise what it returns.

    >>> str(unknown("layer", "conv15", ["conv1", "conv5", "fc1"]))
    "unknown layer 'conv15'; nearest: 'conv5', 'conv1'; allowed: conv1, conv5, fc1"
    """
    names = [str(name) for name in allowed]
    lower = {name.lower(): name for name in names}
    near = [lower[name] for name in difflib.get_close_matches(str(found).lower(), lower, n=3, cutoff=0.5)]
    nearest = f"; nearest: {', '.join(map(repr, near))}" if near else ""
    shown = ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")
    return AtlabError(f"unknown {kind} {str(found)!r}{nearest}; allowed: {shown or 'nothing'}")
