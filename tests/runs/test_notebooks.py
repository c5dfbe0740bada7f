"""Notebooks as programs: parameters read and checked without a kernel, execution, failures, offline HTML."""

from __future__ import annotations

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

from atlab import runs
from atlab.data.synthetic.toy import toy
from atlab.errors import AtlabError
from atlab.runs import execution, forked, notebooks, parameters
from atlab.runs.html import to_html
from atlab.runs.ipynb import without_comments

PARAMETERS = '''\
"""Prose."""
strategy = "at"  # one of: baseline, wi, at; how it is trained
layers = ["conv5"]  # one of: conv1, conv5
epochs = 3  # >= 1, <= 50; more takes longer
beta = 1.0
share: float | None = 0.5  # > 0 and < 1
device = None
cached = True
out_of = (
    "a"  # not a choice
)
'''
DEFAULTS = {
    "strategy": "at",
    "layers": ["conv5"],
    "epochs": 3,
    "beta": 1.0,
    "share": 0.5,
    "device": None,
    "cached": True,
    "out_of": "a",
}


def write(path: Path, *code: str, cell: str = "", markdown: str = "") -> Path:
    cells = [nbformat.v4.new_markdown_cell(markdown)] if markdown else []
    if cell:
        cells.append(nbformat.v4.new_code_cell(cell, metadata={"tags": ["parameters"]}))
    cells += [nbformat.v4.new_code_cell(source) for source in code]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


@pytest.fixture(autouse=True)
def _kernels_of_their_own(monkeypatch):
    """As `atlab run` starts them; those of sweeps are forked (test_forked.py)."""
    monkeypatch.delenv("JUPYTER_DEFAULT_PROVISIONER_NAME", raising=False)
    monkeypatch.setattr(forked.ForkedProvisioner, "server", False)


@pytest.fixture
def notebook(tmp_path):
    return write(tmp_path / "trial.ipynb", cell=PARAMETERS)


def test_parameters_are_read_in_order(notebook):
    assert list(parameters.defaults(notebook).items()) == list(DEFAULTS.items())


def test_a_notebook_without_the_cell_has_none(tmp_path):
    notebook = write(tmp_path / "plain.ipynb", "print(1)")
    assert parameters.defaults(notebook) == {} == parameters.check(notebook, {})
    with pytest.raises(AtlabError, match="unknown parameter of plain.ipynb 'seed'; allowed: nothing"):
        parameters.check(notebook, {"seed": 1})


def test_given_values_replace_defaults(notebook):
    given = {"strategy": "wi", "beta": 2, "share": None, "device": "cpu", "layers": ("conv1", "conv5")}
    checked = parameters.check(notebook, given)
    assert checked == DEFAULTS | given | {"beta": 2.0, "layers": ["conv1", "conv5"]}
    assert type(checked["beta"]) is float


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"strategi": "at"},
            r"unknown parameter of trial.ipynb 'strategi'; nearest: 'strategy'; allowed: strategy, layers, epochs",
        ),
        ({"strategy": "an"}, r"unknown value of parameter 'strategy' 'an'; nearest: 'at'; allowed: baseline, wi, at$"),
        ({"strategy": 1}, r"parameter 'strategy' is 1, a int; allowed: str, like 'at'"),
        ({"strategy": None}, r"parameter 'strategy' is None, a NoneType; allowed: str"),
        ({"layers": ["conv5", "conv9"]}, r"unknown value of parameter 'layers' 'conv9'"),
        ({"layers": "conv5"}, r"parameter 'layers' is 'conv5', a str; allowed: list"),
        ({"epochs": "3"}, r"parameter 'epochs' is '3', a str; allowed: int, like 3"),
        ({"epochs": 3.0}, r"parameter 'epochs' is 3.0, a float; allowed: int"),
        ({"epochs": True}, r"parameter 'epochs' is True, a bool; allowed: int"),
        ({"epochs": 0}, r"parameter 'epochs' is 0; allowed: >= 1"),
        ({"epochs": 51}, r"parameter 'epochs' is 51; allowed: <= 50"),
        ({"share": 0.0}, r"parameter 'share' is 0.0; allowed: > 0"),
        ({"share": 1}, r"parameter 'share' is 1.0; allowed: < 1"),
        ({"beta": float("nan")}, r"parameter 'beta' is nan; allowed: finite numbers"),
        ({"cached": 1}, r"parameter 'cached' is 1, a int; allowed: bool"),
    ],
)
def test_values_that_are_not_allowed(notebook, given, message):
    with pytest.raises(AtlabError, match=message):
        parameters.check(notebook, given)


