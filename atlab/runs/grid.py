"""Grids: a readable YAML of fixed parameters and axes becomes a list of notebook runs.

::

    study: words                     # runs go to ROOT/words/
    notebook: ../train.ipynb         # relative to this file
    fixed: {target: word, width: 0.125}
    axes:
      repetition: 0..4               # a range, or a list of values; this axis sets seed and split_seed together
      arm:                           # items that are mappings set several parameters together; a list inside one expands
        - {strategy: baseline}
        - {strategy: at, orthogonal: speaker, layers: [conv5, conv9]}
    exclude:
      - {seed: 4, layers: conv9}     # a run that matches every pair is left out; an item that matches none is an error
    scales:                          # merged over the above: `fixed` updated, axes of the same name replaced
      laptop: {fixed: {clips: 256}}
      paper:  {fixed: {width: 1.0}}

With `precision` and `primary` (see `precision`) the repetitions are planned: they are an axis of their own, the first one.
An arm is what differs otherwise; it is named by the values that its axes give it, as far as they vary: at.conv5.
A parameter that is null has the notebook's default. A grid has at most 10,000 runs and 1,000 exclusions; its file has at
most 131,072 bytes, nests at most 8 deep, and is YAML without anchors, aliases and tags (`strict_yaml`).
"""

from __future__ import annotations

import itertools
import math
import os
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atlab import runs
from atlab.errors import AtlabError, unknown
from atlab.labels import shown
from atlab.runs import parameters, precision, strict_yaml

KEYS = ("study", "notebook", "fixed", "axes", "exclude", "precision", "primary", "scales")
SCALE_KEYS = ("fixed", "axes", "exclude", "precision", "primary")
REPETITION = ("seed", "split_seed")  # what the axis `repetition` sets
RUNS, EXCLUSIONS, BYTES, DEPTH = 10_000, 1_000, 1 << 17, 8  # the most of each
_RANGE = re.compile(r"(-?\d{1,18})\.\.(-?\d{1,18})")


@dataclass(frozen=True)
class Grid:
    """A study's name, its notebook, and the parameters of every run that differ from the notebook's defaults.

    `plan` says how precise its primary differences are to be, and `arms` names the arm of every run; without a plan there are
    no names.
    """

    study: str
    notebook: Path
    jobs: list[dict[str, Any]]
    plan: precision.Plan | None = None
    arms: list[str] = field(default_factory=list)


def load(path: str | Path, scale: str = "laptop", **fixed: Any) -> Grid:
    """Read a grid at one of its scales; `fixed` parameters override the file's.

    A grid without scales has the one scale "laptop". Every run's parameters are checked against the notebook's, equal
    runs are made one. AtlabError names what is wrong and where.

    >>> import nbformat, tempfile
    >>> from nbformat.v4 import new_code_cell, new_notebook
    >>> folder = Path(tempfile.mkdtemp())
    >>> cell = new_code_cell("seed = 0\\nbeta = 1.0", metadata={"tags": ["parameters"]})
    >>> nbformat.write(new_notebook(cells=[cell]), folder / "n.ipynb")
    >>> _ = (folder / "g.yaml").write_text("study: s\\nnotebook: n.ipynb\\naxes: {seed: 0..1, beta: [0.5, 2]}")
    >>> load(folder / "g.yaml").jobs
    [{'seed': 0, 'beta': 0.5}, {'seed': 0, 'beta': 2.0}, {'seed': 1, 'beta': 0.5}, {'seed': 1, 'beta': 2.0}]
    """
    path = Path(path)
    return parse(_read(path), scale, str(path), path.parent, fixed)


def scales(path: str | Path) -> list[str]:
    """The names of a grid's scales, in its order; "laptop" for a grid without any. Errors as in `load`."""
    path = Path(path)
    return list(_mapping(_read(path).get("scales"), f"`scales` of {path}")) or ["laptop"]


def study(path: str | Path) -> Any:
    """The study that a grid's runs belong to, the same at all scales; None if it names none. Errors as in `load`."""
    return _read(Path(path)).get("study")


