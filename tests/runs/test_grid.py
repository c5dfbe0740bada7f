"""Grids: what is crossed, zipped, excluded and scaled, against products written out; every mistake named."""

from __future__ import annotations

import contextlib
import itertools
import json
from pathlib import Path

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_notebook

from atlab.errors import AtlabError
from atlab.runs import grid

PARAMETERS = 'seed = 0  # >= 0\nbeta = 1.0\nlayers = "conv5"\nstrategy = "at"  # one of: baseline, wi, at'
GRIDS = sorted((Path(__file__).parents[2] / "notebooks/experiments/grids").glob("*.yaml"))


@pytest.fixture
def write(tmp_path):
    cell = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[cell]), tmp_path / "n.ipynb")

    def write(text: str) -> Path:
        (tmp_path / "g.yaml").write_text("study: s\nnotebook: n.ipynb\n" + text)
        return tmp_path / "g.yaml"

    return write


def test_axes_are_crossed_in_their_order_and_ints_become_floats_where_the_notebook_has_floats(write):
    jobs = grid.load(write("fixed: {layers: conv1}\naxes: {seed: 1..3, beta: [0.5, 2]}")).jobs
    want = [{"layers": "conv1", "seed": s, "beta": b} for s, b in itertools.product((1, 2, 3), (0.5, 2.0))]
    assert jobs == want and all(isinstance(job["beta"], float) for job in jobs)


def test_mappings_set_parameters_together_and_lists_in_them_expand(write):
    text = (
        "axes:\n  arm:\n    - {strategy: baseline}\n    - {strategy: [wi, at], layers: [conv1, conv2]}\n  seed: [0, 4]"
    )
    arms = [{"strategy": "baseline"}] + [{"strategy": s, "layers": c} for s in ("wi", "at") for c in ("conv1", "conv2")]
    assert grid.load(write(text)).jobs == [arm | {"seed": seed} for arm in arms for seed in (0, 4)]


def test_exclusions_match_every_pair_defaults_included_and_equal_runs_are_one(write):
    text = "axes: {seed: [0, 1, 1], strategy: [baseline, at]}\nexclude:\n  - {seed: 1, strategy: at, layers: conv5}"
    assert grid.load(write(text)).jobs == [
        {"seed": 0, "strategy": "baseline"},
        {"seed": 0, "strategy": "at"},
        {"seed": 1, "strategy": "baseline"},
    ]


def test_a_scale_updates_fixed_and_replaces_axes_and_given_parameters_win(write):
    text = (
        "fixed: {beta: 2, layers: conv1}\naxes: {seed: 0..9, strategy: [wi, at]}\n"
        "scales:\n  laptop: {fixed: {layers: conv3}, axes: {seed: [7]}}\n  paper: {exclude: [{strategy: wi}]}"
    )
    path = write(text)
    assert grid.load(path).jobs == [{"beta": 2.0, "layers": "conv3", "seed": 7, "strategy": s} for s in ("wi", "at")]
    assert len(grid.load(path, "paper").jobs) == 10
    assert {job["seed"] for job in grid.load(path, "paper", seed=3).jobs} == {3}


def test_an_exclusion_must_match_unless_it_may_be_meant_for_other_axes(write):
    path = write("axes: {seed: 0..3}\nexclude: [{seed: 3}]\nscales: {laptop: {}, tiny: {axes: {seed: [0]}}}")
    assert [len(grid.load(path, scale).jobs) for scale in ("laptop", "tiny")] == [3, 1]
    assert grid.load(path, seed=5).jobs == [{"seed": 5}], "given parameters are put over what is excluded"
    assert len(grid.load(write("axes: {seed: 0..3}\nexclude: [{beta: 1}, {seed: null}]"), beta=2.0).jobs) == 3


def test_null_is_the_default_and_runs_that_are_equal_with_it_are_one(write):
    text = "fixed: {beta: 2}\naxes: {layers: [null, conv5, conv9]}\nscales: {laptop: {fixed: {beta: null}}}"
    assert grid.load(write(text)).jobs == [{}, {"layers": "conv9"}]


def test_numbers_with_an_exponent_need_no_point(write):
    assert grid.load(write("axes: {beta: [1e-3, 2E+1, -1e1]}")).jobs == [
        {"beta": 0.001},
        {"beta": 20.0},
        {"beta": -10.0},
    ]


