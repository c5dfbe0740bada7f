"""The gallery of tutorials: every one has a picture, made by the code that stands in it now, and is listed with it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "notebooks/tutorials").glob("*.ipynb"))
INDEX = (ROOT / "docs/tutorials/index.md").read_text()


@pytest.fixture(scope="module")
def pictures():
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs/pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_every_tutorial_has_a_picture_of_its_present_code(tutorial, pictures):
    picture = pictures.PICTURES / f"{tutorial.stem}.png"
    assert pictures.hash_of(picture) == pictures.code_hash(tutorial), (
        f"{picture.name} is old: `make docs` draws it anew"
    )
    assert picture.stat().st_size < 100_000
    with Image.open(picture) as image:
        assert image.width == pictures.WIDTH and len(image.convert("RGB").getcolors(1 << 20)) > 8


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_the_index_shows_it_and_the_head_says_what_one_needs(tutorial):
    (row,) = (line for line in INDEX.splitlines() if f"{tutorial.name})" in line)
    assert f"](pictures/{tutorial.stem}.png)" in row
    head = nbformat.read(tutorial, as_version=4).cells[0].source
    assert all(part in head for part in ("**You learn**", "**Takes**", "**You need**"))
    takes = r"\*\*Takes\*\* (?:about |less than )?(?:a|one|two|three|four|five|six) minutes?(?: \([^)]+\))?\."
    assert re.search(takes, head), head


def test_code_names_a_picture_and_text_does_not(pictures, tmp_path):
    notebook = nbformat.read(TUTORIALS[0], as_version=4)
    notebook.cells[0].source = "# Another text"
    nbformat.write(notebook, tmp_path / "text.ipynb")
    notebook.cells[-2].source += "\n1 + 1"
    nbformat.write(notebook, tmp_path / "code.ipynb")
    text, code = (pictures.code_hash(tmp_path / name) for name in ("text.ipynb", "code.ipynb"))
    assert text == pictures.code_hash(TUTORIALS[0]) != code
