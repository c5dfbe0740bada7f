"""The optional parts of atlab: what each extra brings, which rooms need it, and one sentence where it is missing."""

from __future__ import annotations

import importlib.util

from atlab.errors import AtlabError

# The modules of each extra; "lab" brings those of "data" too. pyproject.toml has the versions.
DATA = ("PIL", "pandas", "pyarrow", "scipy", "soundfile", "torchaudio", "tqdm")
LAB = (
    "IPython",
    "anywidget",
    "concept_erasure",
    "cryptography",
    "dask",
    "distributed",
    "ipykernel",
    "ipywidgets",
    "jupyter_client",
    "jupyter_core",
    "jupyterlab",
    "kaleido",
    "latex2mathml",
    "librosa",
    "nbconvert",
    "nbformat",
    "packaging",
    "papermill",
    "plotly",
    "pytorch_grad_cam",
    "rich",
    "traitlets",
    "typer",
    "voila",
    "yaml",
)
MODULES = {"data": DATA, "lab": (*DATA, *LAB)}

# The extra of every room that needs more than torch, torchvision, numpy and safetensors.
ROOMS = {
    **dict.fromkeys(("cost", "data", "paper", "stats", "training"), "data"),
    **dict.fromkeys(("analysis", "cli", "experiment", "explore", "invariance", "plots", "runs", "transfer"), "lab"),
    "data_recipes": "data",
}


def check(package: str) -> None:
    """AtlabError if the extra that a room (`atlab.data`, `data_recipes`) needs is not installed whole; called by the room's face.

    >>> check("atlab.data")
    """
    extra = ROOMS[package.removeprefix("atlab.")]
    for module in MODULES[extra]:
        if not _is_installed(module):
            raise AtlabError(f"{package} needs {module}, which is not installed: pip install 'atlab[{extra}]'")


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # an import that is blocked
        return False