def test_a_mapping_is_a_grid_too(write, tmp_path):
    path = write("axes: {seed: 0..2}\nexclude: [{seed: 1}]")
    content = {"study": "s", "notebook": "n.ipynb", "axes": {"seed": "0..2"}, "exclude": [{"seed": 1}]}
    assert grid.parse(content, folder=tmp_path) == grid.load(path)
    with pytest.raises(AtlabError, match="study is '../s'; allowed: letters"):
        grid.parse(content | {"study": "../s"}, folder=tmp_path)
    with pytest.raises(AtlabError, match="the grid needs `notebook:` with a name"):
        grid.parse({"study": "s"})
    with pytest.raises(AtlabError, match="unknown notebook in .* 'm.ipynb'; nearest: 'n.ipynb'"):
        grid.parse(content | {"notebook": "m.ipynb"}, folder=tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("axis: {seed: 0}", "unknown key in .*g.yaml 'axis'; nearest: 'axes'"),
        ("axes: {sed: [0]}", "unknown parameter in .* 'sed'; nearest: 'seed'"),
        ("axes: {seed: [-1]}", "parameter 'seed' is -1; allowed: >= 0"),
        ("axes: {seed: []}", "axis 'seed' has no values"),
        ("axes: {strategy: [att]}", "unknown value of parameter 'strategy' 'att'; nearest: 'at'"),
        ("exclude: [{sed: 0}]", "unknown parameter in `exclude`"),
        ("axes: {seed: 0}\nexclude: [{seed: 0}]", "describes no run"),
        ("axes: {seed: 0..3}\nexclude: [{seed: 0}, {seed: 4}]", r"\{'seed': 4\} in `exclude` matches no run"),
        (
            "axes: {seed: 0..3}\nscales: {laptop: {exclude: [{seed: 1, beta: 3}]}}",
            "in `exclude` matches no run; correct it",
        ),
        ("axes: {seed: 0}\nexclude: [{seed: many}]", "g.yaml: parameter 'seed' is 'many', a str"),
        ("axes: {seed: [0}", "line 3 is not YAML"),
        ("axes:\n  seed: 0\n  beta: 1\n  seed: 1", "line 6: the key 'seed' is repeated"),
        ("axes: {arm: [{strategy: []}]}", "axis 'strategy' has no values"),
        ("axes: {seed: 3..2}", "axis 'seed' has no values"),
        ("axes: [seed]", r"expected a mapping .* for `axes` of .*, got \['seed'\]"),
        ("fixed: 3", "expected a mapping .* for `fixed` of .*, got 3"),
        ("exclude: {seed: 0}", r"expected a list of mappings .* for `exclude` of .*, got \{'seed': 0\}"),
        ("exclude: [seed]", "expected a mapping .* for an item in `exclude` of .*, got 'seed'"),
        ("scales: tiny", "expected a mapping .* for `scales` of .*, got 'tiny'"),
        ("scales: {laptop: 3}", "expected a mapping .* for .*, scale 'laptop', got 3"),
        ("axes: {beta: high}", "g.yaml: parameter 'beta' is 'high', a str; allowed: float"),
        ("scales: {laptop: {axis: 1}}", "unknown key in .*, scale 'laptop' 'axis'"),
        ("exclude: false", "expected a list of mappings .* got False"),
        ("scales: {laptop: false}", "expected a mapping .* got False"),
        ("fixed: &a {seed: 1}\naxes: *a", r"g.yaml, line 3: anchors \(&name\) and aliases"),
        ("axes: *a", r"g.yaml, line 3: anchors \(&name\) and aliases"),
        ("fixed: {seed: !!int '3'}", r"g.yaml, line 3: tags \(tag:yaml.org,2002:int\) are not read"),
        ("fixed: {seed: !!python/object/apply:os.getpid []}", "g.yaml, line 3: tags"),
        ("fixed: {<<: {seed: 1}}", "unknown parameter in .* '<<'"),
        ("fixed: {1: 2}", "line 3: expected text as a key, found '1'"),
        ("? [seed]\n: 2", "line 3: expected text as a key"),
        ("fixed: {on: 2}", "line 3: 'on' means different things"),
        ('fixed: {layers: "\\ud800"}', "is not YAML"),
        ('fixed: {layers: "\\Uffffffff"}', "is not YAML"),
        (
            "fixed: {seed: 0..1000000000}\naxes: {seed: 0..1000000000}",
            "describes 1,000,000,001 runs or more; allowed: at most 10,000",
        ),
        (
            "axes: {seed: 0..999, beta: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]}",
            "describes 11,000 runs or more; allowed: at most 10,000",
        ),
        ("axes: {seed: 0..999, arm: [{seed: 0..999, beta: 0..999}]}", "describes 1,000,000,000 runs or more"),
        ("exclude: [" + "{seed: 1}, " * 1001 + "]", "`exclude` of .* has 1,001 items; allowed: at most 1,000"),
        ("fixed: {layers: " + "[" * 8 + "]" * 8 + "}", "lists and mappings are nested more than 8 deep"),
        ("axes: {layers: " + "[" * 100_000, "lists and mappings are nested more than 8 deep"),
        ("# " + "x" * (1 << 17), "g.yaml is larger than 131,072 bytes"),
    ],
)
def test_mistakes_are_named(write, text, message):
    with pytest.raises(AtlabError, match=message):
        grid.load(write(text))


