"""Small sweeps for tests: grids over notebooks of one cell, kept waiting at a gate, and processes to look for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import distributed  # noqa: F401 - its defaults are there before they are changed
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import atlab
from atlab import runs
from atlab.runs import sweep

RESULT = """
from atlab import runs
with open(FOLDER + "/log.txt", "a") as file:
    file.write(f"{seed}\\n")
runs.Run(run_dir).save_result({"double": 2 * seed})
"""
# In a kernel: the process of its job, the kernel's parent or that of the server it was forked from.
WORKER = "(lambda p: int(text(p, 'stat').split()[3]) if 'forkserver' in text(p, 'cmdline') else p)(os.getppid())"
TEXT = "import os\ntext = lambda p, name: open(f'/proc/{p}/{name}', errors='replace').read()\n"
GATED = f"""
{TEXT}
import time
from pathlib import Path
Path(FOLDER, f"started {{seed}} {{os.getpid()}} {{{WORKER}}}").touch()
while not Path(FOLDER, "go").exists():
    time.sleep(0.01)
"""
SCRIPT = """
import signal, sys
from atlab.cli.main import app
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background of a shell
app(["sweep", *sys.argv[1:]])
"""


def grid(folder: Path, seeds: str, cell: str = RESULT, requires: str = "") -> Path:
    """A grid over a notebook that adds its seed to log.txt when it is executed (`executed`)."""
    cells = [
        new_code_cell('seed = 0\nrun_dir = ""', metadata={"tags": ["parameters"]}),
        new_code_cell(f"FOLDER = {str(folder)!r}\n{cell}"),
    ]
    notebook = new_notebook(cells=cells, metadata={"atlab": {"requires": requires}} if requires else {})
    nbformat.write(notebook, folder / "n.ipynb")
    (folder / "g.yaml").write_text(f"study: s\nnotebook: n.ipynb\naxes: {{seed: {seeds}}}")
    return folder / "g.yaml"


def room(name: str, source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `atlab.NAME` a module with this source, here and in the workers of a sweep."""
    (folder / f"{name}.py").write_text(source)
    monkeypatch.setattr(atlab, "__path__", [*atlab.__path__, str(folder)])
    preload = folder / "preload.py"
    preload.write_text(f"import atlab\natlab.__path__.append({str(folder)!r})")
    monkeypatch.setitem(dask.config.get("distributed.worker"), "preload", [str(preload)])


def executed(folder: Path) -> list[int]:
    return sorted(map(int, (folder / "log.txt").read_text().split()))


def results(root: Path) -> dict[int, int]:
    table = runs.table(root / "s")
    return dict(zip(table["seed"], table["double"], strict=True))


def started(folder: Path) -> list[tuple[int, int, int]]:
    """(seed, process id of the kernel, of its job) of every notebook that came to the gate."""
    return sorted(tuple(map(int, path.name.split()[1:])) for path in folder.glob("started *"))


def open_gate(folder: Path) -> None:
    (folder / "go").touch()


def wait_for(condition: Callable[[], Any], seconds: float = 100.0) -> Any:
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.01)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(*pids: int) -> bool:
    return not any(map(alive, pids))


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def listening(pid: int) -> list[str]:
    """Addresses at which a process takes connections, as the system knows them: 0100007F is 127.0.0.1."""
    links = (os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink())
    sockets = {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:[")}
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    ]
    return [line[1].partition(":")[0] for line in lines if line[3] == "0A" and line[9] in sockets]


def command(*arguments: object) -> subprocess.Popen:
    """`atlab sweep` as a process of its own, in a process group as a shell would make it."""
    words = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "NO_COLOR": "1"},
    )


class Sweeping(threading.Thread):
    """A sweep in a thread of this process; `outcome()` waits for it and raises what it raised."""

    def __init__(self, path: Path, root: Path, **options: Any) -> None:
        super().__init__(daemon=True)
        self._arguments = {"root": root, "workers": 2, "progress": False, **options}
        self._path, self._outcome, self._error = path, None, None
        self.start()

    def run(self) -> None:
        try:
            self._outcome = sweep.run(self._path, **self._arguments)
        except BaseException as error:
            self._error = error

    def outcome(self) -> sweep.Outcome:
        self.join(100)
        assert not self.is_alive(), "waited in vain"
        if self._error is not None:
            raise self._error
        return self._outcome
