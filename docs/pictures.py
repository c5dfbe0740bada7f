"""Figures of executed tutorials as pictures: for the site, which has no plotly.js, and for GitHub, which shows no outputs."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from contextlib import contextmanager
from pathlib import Path

import nbformat
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from atlab.runs import ipynb

PICTURES = Path(__file__).parent / "tutorials/pictures"
PLOTLY, SVG = "application/vnd.plotly.v1+json", "image/svg+xml"
WIDTH = 560  # pixels
TAG = "picture"  # of the cell whose figure stands for the tutorial


def code_hash(tutorial: Path) -> str:
    """What a tutorial computes, in 16 digits: its code without comments."""
    return hashlib.sha256(ipynb.source(tutorial).encode()).hexdigest()[:16]


def hash_of(picture: Path) -> str:
    """The hash of the code that a picture was made by, "" if it says none."""
    with Image.open(picture) as image:
        return image.info.get("code", "")


@contextmanager
def chrome():
    """Yields whether figures can be drawn: one Chrome for all of them."""
    import kaleido
    import plotly.graph_objects as go

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The kopts argument is ignored", UserWarning)
        try:
            kaleido.start_sync_server(silence_warnings=True)
            go.Figure().to_image("svg")
        except Exception:  # kaleido raises several types where it finds no Chrome, some at the first figure only
            kaleido.stop_sync_server(silence_warnings=True)
            yield False
            return
        try:
            yield True
        finally:
            kaleido.stop_sync_server(silence_warnings=True)


def draw(notebook: nbformat.NotebookNode, drawn: bool) -> None:
    """Make every output that is a plotly figure an SVG, or a line of text where figures cannot be drawn."""
    import plotly.io

    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if found := output.get("data", {}).pop(PLOTLY, None):
                figure = plotly.io.from_json(json.dumps(found))
                output.data |= {SVG: figure.to_image(format="svg").decode()} if drawn else {"text/plain": "(a figure)"}


def keep(tutorial: Path, executed: nbformat.NotebookNode) -> None:
    """Store the figure of the tagged cell as a small PNG, unless the one there was made by the same code."""
    import plotly.io

    path, code = PICTURES / f"{tutorial.stem}.png", code_hash(tutorial)
    if path.exists() and hash_of(path) == code:
        return
    (cell,) = (cell for cell in executed.cells if TAG in cell.metadata.get("tags", []))
    (data,) = (output.data[PLOTLY] for output in cell.outputs if PLOTLY in output.get("data", {}))
    figure = plotly.io.from_json(json.dumps(data))
    drawn = Image.open(io.BytesIO(figure.to_image(format="png", scale=2))).convert("RGB")
    small = drawn.resize((WIDTH, round(drawn.height * WIDTH / drawn.width)), Image.Resampling.LANCZOS)
    info = PngInfo()
    info.add_text("code", code)
    path.parent.mkdir(exist_ok=True)
    small.quantize(64).save(path, optimize=True, pnginfo=info)
