"""An executed notebook as one HTML file that works without any network."""

from __future__ import annotations

import copy
import re
from typing import Any

_PLOTLY = "application/vnd.plotly.v1+json"
_IMAGES = ("image/svg+xml", "image/png", "image/jpeg")
_SCRIPTS = re.compile(r"<script\b.*?</script>", re.DOTALL)


def to_html(notebook: Any) -> str:
    """HTML of a notebook (nbformat 4 node): formulas as MathML, figures as images or with plotly.js embedded once."""
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
        return MarkdownWithMath(renderer=MathML(escape=False, embed_images=True)).render(source)

    notebook = copy.deepcopy(notebook)
    _keep_drawable(notebook)
    exporter = HTMLExporter(embed_images=True)
    exporter.register_filter("markdown2html", markdown)
    page = exporter.from_notebook_node(notebook)[0]
    # The template's head only loads RequireJS, MathJax and Mermaid from other hosts; nothing here needs them.
    head, body_tag, body = page.partition("<body")
    return _SCRIPTS.sub("", head) + body_tag + body


def _mathml(source: str, display: str) -> str:
    from latex2mathml.converter import convert

    try:
        formula = convert(source.strip(), display=display)
    except Exception:  # a formula the converter cannot read is shown as its source,
        return ""
    return "" if "<mi>&</mi>" in formula else formula  # and so is an alignment it takes for symbols


def _keep_drawable(notebook: Any) -> None:
    """Give every plotly figure a form that a plain page can draw, in place."""
    import plotly.io

    embedded = False
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
                include_plotlyjs=False if embedded else True,
                include_mathjax=False,
                full_html=False,
                validate=False,
                config={"displaylogo": False, "plotlyServerURL": ""},
            )
            embedded = True
