"""The explorers of a study as pages without JupyterLab, served by Voila on this machine only.

`python -m atlab.explore.serving FOLDER` is Voila for the pages in a folder; it ends when its standard input does, so that no
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

PATIENCE = 120.0  # seconds until Voila has to answer

PAGES = {  # page: what opens it
    "grad-cam": "explore.maps(study)",
    "layers": "explore.layers(study)",
    "ablation": "explore.ablation(study)",
    "data": "explore.data(data)",
    "cockpit": "explore.cockpit(data, root)",
}


def serve(study: str, port: int = 8866, open_browser: bool = False, announce: Callable[[str], None] = print) -> int:
    """Serve the explorers of a study on 127.0.0.1 until interrupted: -> Voila's exit code.

    The address, announced once it answers, holds a token: nobody else on the machine gets at the kernels. SIGTERM and SIGHUP
    end the server, too. AtlabError for a study without finished runs, for a port that is taken and for no answer.
    """
    stops = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(stop, lambda number, _: sys.exit(128 + number)) for stop in stops]
    try:
        with served(study, port, open_browser) as (process, address):
            announce(f"explorers of {study}: {address} (Ctrl+C ends them)")
            try:
                return process.wait()
            except KeyboardInterrupt:
                return 0
    finally:
        for stop, handler in zip(stops, before, strict=True):
            signal.signal(stop, handler)


@contextmanager
def served(study: str, port: int = 8866, open_browser: bool = False) -> Iterator[tuple[subprocess.Popen, str]]:
    """A Voila process that answers with the pages, and its address with the token; both are gone afterwards."""
    studies.study_table(study)
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            raise AtlabError(f"port {port} of 127.0.0.1 is taken: choose another with --port") from None
    token = secrets.token_urlsafe(24)
    with scratch("explore") as folder:
        pages, settings, shared = Path(folder, "pages"), Path(folder, "settings"), Path(folder, "shared")
        pages.mkdir()
        settings.mkdir()
        write_pages(study, pages)
        write_templates(shared)
        # In a file that only this user reads: arguments of a process can be read by everybody.
        config = {
            "Voila": {"ip": "127.0.0.1", "port": port, "port_retries": 0, "token": token, "open_browser": open_browser},
            "VoilaConfiguration": {"classic_tree": True, "show_tracebacks": False},
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
    """Voila for the pages and settings in a folder that `served` made; ends when standard input does."""
    from voila.app import main as voila

    folder = Path(sys.argv[1])
    end_with_input(lambda: os.kill(os.getpid(), signal.SIGTERM))  # Voila's way to end its kernels
    voila([str(folder / "pages"), f"--Voila.config_file_paths={folder / 'settings'}", "--Voila.log_level=WARN"])


def write_pages(study: str, folder: Path) -> list[Path]:
    """A notebook for each explorer, opened at the study: -> their paths."""
    import nbformat

    settings = studies.settings_of(study)
    found = find(study).resolve()
    opening = (
        f"import os, sys\n\nsys.path[:] = filter(None, sys.path)\nos.chdir({str(home().resolve())!r})\nos.environ['ATLAB_DATA'] = {str(data_folder().resolve())!r}\n"
        f"study, root, data = {str(found)!r}, {str(found.parent)!r}, {settings.data!r}\n\nfrom atlab import explore\n\n"
    )
    paths = []
    for name, call in PAGES.items():
        cells = [nbformat.v4.new_code_cell(opening + call)]
        for number, cell in enumerate(cells):
            cell["id"] = f"cell-{number:02d}"
        page = nbformat.v4.new_notebook(
            cells=cells, metadata={"kernelspec": {"name": _kernel(), "display_name": "atlab", "language": "python"}}
        )
        paths.append(folder / f"{name}.ipynb")
        nbformat.write(page, paths[-1])
    return paths


def write_templates(folder: Path) -> None:
    """Voila's templates without the style sheets (of icons, which explorers do not use) that they take from other hosts.

    In a folder that is named first in JUPYTER_PATH they stand in for the installed ones.
    """
    from jupyter_core.paths import jupyter_path

    for name in ("lab/index.html.j2", "base/page.html"):
        found = [path for root in jupyter_path("voila", "templates") if (path := Path(root, name)).exists()]
        if found:
            target = folder / "voila" / "templates" / name
            target.parent.mkdir(parents=True)
            target.write_text(re.sub(r"<link[^>]*https?://[^>]*>", "", found[0].read_text()))


def _kernel() -> str:
    """atlab's kernel where it is installed, else the environment's own."""
    from jupyter_client.kernelspec import KernelSpecManager

    return "atlab" if "atlab" in KernelSpecManager().find_kernel_specs() else "python3"


if __name__ == "__main__":
    main()
