"""What a notebook's runs require before they begin: its metadata name who knows."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from atlab.errors import AtlabError
from atlab.runs import ipynb

_REQUIRES = re.compile(r"(atlab(?:\.\w+)+):required_by", re.ASCII)


def requirements(notebook: str | Path) -> tuple[str, Callable[[Any], Sequence]]:
    """What knows what the notebook's runs require: a module's name and its `required_by`, as the metadata names them.

    `atlab.requires` in the notebook's metadata is "MODULE:required_by", of a module of atlab: a notebook from a stranger
    must not name what is executed before it runs. The function is given a run's parameters, which it checks, or one of the
    requirements that it returned, and returns a list of requirements (hashable); the module's function
    `train_required(requirement, root, study)` gets one done. ("", a function without requirements) if nothing is named.

    AtlabError for any other form, and for a module that does not exist.
    """
    own = ipynb.metadata(notebook).get("atlab", {})
    name = own.get("requires", "") if isinstance(own, dict) else own
    if name == "":
        return "", lambda of: ()
    match = _REQUIRES.fullmatch(str(name))
    if not match:
        raise AtlabError(f"{notebook} names its requirements as {name!r}; expected 'atlab.MODULE:required_by'")
    try:
        return match[1], importlib.import_module(match[1]).required_by
    except (ImportError, AttributeError) as error:
        raise AtlabError(f"{notebook} names its requirements as {name!r}, which does not exist: {error}") from None
