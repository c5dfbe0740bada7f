"""Explorers served by Voila: the pages, the errors, and the demo study's recipe; the browser is in tests/browser."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from typer.testing import CliRunner

from atlab import AtlabError, explore, runs
from atlab.explore import app, demo, serving, studies, views


def test_the_page_opens_the_explorers_at_the_study(study, tmp_path, monkeypatch):
    path = serving.write_page(str(study), tmp_path)
    page = nbformat.read(path, as_version=4)
    nbformat.validate(page)
    code = page.cells[0].source
    ast.parse(code)
    assert f"explore.open_link({str(study)!r})" in code and path.stat().st_size < 10_000
    (tmp_path / "atlab.toml").touch()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/mine").symlink_to(study)
    monkeypatch.setenv("ATLAB_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # the runs of the folder that the tests are started in come first
    assert "explore.open_link('')" in nbformat.read(serving.write_page("", tmp_path), as_version=4).cells[0].source


def test_the_address_of_a_page_names_a_view(study, monkeypatch):
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5")
    monkeypatch.setenv("QUERY_STRING", f"token=x&page=ablation&study={study}&metric=train_accuracy&kind=curves")
    opened = app.open_link("runs/other")
    opened.explorer.wait()
    assert opened.explorer.state == views.ablation.AblationState(
        study=str(study), metric="train_accuracy", kind="curves", x="layers", y="beta", cell=opened.explorer.state.cell
    )
    assert opened._address.query == opened.query and "kind=curves" in opened.query
    monkeypatch.setenv("QUERY_STRING", "page=nowhere")
    opened = app.open_link(str(study))
    opened.explorer.wait()
    assert opened.explorer.state.study == str(study) and "Unknown page" in opened.warning.value


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


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow), signal.SIGKILL],
    ids=lambda n: n.name,
)
def test_no_server_outlives_the_command_and_no_module_of_the_current_folder_is_run(study, tmp_path, port, number):
    for name in ("voila", "anywidget", "atlab"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    left = tmp_path / "temporary/atlab-explore-killed"  # by a process that is dead
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary")}
    command = [Path(sys.executable).with_name("atlab"), "explore", str(Path(study).resolve()), "--port", str(port)]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    with process, ended_after(150, process):
        address = re.search(r"http://\S+", process.stdout.readline())[0]  # announced when it answers
        assert "<title>atlab explorers</title>" in urllib.request.urlopen(address, timeout=120).read().decode()
        process.send_signal(number)
        assert process.wait(30) == (-number if number == signal.SIGKILL else 128 + number)
    limit = time.monotonic() + 30
    while answers(port):
        assert time.monotonic() < limit, "the server outlives the command"
        time.sleep(0.1)
    assert not (tmp_path / "ran").exists() and not left.exists()
    folders = [path for path in (tmp_path / "temporary").glob("atlab-explore-*") if path.is_dir()]
    assert len(folders) == (number == signal.SIGKILL)  # the next start removes it


@contextlib.contextmanager
def ended_after(seconds: float, process: subprocess.Popen) -> Iterator[None]:
    """The process is killed when its test fails or takes longer: a page that never ends would be read for ever."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    except BaseException:
        process.kill()
        raise
    finally:
        timer.cancel()


def answers(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def test_nobody_without_the_token_gets_in(study, port):
    with serving.served(str(study), port) as (process, address), ended_after(150, process):
        assert address.startswith(f"http://127.0.0.1:{port}/?token=") and len(address) > 60
        page = urllib.request.urlopen(address, timeout=120).read().decode()
        assert "<title>atlab explorers</title>" in page
        assert 'href="https://' not in page  # no style sheet of another host
        assert "_xsrf=" in page  # or the page cannot end its kernel when it is left
        bare = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30).read().decode()
        assert "<title>atlab explorers</title>" not in bare
    assert process.poll() is not None


def test_the_demo_study_says_what_it_costs_and_is_trained_when_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("ATLAB_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # the runs of the folder that the tests are started in come first
    begun = []
    monkeypatch.setattr(demo, "started", lambda module, log: begun.append(module) or SimpleNamespace(poll=lambda: None))
    monkeypatch.setattr(demo, "_process", [])
    opened = explore.page(explore.HomeState(), threaded=False)
    button = next(w for w in opened.children[2].children if "atlab-demo" in w._dom_classes)
    assert "There is no finished study here yet" in opened.texts["about"].value and not begun
    assert re.fullmatch(r"Train the demo study: 16 small runs, about \d+ min", button.description)
    button.click()
    assert begun == ["atlab.explore.demo"]
    assert opened.texts["demo"].value == "training the demo study: 0 of 16 runs are done"
    for n in range(16):
        (tmp_path / f"runs/demo_study/{n:02d}").mkdir(parents=True)
        runs.mark_done(tmp_path / f"runs/demo_study/{n:02d}")
    monkeypatch.setattr(demo, "_process", [])
    assert demo.status().done


def test_the_demo_study_holds_a_small_grid_of_forms():
    arms = {(s.strategy, s.layers, s.aggregation, s.similarity) for s in demo.wanted("")}
    assert len(demo.wanted("")) == len(arms) * len(demo.SEEDS)
    forms = {arm[2:] for arm in arms if arm[:2] == ("at", ("conv5",))}
    assert len(forms) == len({f for f, _ in forms}) * len({s for _, s in forms}) == 4


def test_studies_are_found_from_a_notebooks_folder(study, tmp_path, monkeypatch):
    (tmp_path / "atlab.toml").touch()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/mine").symlink_to(study)
    (tmp_path / "deep/er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep/er")
    assert len(studies.study_table("runs/mine")) == 18
    with pytest.raises(AtlabError, match="studies: runs/mine"):
        studies.study_table("runs/other")
