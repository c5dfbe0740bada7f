"""Notebooks as runs: the folder that their parameters name, computed once, shown as offline HTML."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from atlab import runs
from atlab.runs import execution, ipynb, parameters
from atlab.runs.html import write_html
from atlab.runs.requirements import requirements
from atlab.system.home import in_home, shown


def places(
    notebook: str | Path, many: Iterable[Mapping[str, Any]], root: str | Path = "runs", study: str | None = None
) -> list[Path]:
    """The run folders that `run` uses for each of many sets of parameters; no folder is made."""
    known, source = parameters.specification(notebook), ipynb.source(notebook)
    folder, contents = in_home(root) / (study or _study(notebook)), _Contents()
    return [
        folder / runs.run_id(*_identity(parameters.check(notebook, given, known), contents), source) for given in many
    ]


def _study(notebook: str | Path) -> str:
    return re.sub(r"[^\w.-]+", "_", Path(notebook).stem)


class _Contents(dict[str, str]):
    """What a parameter's text names, by content, looked up once: data sets as `load_data` finds them, files, those of orthogonal tasks too."""

    def __missing__(self, text: str) -> str:
        from atlab.data.catalog import content_of

        named = text.removeprefix("file:") if text.startswith("file:") else text.rpartition("@")[2]
        return self.setdefault(text, content_of(named))


def _identity(values: Mapping[str, Any], contents: _Contents) -> tuple[dict[str, Any], str]:
    """What tells a run from others: its parameters but for the folder, and the content that they name."""
    identity = {name: value for name, value in values.items() if name != "run_dir"}
    return identity, _data_hash(identity, contents)


def run(
    notebook: str | Path,
    given: Mapping[str, Any],
    root: str | Path = "runs",
    study: str | None = None,
    html: bool = False,
    progress: bool = True,
    announce: Callable[[str], object] = lambda line: None,
) -> runs.Run:
    """Run a notebook in a run folder `root/study/<id>/`, or open the run if it is done: -> `runs.Run`.

    The study is the notebook's name unless given. A notebook with a parameter `run_dir` is handed the folder: there it
    writes with `runs.Run(run_dir)`. The id depends on the notebook's source, the parameters and the content of every
    data set or file that a parameter names. What the notebook requires (see `requirements`) checks its parameters before a
    kernel starts. `announce` is given a line with the folder first, then what is worth saying of the parameters.
    """
    values = parameters.check(notebook, given)
    needs = requirements(notebook)
    needs.required_by(values)  # checks them against each other and against the data
    opened = runs.open_run(root, study or _study(notebook), *_identity(values, _Contents()), ipynb.source(notebook))
    page = opened.notebook_path.with_suffix(".html")
    announce(f"run       {shown(opened.path)}{' (done before)' if opened.done else ''}")
    for remark in needs.remarks(values):
        announce(f"note      {remark}")
    with opened:
        if not opened.done:
            handed = {"run_dir": str(opened.path)} if "run_dir" in values else {}
            for left in opened.path.glob(".out.*.ipynb"):  # by an execution that was killed
                left.unlink()
            page.unlink(missing_ok=True)
            execution.execute(notebook, {**given, **handed}, opened.notebook_path, progress=progress)
            opened.finish()
    if html and not page.exists():
        write_html(opened.notebook_path, page)
    return opened


def _data_hash(values: Mapping[str, Any], contents: _Contents) -> str:
    found = {}
    for name, value in values.items():
        for number, text in enumerate(
            [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else ()
        ):
            if isinstance(text, str) and (content := contents[text]):
                found[f"{name}.{number}"] = content
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest() if found else ""
