"""Notebooks as programs: their parameters checked before a kernel starts, run by papermill, shown as offline HTML."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import logging
import math
import operator
import os
import re
import sys
import tokenize
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlab import runs
from atlab.errors import AtlabError, unknown
from atlab.labels import listed
from atlab.system.files import write_atomic
from atlab.system.home import in_home, shown
from atlab.system.processes import THREAD_VARIABLES

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
    cells = [c for c in _read(notebook).cells if c.cell_type == "code" and "parameters" in c.metadata.get("tags", [])]
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


def _read(notebook: str | Path) -> Any:
    import nbformat

    try:
        broken: dict[str, Exception] = {}
        found = nbformat.read(str(notebook), as_version=4, capture_validation_error=broken)
        if broken:
            raise broken["ValidationError"]
        return found
    except FileNotFoundError:
        folder = Path(notebook).parent
        near = sorted(p.name for p in folder.glob("*.ipynb")) if folder.is_dir() else []
        raise unknown(f"notebook in {folder}", Path(notebook).name, near) from None
    except OSError as error:
        raise AtlabError(f"the notebook {notebook} cannot be read: {error.strerror}") from None
    except Exception as error:  # nbformat raises a dozen types for a file that is no notebook
        raise AtlabError(
            f"{notebook} is not a notebook: {(str(error).splitlines() or [type(error).__name__])[0]}"
        ) from None


def metadata(notebook: str | Path) -> dict[str, Any]:
    """A notebook's metadata."""
    return dict(_read(notebook).metadata)


def parameters(notebook: str | Path) -> dict[str, Any]:
    """Name and default of every parameter of a notebook, in order; see `specification`."""
    return {name: parameter.default for name, parameter in specification(notebook).items()}