def parse(
    content: Mapping,
    scale: str = "laptop",
    where: str = "the grid",
    folder: str | Path = ".",
    fixed: Mapping[str, Any] | None = None,
) -> Grid:
    """A grid from a mapping as YAML gives it; `folder` is what its notebook's path is relative to, `where` its name.

    >>> parse({"study": "s", "notebook": "n.ipynb", "axis": {"seed": "0..1"}})
    Traceback (most recent call last):
    atlab.errors.AtlabError: unknown key in the grid 'axis'; nearest: 'axes'; allowed: study, notebook, ...
    """
    _shape(content, KEYS, where)
    for key in ("study", "notebook"):
        if not isinstance(content.get(key), str):
            raise AtlabError(f"{where} needs `{key}:` with a name")
    runs.check_study(content["study"])
    scales = _mapping(content.get("scales"), f"`scales` of {where}")
    if scales and scale not in scales:
        raise unknown(f"scale of {where}", scale, scales)
    if not scales and scale != "laptop":
        raise AtlabError(f"{where} has no scales, so the only one is 'laptop'; found {scale!r}")
    chosen = _mapping(scales.get(scale), f"{where}, scale {scale!r}")
    _shape(chosen, SCALE_KEYS, f"{where}, scale {scale!r}")
    constant, axes = ({**(content.get(key) or {}), **(chosen.get(key) or {})} for key in ("fixed", "axes"))
    planned = chosen.get("precision", content.get("precision"))
    primary = chosen.get("primary", content.get("primary"))
    if planned is not None or primary is not None:
        planned = precision.numbers(planned, where)
        axes = _planned_axes(axes, {**constant, **(fixed or {})}, planned["at_most"], where)
    exclude = [*(content.get("exclude") or []), *(chosen.get("exclude") or [])]
    notebook = _notebook(folder, content["notebook"], where)
    known = parameters.specification(notebook)
    if unheard := [name for pairs in exclude for name in pairs if name not in known]:
        raise unknown(f"parameter in `exclude` of {where}", unheard[0], known)
    # Where a scale replaces axes, what the grid excludes besides may be meant for the others.
    must_match = (chosen.get("exclude") or []) if chosen.get("axes") else exclude
    left_out = _Exclusions(exclude, known, where)
    expanded = _expanded(axes, where)
    jobs: dict[str, dict[str, Any]] = {}
    wholes: list[dict[str, Any]] = []
    own: list[dict[str, Any]] = []
    for settings in itertools.product(*expanded):
        zipped = {key: value for setting in settings for key, value in setting.items()}
        job = _checked({**constant, **zipped, **(fixed or {})}, known, where)
        if not left_out.match(job):
            whole = {name: job.get(name, parameter.default) for name, parameter in known.items()}
            if jobs.setdefault(repr(whole), job) is job:
                wholes.append(whole)
                own.append({name: job[name] for name in zipped if name in job})
    left_out.check(must_match, fixed or {}, where)
    if not jobs:
        raise AtlabError(f"{where} describes no run: every one is excluded")
    if planned is None:
        return Grid(content["study"], notebook, list(jobs.values()))
    arms = _arms(own, wholes)
    plan = precision.parse(planned, primary, sorted(set(arms)), where)
    for arm in plan.arms():
        if arms.count(arm) != plan.at_most:
            raise AtlabError(
                f"{where}: expected one run per repetition of the arm {arm!r}, {plan.at_most} in all, got {arms.count(arm)}"
            )
    return Grid(content["study"], notebook, list(jobs.values()), plan, arms)


def _planned_axes(axes: Mapping, constant: Mapping, at_most: int, where: str) -> dict[str, Any]:
    """The axes with the repetitions before them; AtlabError where the grid sets these itself, too."""
    inside = [
        name
        for axis, values in axes.items()
        for item in _listed(values, axis, where)
        if isinstance(item, Mapping)
        for name in item
    ]
    for name in (*REPETITION, "repetition"):
        if name in (*axes, *constant, *inside):
            raise AtlabError(
                f"{where}: precision makes the repetitions, each with a seed and a split of its own: leave out {name!r}"
            )
    return {"repetition": range(at_most), **axes}


def _arms(own: list[dict[str, Any]], wholes: list[dict[str, Any]]) -> list[str]:
    """The name of every run's arm: the values that its axes set, of the parameters that vary otherwise than by repetition."""
    varying = {
        name for name in wholes[0] if name not in REPETITION and len({repr(whole[name]) for whole in wholes}) > 1
    }
    return [".".join(str(shown(value)) for name, value in job.items() if name in varying) for job in own]


