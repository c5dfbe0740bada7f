"""The explorers of a study as pages without JupyterLab, served by Voila on this machine only."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from atlab.errors import AtlabError
from atlab.explore import studies
from atlab.system.home import data_folder, find, home

PAGES = {  # page: what opens it
    "grad-cam": "explore.maps(study)",
    "layers": "explore.layers(study)",
    "ablation": "explore.ablation(study)",
    "data": "explore.data(data)",
    "cockpit": "explore.cockpit(data, root)",
}


def serve(study: str, port: int = 8866, open_browser: bool = False, announce: Callable[[str], None] = print) -> int:
    """Serve the explorers of a study on 127.0.0.1 until interrupted: -> Voila's exit code.

    The address that is announced holds a token: nobody else on the machine gets at the kernels. AtlabError for a study
    without finished runs and for a port that is taken.
    """
    with served(study, port, open_browser) as (process, address):
        announce(f"explorers of {study}: {address} (Ctrl+C ends them)")
        try:
            return process.wait()
        except KeyboardInterrupt:
            return 0


@contextmanager
def served(study: str, port: int = 8866, open_browser: bool = False) -> Iterator[tuple[subprocess.Popen, str]]:
    """A Voila process that serves the pages, and its address with the token; both are gone afterwards."""
    studies.study_table(study)
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            raise AtlabError(f"port {port} of 127.0.0.1 is taken: choose another with --port") from None
    token = secrets.token_urlsafe(24)
    with tempfile.TemporaryDirectory(prefix="atlab-explore-") as folder:
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
        command = [
            sys.executable,
            "-m",
            "voila",
            str(pages),
            f"--Voila.config_file_paths={settings}",
            "--Voila.log_level=WARN",
        ]
        searched = [str(shared), *filter(None, [os.environ.get("JUPYTER_PATH")])]
        environment = os.environ | {"JUPYTER_PATH": os.pathsep.join(searched)}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        try:
            yield process, f"http://127.0.0.1:{port}/?token={token}"
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


def write_pages(study: str, folder: Path) -> list[Path]:
    """A notebook for each explorer, opened at the study: -> their paths."""
    import nbformat

    settings = studies.settings_of(study)
    found = find(study).resolve()
    opening = (
        f"import os\n\nos.chdir({str(home().resolve())!r})\nos.environ['ATLAB_DATA'] = {str(data_folder().resolve())!r}\n"
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
