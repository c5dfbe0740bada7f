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

A parameter that is null has the notebook's default.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlab.runs import notebooks
from atlab import runs
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
    chosen = scales.get(scale) or {}
    _shape(chosen, SCALE_KEYS, f"{where}, scale {scale!r}")
    constant, axes = ({**(content.get(key) or {}), **(chosen.get(key) or {})} for key in ("fixed", "axes"))
    exclude = [*(content.get("exclude") or []), *(chosen.get("exclude") or [])]
    notebook = (Path(folder) / content["notebook"]).resolve()
    known = notebooks.specification(notebook)
    jobs: dict[str, dict[str, Any]] = {}
    for settings in itertools.product(*(list(_axis(name, values, where)) for name, values in axes.items())):
        zipped = {key: value for setting in settings for key, value in setting.items()}
        job = _checked({**constant, **zipped, **(fixed or {})}, known, where)
        if not any(_matches(job, pairs, known, where) for pairs in exclude):
            whole = {name: job.get(name, parameter.default) for name, parameter in known.items()}
            jobs.setdefault(repr(whole), job)
    if not jobs:
        raise AtlabError(f"{where} describes no run: every one is excluded")
    return Grid(content["study"], notebook, list(jobs.values()))


def _shape(content: Any, keys: tuple[str, ...], where: str) -> None:
    """AtlabError unless these are known keys that hold mappings, and `exclude` a list of them."""
    for key in _mapping(content, where):
        if key not in keys:
            raise unknown(f"key in {where}", key, keys)
    for key in ("fixed", "axes"):
        _mapping(content.get(key), f"`{key}` of {where}")
    exclude = content.get("exclude") or []
    if not isinstance(exclude, list):
        raise AtlabError(
            f"`exclude` of {where} is {exclude!r}; wanted is a list of mappings from parameters to values"
        )
    for pairs in exclude:
        _mapping(pairs, f"an item in `exclude` of {where}")


def _mapping(value: Any, what: str) -> Mapping:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise AtlabError(f"{what} is {value!r}; wanted is a mapping, such as {{name: value}}")
    return value


def _read(path: Path) -> Mapping:
    import yaml

    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _loader())
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


@functools.cache
def _loader() -> type:
    """PyYAML's safe loader, but a key that comes twice is an error, and 1e-3 a number (as YAML 1.2 has it)."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict:
            seen = set()
            for key, _ in node.value:
                if key.value in seen:
                    mark = key.start_mark
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} comes twice", mark
                    )
                if isinstance(key.value, str):
                    seen.add(key.value)
            return super().construct_mapping(node, deep)

    number = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789."))
    return Loader


def _axis(name: str, values: Any, where: str) -> Iterator[dict[str, Any]]:
    """The settings of one axis: {parameter: value}, or several parameters of a mapping together."""
    for item in _listed(values, name, where):
        if isinstance(item, Mapping):
            choices = [_listed(value, key, where) for key, value in item.items()]
            for combination in itertools.product(*choices):
                yield dict(zip(item, combination, strict=True))
        else:
            yield {name: item}


def _listed(values: Any, name: str, where: str) -> list:
    if isinstance(values, str) and (match := _RANGE.fullmatch(values)):
        values = list(range(int(match[1]), int(match[2]) + 1))
    if values == []:
        raise AtlabError(f"{where}: axis {name!r} has no values")
    return list(values) if isinstance(values, list) else [values]


def _checked(job: Mapping, known: Mapping, where: str) -> dict[str, Any]:
    """The job without what is null; AtlabError for what the notebook does not take."""
    for name in job:
        if name not in known:
            raise unknown(f"parameter in {where}", name, known)
    try:
        return {name: known[name].check(value) for name, value in job.items() if value is not None}
    except AtlabError as error:
        raise AtlabError(f"{where}: {error}") from None


def _matches(job: Mapping, pairs: Mapping, known: Mapping, where: str) -> bool:
    for name in pairs:
        if name not in known:
            raise unknown(f"parameter in `exclude` of {where}", name, known)
    return all(job.get(name, known[name].default) == value for name, value in pairs.items())