@pytest.mark.parametrize(
    "value",
    ["010", "0o10", "0x10", "0b11", "1:30", "1:30:30.5", "1_000", "00", "007.5", "9" * 19, ".inf", "-.NaN", "2026-01-01",
     "yes", "No", "on", "OFF"],
)  # fmt: skip
def test_what_yaml_versions_read_differently_is_refused_and_kept_in_quotes(write, value):
    for text in (f"fixed: {{layers: {value}}}", f"axes: {{layers: [a, {value}]}}"):
        with pytest.raises(AtlabError, match=f"line 3: '{value}' means different things in different versions of YAML"):
            grid.load(write(text))
    assert grid.load(write(f"fixed: {{layers: '{value}'}}")).jobs == [{"layers": value}]


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3.0), ("-0.5", -0.5), ("+1", 1.0), ("1.", 1.0), (".5", 0.5), ("1e3", 1000.0), ("1.5E-2", 0.015), ("0", 0.0)],
)
def test_decimal_numbers_are_what_they_say(write, text, value):
    assert grid.load(write(f"fixed: {{beta: {text}}}")).jobs == [{"beta": value}]


NAMES = "seed beta layers study notebook fixed axes exclude scales laptop s n.ipynb conv1 at"
VALUES = "0..3 0..99999999999 .. 010 1:30 yes null ~ 1e400 -1e-400 << = \0"
WORDS = st.sampled_from([*NAMES.split(), *VALUES.split(), "9" * 400, "", " "])
ODD = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
PIECES = st.sampled_from(
    [
        *"{}[]:,-?&*!|>'\"%@`#\n\t \\\ufeff\x07\ud800",
        "\n  ",
        ": ",
        "- ",
        "<<: ",
        "&a ",
        "*a",
        "!!set ",
        "---\n",
        "\\ud800",
    ]
)
TRIED = settings(
    max_examples=200, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def assert_read_or_refused(act, kind: type = grid.Grid) -> None:
    """What is read is of the expected type; whatever is raised is an AtlabError."""
    with contextlib.suppress(AtlabError):
        assert isinstance(act(), kind)


@TRIED
@given(text=st.lists(WORDS | PIECES | st.text(max_size=2), max_size=25).map("".join))
def test_no_text_of_a_grid_raises_anything_but_an_atlab_error(write, text):
    path = write("")
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert_read_or_refused(lambda: grid.load(path))
    path.write_bytes(b"study: s\nnotebook: n.ipynb\n" + text.encode("utf-8", "surrogatepass"))
    assert_read_or_refused(lambda: grid.load(path))
    assert_read_or_refused(lambda: grid.scales(path), list)


@TRIED
@given(content=st.dictionaries(st.sampled_from(grid.KEYS), ODD, max_size=6), named=st.booleans())
def test_odd_types_under_every_key_raise_nothing_but_atlab_errors(write, tmp_path, content, named):
    write("")
    whole = content | {"study": "s", "notebook": "n.ipynb"} if named else content
    assert_read_or_refused(lambda: grid.parse(whole, folder=tmp_path))
    (tmp_path / "g.yaml").write_text(json.dumps(whole))
    assert_read_or_refused(lambda: grid.load(tmp_path / "g.yaml"))


def test_scales_files_and_names_that_are_not_there_are_named(write, tmp_path, monkeypatch):
    with pytest.raises(AtlabError, match="the only one is 'laptop'; found 'paper'"):
        grid.load(write(""), "paper")
    with pytest.raises(AtlabError, match="unknown scale of .* 'papr'; nearest: 'paper'"):
        grid.load(write("scales: {paper: {}}"), "papr")
    with pytest.raises(AtlabError, match="unknown grid in .* 'h.yaml'; nearest: 'g.yaml'"):
        grid.load(tmp_path / "h.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(AtlabError, match="is not a grid: expected the keys .* got a list"):
        grid.load(tmp_path / "list.yaml")


@pytest.mark.parametrize("path", GRIDS, ids=lambda p: p.stem)
def test_every_grid_that_is_shipped_can_be_read_at_all_its_scales(path):
    import yaml

    for scale in yaml.safe_load(path.read_text())["scales"]:
        jobs = grid.load(path, scale).jobs
        assert jobs and len({str(job) for job in jobs}) == len(jobs)