def test_text_is_read_as_the_default_is_typed(notebook):
    texts = {
        "strategy": "wi",
        "layers": "conv1, conv5",
        "epochs": "7",
        "beta": "-1",
        "share": "None",
        "cached": "false",
        "device": "None",
        "out_of": "12",
    }
    wanted = {
        "strategy": "wi",
        "layers": ["conv1", "conv5"],
        "epochs": 7,
        "beta": -1.0,
        "share": None,
        "cached": False,
        "device": None,
        "out_of": "12",
    }
    assert parameters.parse(notebook, texts) == wanted
    assert parameters.parse(notebook, {"layers": "['conv1']", "device": "cuda:0"}) == {
        "layers": ["conv1"],
        "device": "cuda:0",
    }
    with pytest.raises(AtlabError, match="parameter 'epochs' is 'many', a str; allowed: int"):
        parameters.parse(notebook, {"epochs": "many"})
    with pytest.raises(AtlabError, match="unknown parameter of trial.ipynb 'epoch'; nearest: 'epochs'"):
        parameters.parse(notebook, {"epoch": "1"})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a = 1\nimport os", "line 2: allowed: name = literal"),
        ("a, b = 1, 2", "line 1: allowed: name = literal"),
        ("a = open('x')", r"line 1: \"a = open\('x'\)\" is not a literal"),
        ("a = ", "is not valid Python"),
        ("a: Path = 'x'", "a has the type 'Path'; allowed: bool, int"),
        ("a = 'x'  # one of: y, z", "unknown value of parameter 'a' 'x'; allowed: y, z"),
    ],
)
def test_a_parameters_cell_that_cannot_be_read(tmp_path, source, message):
    notebook = write(tmp_path / "bad.ipynb", cell=source)
    with pytest.raises(AtlabError, match=message):
        parameters.defaults(notebook)


