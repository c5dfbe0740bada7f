"""A JupyterLab of its own on loopback and a headless chromium to look at it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address and root folder of a running JupyterLab without token, news or other people's settings."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    root = tmp_path / "root"
    root.mkdir()
    env = os.environ | {
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        "--ServerApp.password=",
        f"--ServerApp.root_dir={root}",
    ]
    with open(tmp_path / "lab.log", "w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(
                lambda: urllib.request.urlopen(f"{address}/api/status", timeout=1).status == 200,
                process,
                tmp_path / "lab.log",
            )
            yield address, root
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def page():
    """A page of 1280 x 900 that remembers every address asked of another host (`outside`) and what a test moved (`moved`)."""
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        page.outside, page.moved = [], set()
        page.on(
            "request",
            lambda r: page.outside.append(r.url) if r.url.startswith("http") and "//127.0.0.1" not in r.url else None,
        )
        yield page
        browser.close()


@pytest.fixture
def with_parameters() -> Callable[[Path, Path, dict], Path]:
    """Copy a notebook with other values in its parameters cell, as a user would type them."""

    def copy(notebook: Path, folder: Path, values: dict) -> Path:
        cells = json.loads(notebook.read_text())
        for cell in cells["cells"]:
            if "parameters" in cell["metadata"].get("tags", []):
                cell["source"] = "".join(cell["source"]) + "\n" + "\n".join(f"{k} = {v!r}" for k, v in values.items())
        (folder / notebook.name).write_text(json.dumps(cells))
        return folder / notebook.name

    return copy


def _wait_for(check: Callable[[], bool], process: subprocess.Popen, log: Path, seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        try:
            if check():
                return
        except OSError:
            time.sleep(0.2)
        assert process.poll() is None, f"JupyterLab ended: {log.read_text()[-2000:]}"
    raise TimeoutError(f"JupyterLab did not start in {seconds} s: {log.read_text()[-2000:]}")
