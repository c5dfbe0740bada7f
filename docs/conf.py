"""The documentation site: `make docs`."""

from __future__ import annotations

import atlab

project, author, copyright = "atlab", "atlab authors", "atlab authors"
release = version = atlab.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"atlab {release}"
html_static_path = ["_static"]
html_css_files = ["atlab.css"]

# Docstrings name code in single backticks.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_use_ivar = True

# Notebooks come executed (`docs/build.py`): the site shows what ran, and building it trains nothing.
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3


def setup(app) -> None:
    """Links to notebooks lead to the repository's on its own site, and to the executed pages here."""
    app.connect(
        "source-read",
        lambda app, name, text: text.__setitem__(0, text[0].replace("../notebooks/tutorials/", "tutorials/")),
    )
