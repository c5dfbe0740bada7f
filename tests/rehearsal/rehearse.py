"""A rehearsal of every grid at paper scale, on miniature corpora: prepared, trained, read; width, epochs and seeds are cut.

A home is laid out as a user's is: raw corpora, data sets prepared by the commands in the grids' heads, notebooks, and the
grids with nothing left out but width, epochs and all but two repetitions. Runs that differ in seeds only are trained once.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from unittest import mock

import nbformat
import yaml

from atlab.cli.main import app
from atlab.data.catalog import EMBEDDED
from atlab.runs import execution, jobs, notebooks, parameters, strict_yaml
from atlab.runs import grid as grids
from tests.rehearsal import heads, raw

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
GRIDS = sorted((NOTEBOOKS / "experiments/grids").glob("*.yaml"))
REPETITIONS = 2
CUT = ("width", "epochs", "source_epochs", "iterations")  # to what the grid's scale "tiny" has
REPEATED = re.compile(r"(\w*_)?seed|fold")
VARIED = ("layers", "beta", "n")  # in a quick rehearsal one value of these stands for all
# What a miniature cannot fill or need not render, as options of the recipe.
OPTIONS = {
    "ms_snsd": ["hours=0.1"],
    "synthetic_speech": ["speakers=12", "repetitions=1"],
    "synthetic_commands": ["speakers=12", "repetitions=1"],
    "synthetic_notes": ["repetitions=4"],
    "synthetic_digits": ["images=20"],
}


def scale_of(path: Path) -> str:
    """The grid's largest scale: the last one."""
    return grids.scales(path)[-1]


def jobs_of(path: Path) -> list[dict]:
    """The runs of a grid at its largest scale, cut."""
    tiny = strict_yaml.read(path, grids.BYTES, grids.DEPTH)["scales"]["tiny"]["fixed"]
    loaded = grids.load(path, scale_of(path), **{name: tiny[name] for name in CUT if name in tiny})
    kept: dict[str, list[dict]] = {}
    for job in loaded.jobs:
        kept.setdefault(without_seeds(job), []).append(job)
    return [job for repeated in kept.values() for job in repeated[:REPETITIONS]]


def without_seeds(job: Mapping, aside: Sequence[str] = ()) -> str:
    """The same text for runs that are repetitions of each other; further parameters may be left aside."""
    return repr(sorted((k, v) for k, v in job.items() if not REPEATED.fullmatch(k) and k not in aside))


def lay_out(home: Path) -> None:
    """Notebooks and cut grids, as `atlab init` lays them out."""
    shutil.copytree(NOTEBOOKS, home / "notebooks", ignore=shutil.ignore_patterns("grids", ".*"))
    folder = home / "notebooks/experiments/grids"
    folder.mkdir()
    for path in GRIDS:
        content = strict_yaml.read(path, grids.BYTES, grids.DEPTH)
        # A list on an axis expands; a value that is a list must be in one.
        runs = [{k: [list(v)] if isinstance(v, tuple) else v for k, v in job.items()} for job in jobs_of(path)]
        cut = {"study": content["study"], "notebook": content["notebook"], "axes": {"run": runs}}
        text = yaml.safe_dump({**cut, "scales": {scale_of(path): {}}}, default_flow_style=None, width=1000)
        (folder / path.name).write_text(text)


@contextlib.contextmanager
def at(home: Path) -> Iterator[None]:
    """Inside, `home` is the project's folder and the current one."""
    with mock.patch.dict(os.environ, {"ATLAB_HOME": str(home)}), contextlib.chdir(home):
        os.environ.pop("ATLAB_DATA", None)
        yield