def _shape(content: Any, keys: tuple[str, ...], where: str) -> None:
    """AtlabError unless these are known keys that hold mappings, and `exclude` a list of them."""
    for key in _mapping(content, where):
        if key not in keys:
            raise unknown(f"key in {where}", key, keys)
    for key in ("fixed", "axes"):
        _mapping(content.get(key), f"`{key}` of {where}")
    exclude = [] if content.get("exclude") is None else content["exclude"]
    if not isinstance(exclude, list):
        raise AtlabError(
            f"expected a list of mappings from parameters to values for `exclude` of {where}, got {reprlib.repr(exclude)}"
        )
    if len(exclude) > EXCLUSIONS:
        raise AtlabError(f"`exclude` of {where} has {len(exclude):,} items; allowed: at most {EXCLUSIONS:,}")
    for pairs in exclude:
        if pairs is None:
            raise AtlabError(f"an item in `exclude` of {where} is empty; expected a mapping such as {{name: value}}")
        _mapping(pairs, f"an item in `exclude` of {where}")


def _mapping(value: Any, what: str) -> Mapping:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise AtlabError(f"expected a mapping such as {{name: value}} for {what}, got {reprlib.repr(value)}")
    return value


def _notebook(folder: str | Path, name: str, where: str) -> Path:
    try:
        return (Path(folder) / name).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a null character, a link to itself
        raise AtlabError(f"{where}: {reprlib.repr(name)} cannot be a notebook's path: {error}") from None


def _read(path: Path) -> Mapping:
    if not os.path.lexists(path):
        near = sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        raise unknown(f"grid in {path.parent}", path.name, near)
    content = strict_yaml.read(path, BYTES, DEPTH)
    if not isinstance(content, Mapping):
        raise AtlabError(f"{path} is not a grid: expected the keys {', '.join(KEYS)}, got a {type(content).__name__}")
    return content


def _expanded(axes: Mapping[str, Any], where: str) -> list[list[dict[str, Any]]]:
    """The settings of every axis; AtlabError if there are too many, found before any list is made."""
    size = 1
    for name, values in axes.items():
        items = _listed(values, name, where)
        together = [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
        combinations = (math.prod(len(_listed(v, key, where)) for key, v in item.items()) for item in together)
        size *= len(items) - len(together) + sum(combinations)
        if size > RUNS:
            raise AtlabError(f"{where} describes {size:,} runs or more; allowed: at most {RUNS:,}")
    return [list(_axis(name, values, where)) for name, values in axes.items()]


def _axis(name: str, values: Any, where: str) -> Iterator[dict[str, Any]]:
    """The settings of one axis: {parameter: value}, or several parameters of a mapping together."""
    for item in _listed(values, name, where):
        if isinstance(item, Mapping):
            choices = [_listed(value, key, where) for key, value in item.items()]
            for combination in itertools.product(*choices):
                yield dict(zip(item, combination, strict=True))
        elif name == "repetition":
            yield dict.fromkeys(REPETITION, item)
        else:
            yield {name: item}


def _listed(values: Any, name: str, where: str) -> Sequence:
    if isinstance(values, str) and (match := _RANGE.fullmatch(values)):
        values = range(int(match[1]), int(match[2]) + 1)
    if isinstance(values, (list, range)):
        if not values:
            raise AtlabError(f"{where}: axis {name!r} has no values")
        return values
    return [values]


def _checked(job: Mapping, known: Mapping, where: str) -> dict[str, Any]:
    """The job without what is null; AtlabError for what the notebook does not take."""
    for name in job:
        if name not in known:
            raise unknown(f"parameter in {where}", name, known)
    try:
        return {name: known[name].check(value) for name, value in job.items() if value is not None}
    except AtlabError as error:
        raise AtlabError(f"{where}: {error}") from None


class _Exclusions:
    """The items of `exclude`, and which of them have matched a run."""

    def __init__(self, items: list[Mapping], known: Mapping[str, parameters.Parameter], where: str) -> None:
        defaults = [{name: known[name].default for name, value in pairs.items() if value is None} for pairs in items]
        self.items = [_checked(pairs, known, where) | null for pairs, null in zip(items, defaults, strict=True)]
        self.known, self.matched = known, [False] * len(items)

    def match(self, job: Mapping) -> bool:
        """Whether an item matches this run's values, where stated or by default, in all its pairs."""
        found = [all(job.get(n, self.known[n].default) == v for n, v in item.items()) for item in self.items]
        self.matched = [before or now for before, now in zip(self.matched, found, strict=True)]
        return any(found)

    def check(self, given: list[Mapping], fixed: Mapping, where: str) -> None:
        """AtlabError if one of the given items matched no run, unless `fixed` sets what it names."""
        for pairs, matched in zip(given, self.matched[len(self.matched) - len(given) :], strict=True):
            if not matched and not set(pairs) & set(fixed):
                raise AtlabError(
                    f"{where}: {reprlib.repr(dict(pairs))} in `exclude` matches no run; correct it or take it out"
                )