@pytest.mark.parametrize(
    "atlab",
    [{"requires": 5}, {"requires": None}, {"requires": "os:system"}, [1], "x", 3, {"requires": "atlab.no:required_by"}],
)
def test_metadata_that_name_no_requirements_are_refused(tmp_path, atlab):
    path = write(tmp_path / "n.ipynb", cell="seed = 0")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"metadata": content["metadata"] | {"atlab": atlab}}))
    with pytest.raises(AtlabError, match="names its requirements as"):
        notebooks.run(path, {}, root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layers": "conv15"}, "unknown layer 'conv15'"),
        ({"orthogonal": "speeker"}, "unknown factor 'speeker'; nearest: 'speaker'"),
        ({"split": "disjoint", "held_out": "nobody"}, "nobody"),
        ({"batch_size": 0}, "batch_size"),
        ({"beta": 1e9}, "beta must be a finite number"),
    ],
)
def test_what_needs_the_data_is_checked_before_a_kernel_starts(tmp_path, monkeypatch, given, message):
    monkeypatch.setattr(execution, "_papermill", lambda *_: pytest.fail("a kernel was started"))
    data = toy(tmp_path / "toy", words=2, speakers=3, repetitions=2, samples=100).path
    train = Path(__file__).parents[2] / "notebooks/experiments/train.ipynb"
    with pytest.raises(AtlabError, match=message):
        notebooks.run(train, {"data": str(data), **given}, root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    said: list[str] = []
    with pytest.raises(pytest.fail.Exception):
        notebooks.run(train, {"data": str(data), "strategy": "wi", "beta": 7}, root=tmp_path, announce=said.append)
    assert said[1:] == ["note      the strategy 'wi' does not use beta 7.0"]


def test_files_that_are_no_notebook(tmp_path):
    write(tmp_path / "trial.ipynb")
    with pytest.raises(AtlabError, match="unknown notebook in .* 'trail.ipynb'; nearest: 'trial.ipynb'"):
        parameters.defaults(tmp_path / "trail.ipynb")
    (tmp_path / "text.ipynb").write_text("hello")
    with pytest.raises(AtlabError, match="text.ipynb is not a notebook"):
        parameters.defaults(tmp_path / "text.ipynb")
    os.mkfifo(tmp_path / "pipe.ipynb")
    for path in (tmp_path, tmp_path / "pipe.ipynb"):
        with pytest.raises(AtlabError, match="is not a regular file"):
            parameters.defaults(path)
    cells = [nbformat.v4.new_code_cell("a = 1", metadata={"tags": ["parameters"]}) for _ in range(2)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "two.ipynb")
    with pytest.raises(AtlabError, match="2 cells tagged 'parameters'; allowed: one"):
        parameters.defaults(tmp_path / "two.ipynb")


def test_nothing_starts_when_a_parameter_is_wrong(notebook, tmp_path, monkeypatch):
    monkeypatch.setattr(execution, "_papermill", lambda *_: pytest.fail("a kernel was started"))
    with pytest.raises(AtlabError, match="unknown parameter"):
        execution.execute(notebook, {"nothing": 1}, tmp_path / "out.ipynb")
    with pytest.raises(AtlabError, match="unknown parameter"):
        notebooks.run(notebook, {"nothing": 1}, root=tmp_path / "runs")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["trial.ipynb"]


def test_a_log_shows_how_far_the_running_cell_is(tmp_path, monkeypatch, capsys):
    counting = "from tqdm.auto import tqdm\nfor _ in tqdm(range(4), desc='counting'):\n    pass"
    monkeypatch.setattr(execution, "LOG_EVERY", 0.0)
    notebooks.run(write(tmp_path / "count.ipynb", counting), {}, root=tmp_path / "runs")
    assert "\ncounting: 100%" in capsys.readouterr().err


def test_run_executes_once_in_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counting = "from tqdm.auto import tqdm\nfor _ in tqdm(range(4), desc='counting'):\n    pass"
    saving = "import os\nfrom atlab.runs import Run\nRun(run_dir).finish({'double': 2 * n, 'cwd': os.getcwd()})"
    notebook = write(tmp_path / "double.ipynb", counting, saving, cell="n = 1\nrun_dir = ''", markdown="$x^2$")
    run = notebooks.run(notebook, {"n": 21}, html=True, progress=False)
    assert run.done and run.result() == {"double": 42, "cwd": str(tmp_path)}
    assert run.path == Path("runs/double") / run.id and run.parameters == {"n": 21}
    assert {p.name for p in run.path.iterdir()} == {
        ".lock",
        "params.json",
        "result.json",
        "out.ipynb",
        "out.html",
        "done",
    }
    executed = json.loads(run.notebook_path.read_text())
    assert executed["metadata"]["papermill"]["output_path"] == str(run.notebook_path)
    bar = next(o for c in executed["cells"] for o in c.get("outputs", []) if o.get("name") == "stderr")
    assert "counting: 100%" in "".join(bar["text"]) and "0%|          |" not in "".join(
        bar["text"]
    )  # text, its last state
    assert "widgets" not in executed["metadata"]

    monkeypatch.setattr(execution, "_papermill", lambda *_: pytest.fail("it ran again"))
    said = []
    assert notebooks.run(notebook, {"n": 21}, announce=said.append).path == run.path
    assert said == [f"run       {run.path} (done before)"]
    assert runs.table("runs/double")[["n", "double"]].values.tolist() == [[21, 42]]


def test_the_id_follows_code_parameters_and_data_not_prose(tmp_path, monkeypatch):
    executions = []

    def pretend(notebook, given, out, *_):
        executions.append(given)
        nbformat.write(nbformat.v4.new_notebook(metadata={"papermill": {}}), out)

    monkeypatch.setattr(execution, "_papermill", pretend)
    (tmp_path / "set").mkdir()
    (tmp_path / "set/card.json").write_text('{"content_hash": "one"}')
    (tmp_path / "model").write_text("weights")
    given = {"data": str(tmp_path / "set"), "model": str(tmp_path / "model")}
    source = {"cell": "data = ''\nmodel = ''\nseed = 0"}
    notebook = write(tmp_path / "a.ipynb", "1", **source)

    def identity(**more):
        return notebooks.run(notebook, given | more, root=tmp_path / "runs").id

    first = identity()
    write(notebook, "1", markdown="Other prose.", **source)
    assert identity() == first == identity(seed=0) and len(executions) == 1
    others = {identity(seed=1)}
    write(notebook, "2", **source)
    others.add(identity())
    (tmp_path / "set/card.json").write_text('{"content_hash": "two"}')
    others.add(identity())
    (tmp_path / "model").write_text("other weights")
    others.add(identity())
    assert len(others - {first}) == 4


def test_a_failing_cell_is_shown_and_kept(tmp_path):
    notebook = write(tmp_path / "fails.ipynb", "print('before')", "denominator = n - 1\n1 / denominator", cell="n = 1")
    with pytest.raises(AtlabError) as caught:
        notebooks.run(notebook, {}, root=tmp_path / "runs", progress=False)
    first, *traceback = str(caught.value).splitlines()
    (folder,) = (tmp_path / "runs/fails").iterdir()
    assert (
        first
        == f"{notebook} failed: ZeroDivisionError in cell 3: division by zero; as far as it came: {folder}/out.failed.ipynb"
    )
    assert any("1 / denominator" in line for line in traceback) and "\x1b" not in str(caught.value)
    assert {p.name for p in folder.iterdir()} == {".lock", "params.json", "out.failed.ipynb"}
    kept = nbformat.read(folder / "out.failed.ipynb", 4)
    assert any(output.get("ename") == "ZeroDivisionError" for cell in kept.cells for output in cell.get("outputs", []))
    # Put right from outside, the same run carries on and the failed copy goes.
    (folder / ".out.00000000.ipynb").write_text("left by a killed execution")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            execution,
            "_papermill",
            lambda n, g, out, *_: nbformat.write(nbformat.v4.new_notebook(metadata={"papermill": {}}), out),
        )
        assert notebooks.run(notebook, {}, root=tmp_path / "runs").done
    assert {p.name for p in folder.iterdir()} == {".lock", "params.json", "out.ipynb", "done"}