def check(notebook: str | Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of a run: the defaults with `given` put in.

    AtlabError for a name the notebook does not have (with the nearest), a value of another type than the default
    (an int may stand for a float; None only where the default is None), or one outside the stated choices or bounds.
    """
    return _checked(notebook, specification(notebook), given)


def _checked(notebook: str | Path, known: dict[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
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


def execute(
    notebook: str | Path,
    given: Mapping[str, Any],
    out: str | Path,
    html: bool = False,
    cwd: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """Run a notebook with papermill and write the executed copy to `out` (and `out` as .html): -> `out`.

    The kernel is "atlab" if that is installed, else "python3"; it works in `cwd`, or where the caller does. `out` is
    whole or absent. If a cell fails, the copy as far as it came, with the traceback, is kept beside it as
    NAME.failed.ipynb and AtlabError says where and shows the traceback's end. Parameters are checked before.

    The kernel computes on one thread, wherever it runs: other numbers of threads give other results in the last digits.
    """
    checked = check(notebook, given)
    given = {name: checked[name] for name in given}
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    failed = out.with_suffix(".failed.ipynb")
    temporary = out.absolute().with_name(f".{out.stem}.{uuid.uuid4().hex[:8]}.ipynb")
    try:
        try:
            _papermill(notebook, given, temporary, cwd, progress)
        except Exception as error:
            # After a dead kernel or a time-out the copy's metadata says "completed": only the exception is to be trusted.
            kept = ""
            if temporary.exists():
                os.replace(temporary, failed)
                kept = f"; as far as it came: {failed}"
            summary, traceback = _reason(error)
            raise AtlabError("\n".join([f"{notebook} failed: {summary}{kept}", *traceback])) from error
        executed = json.loads(temporary.read_text(encoding="utf-8"))
        executed["metadata"]["papermill"]["output_path"] = str(out)
        write_atomic(out, json.dumps(executed, ensure_ascii=False, indent=1) + "\n")
        failed.unlink(missing_ok=True)
    finally:
        temporary.unlink(missing_ok=True)
    if html:
        write_html(out, out.with_suffix(".html"))
    return out


# Before a notebook's first cell. A stored notebook keeps no widget state, so a widget's bar would stay at 0 %: bars are
# text, and reach the terminal. An idle kernel that is asked to stop logs the interrupt as an error.
_IN_KERNEL = (
    "import logging, os, sys, tqdm; sys.modules['tqdm.auto'] = tqdm.auto = tqdm; "
    "logging.getLogger('IPKernelApp').setLevel(logging.CRITICAL); "
    f"os.environ.update(dict.fromkeys({THREAD_VARIABLES}, '1')); del logging, os, sys, tqdm"
)


def _papermill(
    notebook: str | Path, given: Mapping[str, Any], out: Path, cwd: str | Path | None, progress: bool
) -> None:
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)  # parameters are checked here; its own parser only warns
    papermill.execute_notebook(
        _literal(notebook),
        _literal(out),
        parameters={name: list(v) if isinstance(v, tuple) else v for name, v in given.items()},
        kernel_name=_kernel(),
        language="python",
        progress_bar=progress and {"desc": Path(notebook).stem, "unit": "cell"},
        cwd=None if cwd is None else str(cwd),
        stderr_file=_Bars() if progress and sys.stderr.isatty() else None,
        store_widget_state=False,  # 5 MB a figure otherwise
        coalesce_streams=True,
        extra_arguments=[f"--IPKernelApp.exec_lines={_IN_KERNEL}"],
    )


def _literal(path: str | Path) -> str:
    """A path as papermill takes it: it fills what stands in braces with parameters."""
    return str(path).replace("{", "{{").replace("}", "}}")


class _Bars(io.TextIOBase):
    """Shows the progress bar of the cell that is running on the terminal's last line."""

    def write(self, text: str) -> int:
        if "\r" in text:
            print("\r\x1b[K" + text.rsplit("\r", 1)[1].rstrip("\n"), end="", file=sys.stderr, flush=True)
        return len(text)


def _kernel() -> str:
    from jupyter_client.kernelspec import find_kernel_specs

    return "atlab" if "atlab" in find_kernel_specs() else "python3"


def _reason(error: Exception) -> tuple[str, list[str]]:
    """What went wrong in one line, and the last lines of the cell's traceback."""
    colours = re.compile(r"\x1b\[[0-9;]*m")
    traceback = [
        line for line in colours.sub("", "\n".join(getattr(error, "traceback", []))).splitlines() if line.strip()
    ]
    if hasattr(error, "ename"):
        return f"{error.ename} in cell {error.exec_count}: {error.evalue}", traceback[-8:]
    return f"{type(error).__name__}: {str(error).strip() or 'no message'}", []


def places(
    notebook: str | Path, many: Iterable[Mapping[str, Any]], root: str | Path = "runs", study: str | None = None
) -> list[Path]:
    """The run folders that `run` uses for each of many sets of parameters; nothing is made."""
    known, source = specification(notebook), _source(notebook)
    folder = in_home(root) / (study or _study(notebook))
    return [folder / runs.run_id(*_identity(_checked(notebook, known, given)), source) for given in many]


def _study(notebook: str | Path) -> str:
    return re.sub(r"[^\w.-]+", "_", Path(notebook).stem)


def _identity(values: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """What tells a run from others: its parameters but for the folder, and the content that they name."""
    identity = {name: value for name, value in values.items() if name != "run_dir"}
    return identity, _data_hash(identity)


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
    data set or file that a parameter names. `announce` is given a line with the folder first.
    """
    values = check(notebook, given)
    opened = runs.open_run(root, study or _study(notebook), *_identity(values), _source(notebook))
    page = opened.notebook_path.with_suffix(".html")
    announce(f"run       {shown(opened.path)}{' (done before)' if opened.done else ''}")
    with opened:
        if not opened.done:
            handed = {"run_dir": str(opened.path)} if "run_dir" in values else {}
            for left in opened.path.glob(".out.*.ipynb"):  # by an execution that was killed
                left.unlink()
            page.unlink(missing_ok=True)
            execute(notebook, {**given, **handed}, opened.notebook_path, progress=progress)
            opened.finish()
    if html and not page.exists():
        write_html(opened.notebook_path, page)
    return opened


def _source(notebook: str | Path) -> str:
    """What of a notebook decides its results: its code, without outputs, prose and metadata."""
    return "\n\n".join(cell.source for cell in _read(notebook).cells if cell.cell_type == "code")


def _data_hash(values: Mapping[str, Any]) -> str:
    """What the parameters name, by content: data sets as `load_data` finds them, files, those of orthogonal tasks too."""
    from atlab.data.catalog import content_of

    contents = {}
    for name, value in values.items():
        for number, text in enumerate(
            [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else ()
        ):
            if isinstance(text, str) and (found := content_of(text.removeprefix("file:").rpartition("@")[2])):
                contents[f"{name}.{number}"] = found
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest() if contents else ""


def write_html(notebook: str | Path, out: str | Path) -> Path:
    """Show an executed notebook as one HTML file that asks nothing of any other host: -> `out`.

    Formulas become MathML. A plotly figure is shown as its stored SVG or PNG; one that has none is embedded, with
    plotly.js in the file itself.
    """
    from atlab.runs.html import to_html

    return write_atomic(out, to_html(_read(notebook)))
