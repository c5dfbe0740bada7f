"""Notebooks executed by papermill, in a kernel of their own."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from atlab.errors import AtlabError
from atlab.runs import forked, parameters
from atlab.runs.html import write_html
from atlab.runs.progress import LOG_EVERY
from atlab.system.files import scratch, write_atomic
from atlab.system.processes import THREAD_VARIABLES


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
    whole or absent. If a cell fails, the copy as far as it came, with the traceback, is kept next to it as
    NAME.failed.ipynb and AtlabError says where and shows the traceback's end. Parameters are checked before, and temporary
    files of the kernel go with it.

    The kernel computes on one thread, wherever it runs: other numbers of threads give other results in the last digits.
    """
    checked = parameters.check(notebook, given)
    given = {name: checked[name] for name in given}
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    failed = out.with_suffix(".failed.ipynb")
    forked.ready(notebook)
    temporary = out.absolute().with_name(f".{out.stem}.{uuid.uuid4().hex[:8]}.ipynb")
    try:
        try:
            with _temporary_files():
                _papermill(notebook, given, temporary, cwd, progress)
        except KeyboardInterrupt:
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # tasks that were cut off are no news
            raise
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


# Before a notebook's first cell. An idle kernel that is asked to stop logs the interrupt as an error.
_IN_KERNEL = (
    "import logging, os; logging.getLogger('IPKernelApp').setLevel(logging.CRITICAL); "
    f"os.environ.update(dict.fromkeys({THREAD_VARIABLES}, '1')); import atlab.runs.bars; del atlab, logging, os"
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
        stderr_file=_Bars() if progress else None,
        store_widget_state=False,  # 5 MB a figure otherwise
        coalesce_streams=True,
        extra_arguments=[f"--IPKernelApp.exec_lines={_IN_KERNEL}"],
    )


@contextmanager
def _temporary_files() -> Iterator[None]:
    """Give a kernel a folder for its temporary files, its browser's and its keys.

    It is removed with the kernel; where that is killed, by the next execution.
    """
    with scratch("kernel") as folder:
        before, in_environment = tempfile.tempdir, os.environ.get("TMPDIR")
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before
            os.environ.pop("TMPDIR")
            os.environ |= {} if in_environment is None else {"TMPDIR": in_environment}


def _literal(path: str | Path) -> str:
    """A path as papermill takes it: it fills what stands in braces with parameters."""
    return str(path).replace("{", "{{").replace("}", "}}")


class _Bars(io.TextIOBase):
    """Shows the progress bar of the cell that is running on the terminal's last line, or now and then as a line of a log."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def write(self, text: str) -> int:
        bar = text.rsplit("\r", 1)[1].strip() if "\r" in text else ""
        if bar and sys.stderr.isatty():
            print("\r\x1b[K" + bar, end="", file=sys.stderr, flush=True)
        elif bar and time.monotonic() - self._said >= LOG_EVERY:
            self._said = time.monotonic()
            print("\n" + bar, file=sys.stderr, flush=True)
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
    said = f"{type(error).__name__}: {str(error).strip() or 'no message'}"
    dead = type(error).__name__ == "DeadKernelError"
    return said + (" (killed, or out of memory?)" if dead else ""), []
