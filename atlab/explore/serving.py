"""The explorers as a page without JupyterLab, served by Voila on this machine only.

`python -m atlab.explore.serving FOLDER` is Voila for the page in a folder; it ends when its standard input does, so that no
server outlives the process that started it.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from atlab.errors import AtlabError
from atlab.explore import studies
from atlab.system.files import scratch
from atlab.system.home import data_folder, find, home
from atlab.system.processes import end_with_input

PAGE = "atlab.ipynb"
COOKIE = """
<script>
if (!/\\b_xsrf=/.test(document.cookie))
  document.cookie = "_xsrf=" + Array.from(crypto.getRandomValues(new Uint8Array(16)), b => b.toString(16).padStart(2, "0")).join("") + "; path=/; SameSite=Strict";
</script>
"""
PATIENCE = 120.0  # seconds until Voila has to answer


def serve(study: str, port: int = 8866, open_browser: bool = False, announce: Callable[[str], None] = print) -> int:
    """Serve the explorers on 127.0.0.1 until interrupted, opened at a study or at the newest one: -> Voila's exit code.

    The address, announced once it answers, holds a token: nobody else on the machine can reach the kernels. SIGTERM and SIGHUP
    end the server, too. AtlabError for a study without finished runs, for a port that is taken and for no answer.
    """
    stops = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(stop, lambda number, _: sys.exit(128 + number)) for stop in stops]
    try:
        with served(study, port, open_browser) as (process, address):
            announce(f"explorers: {address} (Ctrl+C ends them)")
            try:
                return process.wait()
            except KeyboardInterrupt:
                return 0
    finally:
        for stop, handler in zip(stops, before, strict=True):
            signal.signal(stop, handler)


@contextmanager
def served(study: str, port: int = 8866, open_browser: bool = False) -> Iterator[tuple[subprocess.Popen, str]]:
    """A Voila process that answers with the page, and its address with the token; both are gone afterwards."""
    if study:
        studies.study_table(study)
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            raise AtlabError(f"port {port} of 127.0.0.1 is taken: choose another with --port") from None
    token = secrets.token_urlsafe(24)
    with scratch("explore") as folder:
        settings, shared = Path(folder, "settings"), Path(folder, "shared")
        settings.mkdir()
        write_page(study, Path(folder))
        write_templates(shared)
        # In a file that only this user reads: arguments of a process can be read by everybody.
        config = {
            "Voila": {"ip": "127.0.0.1", "port": port, "port_retries": 0, "token": token, "open_browser": open_browser},
            # A kernel waits for the next page with everything imported, which takes longer than all else.
            "VoilaConfiguration": {"show_tracebacks": False, "preheat_kernel": True},
            # Of a browser that was closed without a word; one that is connected keeps its kernel.
            "MappingKernelManager": {"cull_idle_timeout": 1800, "cull_interval": 60},
        }
        (settings / "voila.json").write_text(json.dumps(config))
        searched = [str(shared), *filter(None, [os.environ.get("JUPYTER_PATH")])]
        # Neither the server nor its kernels import modules of the current folder.
        environment = os.environ | {"JUPYTER_PATH": os.pathsep.join(searched), "PYTHONSAFEPATH": "1"}
        command = [sys.executable, "-m", "atlab.explore.serving", str(folder)]
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        try:
            _wait_for_answer(process, port)
            yield process, f"http://127.0.0.1:{port}/?token={token}"
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
            process.stdin.close()


def _wait_for_answer(process: subprocess.Popen, port: int) -> None:
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        if process.poll() is not None:
            raise AtlabError(f"Voila ended with code {process.returncode} before it answered")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request("GET", "/")
            connection.getresponse()
            return
        except (OSError, http.client.HTTPException):
            time.sleep(0.2)
        finally:
            connection.close()
    raise AtlabError(f"Voila did not answer on port {port} within {PATIENCE:.0f} s")


def main() -> None:
    """Voila for the page and settings in a folder that `served` made; ends when standard input does."""
    from voila.app import main as voila

    folder = Path(sys.argv[1])
    end_with_input(lambda: os.kill(os.getpid(), signal.SIGTERM))  # Voila's way to end its kernels
    voila([str(folder / PAGE), f"--Voila.config_file_paths={folder / 'settings'}", "--Voila.log_level=WARN"])


def write_page(study: str, folder: Path) -> Path:
    """The notebook that opens the explorers at a study, or at what the address of its page asks for: -> its path."""
    import nbformat

    found = find(study).resolve() if study else None
    named = str(
        found.relative_to(home().resolve()) if found and found.is_relative_to(home().resolve()) else found or ""
    )
    code = (
        f"import os, sys\n\nsys.path[:] = filter(None, sys.path)\nos.chdir({str(home().resolve())!r})\n"
        f"os.environ['ATLAB_DATA'] = {str(data_folder().resolve())!r}\n\n"
        "from voila.utils import wait_for_request\n\nfrom atlab import explore\n\n"
        f"explore.warm_up()\nwait_for_request()\nexplore.open_link({named!r})"
    )
    cell = nbformat.v4.new_code_cell(code, id="cell-00")
    kernel = {"name": _kernel(), "display_name": "atlab", "language": "python"}
    path = folder / PAGE
    nbformat.write(
        nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel, "title": "atlab explorers"}), path
    )
    return path


def write_templates(folder: Path) -> None:
    """Voila's templates without the style sheets (of icons, which explorers do not use) that they take from other hosts.

    A page that is left asks to end its kernel, which takes a cookie; a page of a preheated kernel is given none, so it makes one
    itself. In a folder that is named first in JUPYTER_PATH the templates stand in for the installed ones.
    """
    from jupyter_core.paths import jupyter_path

    for name in ("lab/index.html.j2", "base/page.html"):
        found = [path for root in jupyter_path("voila", "templates") if (path := Path(root, name)).exists()]
        if found:
            target = folder / "voila" / "templates" / name
            target.parent.mkdir(parents=True)
            text = re.sub(r"<link[^>]*https?://[^>]*>", "", found[0].read_text())
            target.write_text(text.replace("{%- block body_header -%}", "{%- block body_header -%}" + COOKIE))


def _kernel() -> str:
    """atlab's kernel where it is installed, else the environment's own."""
    from jupyter_client.kernelspec import KernelSpecManager

    return "atlab" if "atlab" in KernelSpecManager().find_kernel_specs() else "python3"


if __name__ == "__main__":
    main()
