"""Pages in a browser: whatever a data set, run, grid or notebook is called, nothing of it runs and nothing leaves the page."""

from __future__ import annotations

import base64
import http.server
import json
import shutil
import threading

import nbformat
import numpy as np
import plotly.graph_objects as go
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from atlab import runs
from atlab.analysis import report
from atlab.data.build import Clip, build
from atlab.experiment.settings import Settings
from atlab.runs import execution
from atlab.runs.html import to_html
from tests.browser import pages

pytestmark = pytest.mark.browser

NAME = "<img src=x onerror=hit=1>"  # as a file may be called
INJECTED = 'img[src="x"], img[src*="127.0.0.1"], [onerror], [onload], a[href*="javascript"]'


@pytest.fixture
def asked():
    """The address of a server on loopback, and the paths that were asked of it."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()


def hostile(address: str, what: str) -> str:
    """Text that runs, or asks for an image, where it is taken for HTML or Markdown."""
    return f'{what} {NAME}</td></pre></title><script>hit=1</script>![m]({address}/{what})<img src="{address}/{what}">\n\n# $x$ `c`'


def test_names_of_a_data_set_are_shown_as_text(page, asked, tmp_path):
    address, paths = asked
    factors = [hostile(address, "word"), hostile(address, "speaker"), "plain"]

    def convert(number: int) -> list[Clip]:
        values = (hostile(address, f"w{number % 2}"), hostile(address, f"s{number % 3}"), f"p{number % 4}")
        row = {"id": f"{number} {NAME}", "source": f"{number} {NAME}", "duration": 0.5}
        return [Clip(np.full(4000, 7 * number, np.int16), row | dict(zip(factors, values, strict=True)))]

    card = {"sample_rate": 16000, "dropped": {hostile(address, "reason"): 3}}
    card |= {key: hostile(address, key) for key in ("name", "licence", "citation", "recipe")}
    counts = {hostile(address, "kind"): 5}
    build(
        tmp_path / "d",
        range(24),
        convert,
        card=card | {"published_clips": {"published": counts}},
        factors=factors,
        workers=0,
    )
    code = f"from atlab.data import FactorSet, display\nfs = FactorSet.open({str(tmp_path / 'd')!r})\n"
    code += "from IPython.display import Markdown, display as shown\ndisplay.show(fs)\nshown(Markdown(display.caption(fs, 0)))"
    nbformat.write(new_notebook(cells=[new_code_cell(code)]), tmp_path / "n.ipynb")
    execution.execute(tmp_path / "n.ipynb", {}, tmp_path / "out.ipynb", html=True, progress=False)
    text = opened(page, tmp_path / "out.html")
    for what in ("name", "licence", "citation", "reason", "kind", "word", "s0", "w1"):
        assert f"{what} {NAME}</td></pre></title><script>hit=1</script>![m]({address}/{what})" in text, what
    assert paths == []


def test_a_report_shows_what_runs_and_grids_say_as_text(page, asked, tmp_path, monkeypatch):
    address, paths = asked
    grids = tmp_path / "notebooks/experiments/grids"
    grids.mkdir(parents=True)
    cell = new_code_cell("strategy = ''\northogonal = ''\nseed = 0", metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[cell]), tmp_path / "n.ipynb")
    monkeypatch.chdir(tmp_path)
    meta = {
        "papermill": {"input_path": hostile(address, "input")},
        "language_info": {"name": "python", "version": hostile(address, "python")},
    }
    for strategy in ("baseline", hostile(address, "strategy")):
        for seed in (0, 1, 2):
            given = {
                "strategy": strategy,
                "orthogonal": hostile(address, "orthogonal"),
                "layers": hostile(address, "layers"),
                "seed": seed,
            }
            given |= {"split": hostile(address, "split"), "extra": hostile(address, "extra")}
            with runs.open_run("runs", "words", Settings().__dict__ | given) as run:
                nbformat.write(new_notebook(metadata=meta), run.notebook_path)
                scores = {
                    f"{part}_accuracy": 0.5 + 0.1 * seed + 0.05 * len(strategy) / 400
                    for part in ("train", "validation", "test")
                }
                run.finish(scores | {"epochs_run": 2})
            made = json.loads((run.path / "params.json").read_text()) | {"atlab": hostile(address, "version")}
            (run.path / "params.json").write_text(json.dumps(made))
            runs.mark_done(run.path)
    with runs.open_run("runs", "words", Settings().__dict__ | {"seed": 9}) as failed:
        error = new_output("error", ename=NAME, evalue=hostile(address, "message"))
        nbformat.write(new_notebook(cells=[new_code_cell("1/0", outputs=[error])]), failed.path / "out.failed.ipynb")
    shutil.copytree(failed.path, failed.path.with_name(NAME), ignore=shutil.ignore_patterns("out.failed.ipynb"))
    shutil.copytree("runs/words", f"runs/{NAME}")
    for study in ("words", NAME):
        text = opened(page, report.write(study, out=tmp_path / "page.html"))
        for what in ("strategy", "orthogonal", "layers", "split", "extra", "version", "python"):
            assert f"{what} {NAME}</td></pre></title><script>hit=1</script>![m]({address}/{what})" in text, what
        assert f"{NAME}: message {NAME}" in text and f"unfinished: {NAME}" in text
    assert page.title() == NAME and page.locator("h1").first.inner_text().startswith(NAME)
    assert paths == []


def test_a_hostile_notebook_runs_nothing_and_its_figures_are_drawn(page, asked, tmp_path, monkeypatch):
    address, paths = asked
    figure = go.Figure(go.Bar(x=[hostile(address, "bar")], y=[1]), layout={"title": {"text": f"T {NAME}</script>"}})
    drawn = [
        new_output("display_data", data={"application/vnd.plotly.v1+json": json.loads(figure.to_json())})
        for _ in range(2)
    ]
    text = hostile(address, "text")
    attacks = [
        new_output("display_data", data={"text/html": text}),
        new_output("display_data", data={"text/markdown": text}),
        new_output(
            "display_data",
            data={"image/svg+xml": f"<svg onload='hit=1'><script>hit=1</script><image href='{address}/svg'/></svg>"},
        ),
        new_output(
            "display_data",
            data={"text/html": f"<iframe src='{address}/frame'></iframe><link rel=stylesheet href='{address}/css'>"},
        ),
        new_output("display_data", data={"application/javascript": "hit=1"}),
    ]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.png").write_text("secret")
    here = f"![mine](secret.png) <img src='secret.png'><META http-equiv='refresh' content='0;url={address}/refresh'>"
    cells = [new_markdown_cell(text + here), new_code_cell("1", outputs=drawn), new_code_cell("2", outputs=attacks)]
    path = tmp_path / "page.html"
    path.write_text(to_html(new_notebook(cells=cells)))
    page.goto(path.as_uri())
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg .bars').length == 2")
    assert page.evaluate("window.hit") is None and paths == [] and page.url == path.as_uri()
    assert base64.b64encode(b"secret").decode() not in path.read_text()
    pages.nothing_uploads(page)
    # The attacks are real: without the policy they run and ask for images.
    path.write_text(path.read_text().replace("Content-Security-Policy", "x-nothing"))
    page.goto(path.as_uri())
    page.wait_for_function("window.hit == 1")
    assert {"/text", "/frame", "/css"} <= set(paths)


def opened(page, path) -> str:
    """The text that a page shows, everything unfolded; nothing of the names in it became an element or ran."""
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert page.evaluate("window.hit") is None
    assert not page.evaluate("[...document.scripts].some(script => script.textContent === 'hit=1')")
    assert page.locator(INJECTED).count() == 0, page.locator(INJECTED).first.evaluate("e => e.outerHTML")
    return page.locator("body").inner_text()