def test_braces_in_paths_and_long_parameters_are_just_text(tmp_path):
    folder = tmp_path / "{seed} {0} {}"
    folder.mkdir()
    notebook = write(folder / "{n}.ipynb", "open(out, 'w').write(text)", cell="text = ''\nout = ''\nseed = 0")
    given = {"text": "x" * 5000 + "{seed}", "out": str(folder / "out.txt")}
    run = notebooks.run(notebook, given, root=folder / "runs", progress=False)
    assert run.done and run.path.is_relative_to(folder) and (folder / "out.txt").read_text() == given["text"]


def test_a_kernel_computes_on_one_thread(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    notebook = write(
        tmp_path / "threads.ipynb", "import torch\nopen(out, 'w').write(str(torch.get_num_threads()))", cell="out = ''"
    )
    execution.execute(notebook, {"out": str(tmp_path / "out")}, tmp_path / "done.ipynb", progress=False)
    assert (tmp_path / "out").read_text() == "1"


def test_a_kernels_temporary_files_and_keys_go_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    made = "import tempfile, ipykernel.connect as c; made = tempfile.mkdtemp(), c.get_connection_file()"
    write(tmp_path / "n.ipynb", made, "open(out, 'w').write(' '.join(made))", cell="out = ''")
    before = dict(os.environ)
    execution.execute(tmp_path / "n.ipynb", {"out": str(tmp_path / "out")}, tmp_path / "done.ipynb", progress=False)
    parents = {Path(name).parent for name in (tmp_path / "out").read_text().split()}
    assert [p.parent for p in parents] == [tmp_path / "tmp"] and parents.pop().name.startswith("atlab-kernel-")
    assert list((tmp_path / "tmp").iterdir()) == [] and dict(os.environ) == before


def test_a_dead_kernel_is_a_failure(tmp_path):
    notebook = write(tmp_path / "dies.ipynb", "import os\nos._exit(1)")
    with pytest.raises(AtlabError, match="dies.ipynb failed: DeadKernelError: Kernel died"):
        execution.execute(notebook, {}, tmp_path / "out.ipynb", progress=False)
    assert not (tmp_path / "out.ipynb").exists() and (tmp_path / "out.failed.ipynb").exists()


def test_execute_in_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    write(tmp_path / "where am i.ipynb", "import os\nopen(name, 'w').write(os.getcwd())", cell="name = 'x'")
    out = execution.execute(
        "where am i.ipynb", {"name": "here"}, "new/out.ipynb", html=True, cwd="there", progress=False
    )
    assert out == Path("new/out.ipynb") and (tmp_path / "there/here").read_text() == str(tmp_path / "there")
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()} == {
        "where am i.ipynb",
        "there/here",
        "new/out.ipynb",
        "new/out.html",
    }
    assert "where_am_i" in str(notebooks.run("where am i.ipynb", {}, progress=False).path)