def prepare(path: Path, home: Path) -> str:
    """Run the commands in a grid's head on the miniature corpora, and render the embedded sets that it names.

    A set that is there is opened, one that was prepared otherwise is an error, as for a user who prepares for several grids.

    Returns the names of the data sets.
    """
    wanted = heads.commands(path) + [[name] for name in sorted(heads.named(jobs_of(path)) & set(EMBEDDED))]
    for words in wanted:
        recipe = words[0]
        given = PurePosixPath(words[words.index("--raw") + 1]) if "--raw" in words else PurePosixPath()
        if recipe in raw.RAW or given.parts:
            folder = raw.write(recipe, home, given.parts[0] if given.parts else "")
            words = [*words, "--raw", str(folder.joinpath(*given.parts[1:]))]  # the last one counts
        options = [word for option in OPTIONS.get(recipe, []) for word in ("--option", option)]
        app(["data", "prepare", *words, *options, "--workers", "1"], standalone_mode=False)
    return ", ".join(map(heads.folder, wanted))


class InProcess:
    """Stands in for `execution.execute`: the same cells in this process, and for a repetition a copy of the first one's files.

    The first run of every notebook goes through papermill. If `quick`, a run that differs in layer or weight only is a copy too.
    """

    def __init__(self, quick: bool = False) -> None:
        self.aside = ("run_dir", *(VARIED if quick else ()))
        self.first: dict[str, Path] = {}
        self.papermill = execution.execute
        self.seen: set[str] = set()

    def __call__(self, notebook: Path, given: Mapping, out: Path, **options: object) -> Path:
        name, out = Path(notebook).name, Path(out)
        key = f"{name} {without_seeds(given, self.aside)}"
        if key in self.first:
            for file in self.first[key].iterdir():
                if file.is_file() and file.name not in ("params.json", "done") and not file.name.startswith("."):
                    shutil.copy(file, out.parent)
            return out
        if name in self.seen:
            _execute(notebook, given)
            shutil.copy(notebook, out)
        else:
            self.papermill(notebook, given, out, **options)
        self.seen.add(name)
        self.first[key] = out.parent
        return out


def _execute(notebook: Path, given: Mapping) -> None:
    """The cells of a notebook, in this process; no output is kept."""
    space: dict = {"__name__": "__main__"}
    for cell in nbformat.read(notebook, 4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, str(notebook), "exec"), space)
            if "parameters" in cell.metadata.get("tags", []):
                space.update(given)


def train(path: Path, root: Path, how: InProcess) -> str:
    """Every run of a grid in the home, and the networks they require: -> how many of each."""
    nodes = jobs.plan(jobs.load(path.stem, scale_of(path)), root)
    todo = [node for node in nodes if node.state != "done"]
    before, failed = len(how.first), []
    with mock.patch.object(execution, "execute", how):
        for node in todo:
            try:
                node.function(*node.arguments)
            except Exception as error:
                failed.append(f"{type(error).__name__}: {error}; {node.arguments[1]}")
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(todo)} failed: {failed[0]}")
    runs = [node for node in nodes if node.folder]
    networks = sum(node.folder is None for node in todo)
    return f"{len(runs)} runs, {len(how.first) - before} of them trained, {networks} networks required"


def readers(path: Path) -> list[Path]:
    """The notebooks that read this grid, which is their parameter `grid`."""
    found = sorted((NOTEBOOKS / "experiments").glob("*.ipynb"))
    return [notebook for notebook in found if names(notebook, path) and "grid" in parameters.defaults(notebook)]


def names(notebook: Path, grid: Path) -> bool:
    """Whether the code of a notebook names a grid."""
    code = "\n".join(cell.source for cell in nbformat.read(notebook, 4).cells if cell.cell_type == "code")
    return bool(re.search(rf"\b{grid.stem}\b", code))


def read(notebook: Path, root: Path, given: Mapping) -> str:
    """Run a notebook that reads grids, through papermill: -> what its result holds."""
    return ", ".join(notebooks.run(notebook, given, root=root, progress=False).result())


def trained_by(path: Path) -> Path:
    """The notebook that does one run of a grid."""
    return grids.load(path, scale_of(path)).notebook
