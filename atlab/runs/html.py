"""An executed notebook as one HTML file that works without any network."""

from __future__ import annotations

import base64
import copy
import hashlib
import html
import re
from pathlib import Path
from typing import Any

from atlab.runs import ipynb
from atlab.system.files import write_atomic

_PLOTLY = "application/vnd.plotly.v1+json"
_IMAGES = ("image/svg+xml", "image/png", "image/jpeg")
_SCRIPTS = re.compile(r"<script\b[^>]*>(.*?)</script>", re.DOTALL)
_META = re.compile(r"<meta\b", re.IGNORECASE)
_CONFIG = {"displaylogo": False, "plotlyServerURL": "", "showSendToCloud": False}
# The answer is what a page is read for; its code is a click away.
_FOLDED = """{%- extends 'lab/index.html.j2' -%}
{%- block input_group -%}
{%- if cell.source.strip() -%}<details><summary>code</summary>{{ super() }}</details>{%- endif -%}
{%- endblock input_group -%}"""

# What a page may do: show what is in it. Only the scripts whose hashes are listed run.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; media-src data: blob:; font-src data:; "
    "base-uri 'none'; form-action 'none'; script-src "
)


def write_html(notebook: str | Path, out: str | Path) -> Path:
    """Show an executed notebook as one HTML file that asks nothing of any other host: -> `out`.

    Formulas become MathML. A plotly figure is shown as its stored SVG or PNG; one that has none is embedded, with
    plotly.js in the file itself.
    """
    return write_atomic(out, to_html(ipynb.read(notebook)))


def to_html(notebook: Any) -> str:
    """HTML of a notebook (nbformat 4 node): code folded, formulas as MathML, figures as images or with plotly.js embedded once.

    A content security policy in the page lets plotly.js and the figures' own scripts run, no other script, and nothing
    reach another host, whatever the notebook holds. Files of this machine that it names are not put into the page.
    """
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class MathML(IPythonRenderer):
        def block_math(self, body: str) -> str:
            return _mathml(body, "block") or super().block_math(body)

        def inline_math(self, body: str) -> str:
            return _mathml(body, "inline") or super().inline_math(body)

        def latex_environment(self, name: str, body: str) -> str:
            source = rf"\begin{{{name}}}{body}\end{{{name}}}"
            return _mathml(source, "block") or super().latex_environment(name, body)

    def markdown(source: str) -> str:
        return MarkdownWithMath(renderer=MathML(escape=False)).render(source)

    notebook = copy.deepcopy(notebook)
    scripts = _keep_drawable(notebook)
    exporter = HTMLExporter(raw_template=_FOLDED)
    exporter.register_filter("markdown2html", markdown)
    page = exporter.from_notebook_node(notebook, resources={"metadata": {"name": _title(notebook)}})[0]
    # The template's head only loads RequireJS, MathJax and Mermaid from other hosts; nothing here needs them.
    head, body_tag, body = page.partition("<body")
    body = _META.sub("&lt;meta", body)  # one that refreshes would lead to another page, which no policy forbids
    hashes = " ".join(sorted(map(_hash, scripts))) or "'none'"
    policy = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}{hashes}">'
    start = head.index("<head>") + len("<head>")  # the policy holds for what follows it
    return head[:start] + policy + _SCRIPTS.sub("", head[start:]) + body_tag + body


def _title(notebook: Any) -> str:
    """The notebook's first heading."""
    sources = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found = (re.search(r"^#+ +(.+)$", source, re.MULTILINE) for source in sources)
    return html.unescape(next((match[1].strip() for match in found if match), "Notebook"))


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _mathml(source: str, display: str) -> str:
    from latex2mathml.converter import convert

    try:
        formula = convert(source.strip(), display=display)
    except Exception:  # a formula the converter cannot read is shown as its source,
        return ""
    return "" if "<mi>&</mi>" in formula else formula  # and so is an alignment it takes for symbols


def _keep_drawable(notebook: Any) -> set[str]:
    """Give every plotly figure a form that a plain page can draw, in place: -> the scripts that draw them."""
    import plotly.io

    scripts: set[str] = set()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            figure = data.pop(_PLOTLY, None)
            if figure is None:
                continue
            if any(kind in data for kind in _IMAGES):
                data.pop("text/html", None)
                continue
            data["text/html"] = plotly.io.to_html(
                {"data": figure.get("data", []), "layout": figure.get("layout", {})},
                include_plotlyjs=not scripts,
                include_mathjax=False,
                full_html=False,
                validate=False,
                config=_CONFIG,
            )
            scripts.update(_SCRIPTS.findall(data["text/html"]))
    return scripts
