"""Explorers served by Voila: the pages, the errors, and the demo study's recipe; the browser is in tests/browser."""

from __future__ import annotations

import ast
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from atlab import AtlabError, runs
from atlab.explore import demo, serving, studies


def test_a_page_for_each_explorer_opens_at_the_study(study, tmp_path):
    paths = serving.write_pages(str(study), tmp_path)
    assert [path.stem for path in paths] == ["grad-cam", "layers", "ablation", "data", "cockpit"]
    for path in paths:
        page = nbformat.read(path, as_version=4)
        nbformat.validate(page)
        code = page.cells[0].source
        ast.parse(code)
        assert str(study) in code and "explore." in code and path.stat().st_size < 100_000


def test_a_taken_port_and_an_empty_study_are_said(study, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        taken_port = taken.getsockname()[1]
        with pytest.raises(AtlabError, match="is taken: choose another"), serving.served(str(study), taken_port):
            pass
    with pytest.raises(AtlabError, match="there is no study folder"), serving.served(str(tmp_path / "none")):
        pass


def test_the_command_says_what_is_missing(tmp_path):
    from atlab.cli.main import app

    answer = CliRunner().invoke(app, ["explore", str(tmp_path / "none")])
    assert answer.exit_code == 2 and "there is no study folder" in answer.output and "Traceback" not in answer.output


@pytest.fixture
def port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda number: number.name)
def test_no_server_outlives_the_command_and_no_module_of_the_current_folder_is_run(study, tmp_path, port, number):
    for name in ("voila", "anywidget", "atlab"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    left = tmp_path / "temporary/atlab-explore-killed"  # by a process that is dead
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary")}
    command = [Path(sys.executable).with_name("atlab"), "explore", str(Path(study).resolve()), "--port", str(port)]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    with process:
        address = re.search(r"http://\S+", process.stdout.readline())[0]  # announced when it answers
        assert "ablation.ipynb" in urllib.request.urlopen(address, timeout=30).read().decode()
        process.send_signal(number)
        assert process.wait(30) == (-number if number == signal.SIGKILL else 128 + number)
    limit = time.monotonic() + 30
    while answers(port):
        assert time.monotonic() < limit, "the server outlives the command"
        time.sleep(0.1)
    assert not (tmp_path / "ran").exists() and not left.exists()
    folders = [path for path in (tmp_path / "temporary").glob("atlab-explore-*") if path.is_dir()]
    assert len(folders) == (number == signal.SIGKILL)  # the next start removes it


def answers(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def test_nobody_without_the_token_gets_in(study, port):
    with serving.served(str(study), port) as (process, address):
        assert address.startswith(f"http://127.0.0.1:{port}/?token=") and len(address) > 60
        page = urllib.request.urlopen(address, timeout=30).read().decode()
        assert "ablation.ipynb" in page and "grad-cam.ipynb" in page
        assert 'href="https://' not in page  # no style sheet of another host
        bare = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30).read().decode()
        assert "ablation.ipynb" not in bare
    assert process.poll() is not None


def test_a_study_that_is_there_is_opened_as_it_is(study, tmp_path, monkeypatch):
    assert demo.study(study) == str(study)
    made = []
    monkeypatch.setattr(demo, "demo_study", lambda workers=None: made.append(workers) or "made")
    monkeypatch.chdir(tmp_path)
    assert demo.study() == "made" and made == [None]
    (tmp_path / "runs/demo_study/abc").mkdir(parents=True)
    runs.mark_done(tmp_path / "runs/demo_study/abc")
    assert demo.study() == demo.STUDY and made == [None]


def test_studies_are_found_from_a_notebooks_folder(study, tmp_path, monkeypatch):
    (tmp_path / "atlab.toml").touch()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/mine").symlink_to(study)
    (tmp_path / "deep/er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep/er")
    assert len(studies.study_table("runs/mine")) == 18
    with pytest.raises(AtlabError, match="studies: runs/mine"):
        studies.study_table("runs/other")