class _Links(HTMLParser):
    """Every address that a browser would fetch on opening the page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        wanted = {
            "script": "src",
            "img": "src",
            "link": "href",
            "iframe": "src",
            "audio": "src",
            "video": "src",
            "source": "src",
        }
        address = dict(attrs).get(wanted.get(tag, ""))
        if address is not None and not address.startswith("data:"):
            self.found.append(f"{tag} {address}")


FIGURE = {"data": [{"type": "scatter", "y": [1, 3, 2]}], "layout": {"title": {"text": "Accuracy"}}}


def _page(*outputs: dict, markdown: str = "") -> str:
    cells = [nbformat.v4.new_markdown_cell(markdown)] if markdown else []
    cells.append(
        nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("display_data", data=data) for data in outputs])
    )
    return to_html(nbformat.v4.new_notebook(cells=cells))


def test_a_page_fetches_nothing():
    page = _page(
        {"application/vnd.plotly.v1+json": FIGURE},
        {"text/plain": "42"},
        markdown="# Title\n\n```mermaid\ngraph TD\n```",
    )
    links = _Links()
    links.feed(page)
    assert links.found == []
    head = page.partition("<body")[0]
    assert "<script" not in head and not re.search(r"@import|url\(\s*['\"]?https?:", head)
    assert "import(" not in head and "Title" in page and "42" in page


def test_plotly_figures_are_embedded_once_or_shown_as_their_image():
    figure = {"application/vnd.plotly.v1+json": FIGURE}
    page = _page(figure, figure)
    assert page.count("Plotly.newPlot(") >= 2 and page.count("plotly.js v") == 1 and "Accuracy" in page
    image = _page({**figure, "image/svg+xml": "<svg><text>drawn</text></svg>", "text/html": "<b>fetches</b>"})
    assert "Plotly.newPlot(" not in image and "fetches" not in image and len(image) < 1_000_000
    assert "data:image/svg+xml" in image or "<text>drawn</text>" in image


def test_formulas_are_mathml_and_code_is_not():
    aligned = "\\begin{aligned}a&=b\\end{aligned}"
    page = _page(
        markdown=f"For $x_t^2$:\n\n$$\\sum_i a_i$$\n\nbut `$x$` is code, and $\\nosuch{{$ stays, as does ${aligned}$."
    )
    assert re.findall(r'<math[^>]* ?display="(\w+)"', page) == ["inline", "block"]
    assert "<msubsup><mi>x</mi><mi>t</mi><mn>2</mn></msubsup>" in page and "<mo>∑</mo>" in page
    assert "<code>$x$</code>" in page and "$\\nosuch{$" in page and "\\begin{aligned}" in page


@pytest.mark.parametrize("value", ["mine", "word@mine", ["speaker", "word@mine"], "file:notes.txt"])
def test_a_run_is_known_by_what_its_parameters_open(tmp_path, monkeypatch, value):
    """Not by what the current folder happens to hold under that name: data sets are found where `load_data` finds them."""
    monkeypatch.setenv("ATLAB_HOME", str(tmp_path))
    (tmp_path / "data/mine").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    notebook = write(tmp_path / "a.ipynb", "1", cell="task: str | list = ''")

    def place(content: str) -> Path:
        (tmp_path / "data/mine/card.json").write_text(json.dumps({"content_hash": content}))
        (tmp_path / "notes.txt").write_text(content)
        return notebooks.places(notebook, [{"task": value}], tmp_path / "runs")[0]

    first, second = place("one"), place("two")
    assert first != second and place("one") == first


def test_texts_that_no_path_can_be_name_nothing(tmp_path):
    notebook = write(tmp_path / "a.ipynb", "1", cell="task = ''")
    for odd in ("x" * 5000, "a\0b", "file:", "@", "{root}"):
        assert notebooks.places(notebook, [{"task": odd}], tmp_path)[0].parent == tmp_path / "a"


def test_comments_and_blank_lines_do_not_name_another_run():
    code = 'width = 0.125  # above 0\n\n# one of: at, wi\nname = "#1"\ntext = """a\n\n# b  \n"""'
    plain = 'width = 0.125\nname = "#1"\ntext = """a\n\n# b  \n"""'
    assert without_comments(code) == without_comments(plain) == plain
    assert without_comments("%pip list  # magic\nx = 1") == "%pip list  # magic\nx = 1"
    assert without_comments("x = 1") != without_comments("x = 2")
