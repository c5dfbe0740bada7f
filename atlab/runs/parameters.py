"""The parameters of a notebook: read from its cell tagged "parameters" and checked, without a kernel."""

from __future__ import annotations

import ast
import io
import math
import operator
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlab.errors import AtlabError, unknown
from atlab.labels import listed
from atlab.runs import ipynb

_TYPES: dict[str, type] = {t.__name__: t for t in (bool, int, float, str, list, tuple, dict)}
_CHOICES = re.compile(r"one of:\s*([^;]*)")
_NOT_PYTHON = (
    SyntaxError,
    ValueError,
    TypeError,
    MemoryError,
    RecursionError,
)  # what Python's parser raises for odd text
_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
# papermill reads no comment with "=" in it, so bounds are written in words.
_COMPARE |= {"at least": operator.ge, "at most": operator.le, "above": operator.gt, "below": operator.lt}
_BOUND = re.compile(rf"({'|'.join(_COMPARE)})\s*(-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(?:,|and)?\s*")


@dataclass(frozen=True)
class Parameter:
    """One assignment of a parameters cell: default, types a value may have, choices (empty: any) and bounds."""

    name: str
    default: Any
    types: tuple[type, ...]
    choices: tuple[str, ...] = ()
    bounds: tuple[tuple[str, float], ...] = ()

    def check(self, value: Any) -> Any:
        """The value, an int made a float where the default is one; AtlabError if it is not allowed."""
        if value is None and (self.default is None or type(None) in self.types):
            return value
        if isinstance(value, int) and not isinstance(value, bool) and float in self.types and int not in self.types:
            try:
                value = float(value)
            except OverflowError:
                raise AtlabError(f"parameter {self.name!r} has more digits than a number can have") from None
        if tuple in self.types and isinstance(value, str) and str not in self.types:
            value = listed(value)
        if isinstance(value, (list, tuple)) and (list in self.types or tuple in self.types):
            for item in value:
                self._check_one(item)
            return tuple(value) if tuple in self.types else list(value)
        if self.types and type(value) not in self.types:
            wanted = " or ".join(t.__name__ for t in self.types if t is not type(None))
            raise AtlabError(
                f"parameter {self.name!r} is {value!r}, a {type(value).__name__}; allowed: {wanted}, like {self.default!r}"
            )
        self._check_one(value)
        return value

    def _check_one(self, value: Any) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            raise AtlabError(f"parameter {self.name!r} is {value}; allowed: finite numbers")
        if self.choices and str(value) not in self.choices:
            raise unknown(f"value of parameter {self.name!r}", value, self.choices)
        for sign, bound in self.bounds:
            if not _is_number(value) or not _COMPARE[sign](value, bound):
                raise AtlabError(f"parameter {self.name!r} is {value!r}; allowed: {sign} {bound:g}")

    def parse(self, text: str) -> Any:
        """A value typed on the command line, read as the default's type; checked."""
        if (text == "None" and self.default is None) or (str in self.types and list not in self.types):
            return self.check(None if text == "None" and self.default is None else text)
        try:
            value = ast.literal_eval(text)
        except _NOT_PYTHON:
            value = {"true": True, "false": False}.get(text.lower(), text)
        takes_list = (list in self.types or tuple in self.types) and str not in self.types
        if takes_list and not isinstance(value, list | tuple):
            value = list(listed(text))
        return self.check(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def specification(notebook: str | Path) -> dict[str, Parameter]:
    """The parameters that a notebook takes, in order, from its cell tagged "parameters"; {} if it has none.

    Nothing is executed: the cell may hold only `name = literal` lines. A trailing comment may restrict the value:
    `# one of: a, b, c` or bounds such as `# at least 0, below 1`; words after a semicolon are prose. An annotation
    (`rate: float | None = 0.5`) widens the type, and a tuple may be given as text with commas. AtlabError names the line
    that breaks this.
    """
    cells = [
        c for c in ipynb.read(notebook).cells if c.cell_type == "code" and "parameters" in c.metadata.get("tags", [])
    ]
    if not cells:
        return {}
    if len(cells) > 1:
        raise AtlabError(f"{notebook} has {len(cells)} cells tagged 'parameters'; allowed: one")
    source = cells[0].source
    where = f"the parameters cell of {notebook}"
    try:
        statements = ast.parse(source).body
        comments = _comments(source)
    except (*_NOT_PYTHON, tokenize.TokenError) as error:
        raise AtlabError(f"{where} is not valid Python: {error}") from None
    found = {}
    for statement in statements:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # a string on its own is prose
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        several = isinstance(statement, ast.Assign) and len(statement.targets) > 1
        if not isinstance(target, ast.Name) or not isinstance(statement, (ast.Assign, ast.AnnAssign)) or several:
            raise AtlabError(f"{where}, line {statement.lineno}: allowed: name = literal")
        try:
            default = ast.literal_eval(statement.value)
        except _NOT_PYTHON:
            shown = ast.get_source_segment(source, statement)
            raise AtlabError(f"{where}, line {statement.lineno}: {shown!r} is not a literal") from None
        annotation = statement.annotation if isinstance(statement, ast.AnnAssign) else None
        parameter = _parameter(target.id, default, annotation, comments.get(statement.end_lineno, ""), where)
        if default is not None:
            parameter.check(default)
        found[target.id] = parameter
    return found


def _parameter(name: str, default: Any, annotation: ast.expr | None, comment: str, where: str) -> Parameter:
    if annotation is not None:
        names = [node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)]
        strange = [n for n in names if n not in _TYPES]
        if strange:
            raise AtlabError(f"{where}: {name} has the type {strange[0]!r}; allowed: {', '.join(_TYPES)} and None")
        types = tuple(_TYPES[n] for n in names)
        if any(isinstance(node, ast.Constant) and node.value is None for node in ast.walk(annotation)):
            types += (type(None),)
    else:
        types = () if default is None else (type(default),)
    choices = _CHOICES.search(comment)
    bounds = next((part for part in comment.split(";") if _BOUND.match(part.strip())), "")
    return Parameter(
        name,
        default,
        types,
        tuple(c.strip().strip("'\"") for c in choices.group(1).split(",") if c.strip()) if choices else (),
        tuple((sign, float(number)) for sign, number in _BOUND.findall(bounds)),
    )


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}


def defaults(notebook: str | Path) -> dict[str, Any]:
    """Name and default of every parameter, in order; see `specification`."""
    return {name: parameter.default for name, parameter in specification(notebook).items()}


def check(
    notebook: str | Path, given: Mapping[str, Any], known: Mapping[str, Parameter] | None = None
) -> dict[str, Any]:
    """All parameters of a run: the defaults with `given` put in.

    AtlabError for a name the notebook does not have (with the nearest), a value of another type than the default
    (an int may stand for a float; None only where the default is None), or one outside the stated choices or bounds.

    `known` is the notebook's `specification`, where it has been read already.
    """
    known = specification(notebook) if known is None else known
    for name in given:
        if name not in known:
            raise unknown(f"parameter of {Path(notebook).name}", name, known)
    values = {name: parameter.default for name, parameter in known.items()}
    return values | {name: known[name].check(value) for name, value in given.items()}


def parse(notebook: str | Path, texts: Mapping[str, str]) -> dict[str, Any]:
    """Values typed on the command line, each read as the type of its parameter's default; errors as in `check`.

    A list may be typed as a Python literal or with commas: `conv1,conv5`.
    """
    known = specification(notebook)
    for name in texts:
        if name not in known:
            raise unknown(f"parameter of {Path(notebook).name}", name, known)
    return {name: known[name].parse(text) for name, text in texts.items()}
