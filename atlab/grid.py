"""Grids: a readable YAML of fixed parameters and axes becomes a list of notebook runs.

study: words                     # runs go to ROOT/words/
notebook: ../train.ipynb         # relative to this file
fixed: {target: word, width: 0.125}
axes:
  seed: 0..4                     # a range, or a list of values
  arm:                           # items that are mappings set several parameters together; a list inside one expands
    - {strategy: baseline}
    - {strategy: at, orthogonal: speaker, layers: [conv5, conv9]}
exclude:
  - {seed: 4, layers: conv9}     # a run that matches every pair is left out
scales:                          # merged over the above: `fixed` updated, axes of the same name replaced
  laptop: {fixed: {clips: 256}}
  paper:  {fixed: {width: 1.0}}
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlab import notebooks
from atlab.errors import AtlabError, unknown

KEYS = ("study", "notebook", "fixed", "axes", "exclude", "scales")
SCALE_KEYS = ("fixed", "axes", "exclude")
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")


@dataclass(frozen=True)
class Grid:
    """A study's name, its notebook, and the parameters of every run that differ from the notebook's defaults."""

    study: str
    notebook: Path
    jobs: list[dict[str, Any]]


def load(path: str | Path, scale: str = "laptop", **fixed: Any) -> Grid:
    """Read a grid at one of its scales; `fixed` parameters are put over the file's.

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


def find(name: str) -> Path:
    """The grid NAME.yaml of notebooks/experiments/grids, looked for from the working folder upwards.

    AtlabError with the grids that are there.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        grids = folder / "notebooks" / "experiments" / "grids"
        if (grids / f"{name}.yaml").is_file():
            return grids / f"{name}.yaml"
        if grids.is_dir():
            raise unknown(f"grid in {grids}", name, sorted(p.stem for p in grids.glob("*.yaml")))
    raise AtlabError(f"no folder notebooks/experiments/grids in {here} or above it: give the grid's path")


def parse(content: Mapping, scale: str, where: str, folder: Path, fixed: Mapping[str, Any] | None = None) -> Grid:
    """A grid from a mapping as YAML gives it; `folder` is what its notebook's path is relative to."""
    _known(content, KEYS, where)
    for key in ("study", "notebook"):
        if not isinstance(content.get(key), str):
            raise AtlabError(f"{where} needs `{key}:` with a name")
    scales = content.get("scales") or {}
    if scales and scale not in scales:
        raise unknown(f"scale of {where}", scale, scales)
    if not scales and scale != "laptop":
        raise AtlabError(f"{where} has no scales, so the only one is 'laptop'; found {scale!r}")
    chosen = scales.get(scale) or {}
    _known(chosen, SCALE_KEYS, f"{where}, scale {scale!r}")
    constant = {**(content.get("fixed") or {}), **(chosen.get("fixed") or {}), **(fixed or {})}
    axes = {**(content.get("axes") or {}), **(chosen.get("axes") or {})}
    exclude = [*(content.get("exclude") or []), *(chosen.get("exclude") or [])]
    notebook = (folder / content["notebook"]).resolve()
    known = notebooks.specification(notebook)
    jobs: dict[str, dict[str, Any]] = {}
    for settings in itertools.product(*(list(_axis(name, values, where)) for name, values in axes.items())):
        job = constant | {key: value for setting in settings for key, value in setting.items()} | dict(fixed or {})
        job = _checked(job, known, where)
        if not any(_matches(job, pairs, known, where) for pairs in exclude):
            jobs.setdefault(repr(sorted(job.items())), job)
    if not jobs:
        raise AtlabError(f"{where} describes no run: every one is excluded, or an axis is empty")
    return Grid(content["study"], notebook, list(jobs.values()))


def _read(path: Path) -> Mapping:
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        near = sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        raise unknown(f"grid in {path.parent}", path.name, near) from None
    except OSError as error:
        raise AtlabError(f"the grid {path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise AtlabError(f"{path}{line} is not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(content, Mapping):
        raise AtlabError(
            f"{path} is no grid: it holds a {type(content).__name__}; wanted are the keys {', '.join(KEYS)}"
        )
    return content


def _axis(name: str, values: Any, where: str) -> Iterator[dict[str, Any]]:
    """The settings of one axis: {parameter: value}, or several parameters of a mapping together."""
    items = _listed(values)
    if not items:
        raise AtlabError(f"{where}: axis {name!r} has no values")
    for item in items:
        if isinstance(item, Mapping):
            keys = list(item)
            for combination in itertools.product(*(_listed(item[key]) for key in keys)):
                yield dict(zip(keys, combination, strict=True))
        else:
            yield {name: item}


def _listed(values: Any) -> list:
    if isinstance(values, str) and (match := _RANGE.fullmatch(values)):
        return list(range(int(match[1]), int(match[2]) + 1))
    return list(values) if isinstance(values, list) else [values]


def _checked(job: Mapping, known: Mapping, where: str) -> dict[str, Any]:
    for name in job:
        if name not in known:
            raise unknown(f"parameter in {where}", name, known)
    try:
        return {name: known[name].check(value) for name, value in job.items()}
    except AtlabError as error:
        raise AtlabError(f"{where}: {error}") from None


def _matches(job: Mapping, pairs: Mapping, known: Mapping, where: str) -> bool:
    for name in pairs:
        if name not in known:
            raise unknown(f"parameter in `exclude` of {where}", name, known)
    return all(job.get(name, known[name].default) == value for name, value in pairs.items())


def _known(content: Mapping, keys: tuple[str, ...], where: str) -> None:
    for key in content:
        if key not in keys:
            raise unknown(f"key in {where}", key, keys)
