"""What a notebook's runs require before they begin: its metadata name the module that knows."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from atlab.errors import AtlabError
from atlab.runs import ipynb

_REQUIRES = re.compile(r"(atlab(?:\.\w+)+):required_by", re.ASCII)


class Requirements(NamedTuple):
    """The module that knows what a notebook's runs require: its name and functions."""

    module: str
    required_by: Callable[[Any], Sequence]
    remarks: Callable[[Mapping], list[str]]


def requirements(notebook: str | Path) -> Requirements:
    """The module that the notebook's metadata name for what its runs require; no requirements if they name none.

    `atlab.requires` in the notebook's metadata is "MODULE:required_by", of a module of atlab: a notebook from a stranger
    must not name what is executed before it runs. `required_by` is given a run's parameters, which it checks, or one of the
    requirements that it returned, and returns a list of requirements (hashable); the module's function
    `train_required(requirement, root, study)` fulfils one. If the module has a function `remarks`, that returns lines that
    are worth saying about a run's parameters.

    AtlabError for any other form, and for a module that does not exist.
    """
    own = ipynb.metadata(notebook).get("atlab", {})
    name = own.get("requires", "") if isinstance(own, dict) else own
    if name == "":
        return Requirements("", lambda of: (), lambda of: [])
    match = _REQUIRES.fullmatch(str(name))
    if not match:
        raise AtlabError(f"{notebook} names its requirements as {name!r}; expected 'atlab.MODULE:required_by'")
    try:
        module = importlib.import_module(match[1])
        return Requirements(match[1], module.required_by, getattr(module, "remarks", lambda of: []))
    except (ImportError, AttributeError) as error:
        raise AtlabError(f"{notebook} names its requirements as {name!r}, which does not exist: {error}") from None
