"""The tutorial on one's own loop, run as a program: the penalty falls, and every misuse is refused with its sentence."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from atlab.runs import execution

NOTEBOOK = Path(__file__).parents[2] / "notebooks/tutorials/02_your_own_loop.ipynb"


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    out = tmp_path_factory.mktemp("loop") / "out.ipynb"
    execution.execute(NOTEBOOK, {}, out, progress=False)
    cells = nbformat.read(out, as_version=4).cells
    return "\n".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_the_colour_network_is_good_and_the_penalty_falls(printed):
    assert int(re.search(r"names (\d+)% of the test colours", printed)[1]) > 90
    first, last = (float(value) for value in re.findall(r"anti-transfer (\d\.\d+)", printed))
    assert 0 < last < first


def test_every_misuse_is_a_sentence_about_what_was_wrong(printed):
    sentences = [line for line in printed.splitlines() if line.startswith("- ")]
    expected = ("run the model's forward pass first", "was on another input", "was used already: run the model again")
    expected += ("unknown layer of the teacher 'conv5'", "aggregations that compare these shapes: clip_kernel")
    assert len(sentences) == len(expected)
    assert all(part in sentence for part, sentence in zip(expected, sentences, strict=True))
