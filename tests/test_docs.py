"""The documentation site builds without a warning, and every link inside it leads somewhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]


class _Page(HTMLParser):
    """The ids and links of an HTML page."""

    def __init__(self, text: str):
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids.update(value for name in ("id", "name") if (value := given.get(name)))
        self.links.update(value for name in ("href", "src") if (value := given.get(name)))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site as `make docs QUICK=1` builds it, from a copy, so that the tree stays as it is."""
    home = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "docs", home / "docs", ignore=shutil.ignore_patterns("_build"))
    shutil.copytree(ROOT / "notebooks/tutorials", home / "notebooks/tutorials")
    for page in ROOT.glob("*.md"):
        shutil.copy(page, home)
    command = [sys.executable, home / "docs/build.py", "--without-tutorials"]
    built = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return home / "docs/_build/html"


def test_every_page_is_there_and_found_by_the_search(site):
    index = (site / "searchindex.js").read_text()
    names = json.loads(index[index.index("(") + 1 : index.rindex(")")])["docnames"]
    pages = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    tutorials = {f"tutorials/{path.stem}" for path in (ROOT / "notebooks/tutorials").glob("*.ipynb")}
    assert len(tutorials) >= 9
    assert set(names) >= pages | tutorials
    assert all((site / f"{name}.html").exists() for name in names)


def test_links_inside_the_site_lead_somewhere(site):
    @cache
    def page(path: Path) -> _Page:
        return _Page(path.read_text())

    lost = []
    for path in sorted(site.rglob("*.html")):
        for link in page(path).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            aim = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not aim.exists() or (
                parts.fragment and aim.suffix == ".html" and unquote(parts.fragment) not in page(aim).ids
            ):
                lost.append(f"{path.relative_to(site)}: {link}")
    assert not lost, "\n".join(lost[:20])
