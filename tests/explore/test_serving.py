"""Explorers served by Voila: the pages, the errors, and the demo study's recipe; the browser is in tests/browser."""

from __future__ import annotations

import ast
import socket
import urllib.error
import urllib.request

import nbformat
import pytest
from typer.testing import CliRunner

from atlab import AtlabError
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
        with pytest.raises(AtlabError, match="is taken: choose another with --port"):
            with serving.served(str(study), taken.getsockname()[1]):
                pass
    with pytest.raises(AtlabError, match="there is no study folder"), serving.served(str(tmp_path / "none")):
        pass


def test_the_command_says_what_is_missing(tmp_path):
    from atlab.cli.main import app

    answer = CliRunner().invoke(app, ["explore", str(tmp_path / "none")])
    assert answer.exit_code == 2 and "there is no study folder" in answer.output and "Traceback" not in answer.output


def test_nobody_without_the_token_gets_in(study):
    import time

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with serving.served(str(study), port) as (process, address):
        assert address.startswith(f"http://127.0.0.1:{port}/?token=") and len(address) > 60
        limit = time.monotonic() + 120
        while True:
            try:
                page = urllib.request.urlopen(address, timeout=30).read().decode()
                break
            except (urllib.error.URLError, ConnectionError):
                assert time.monotonic() < limit and process.poll() is None
                time.sleep(0.3)
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
    (tmp_path / "runs/demo_study/abc/done").touch()
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
