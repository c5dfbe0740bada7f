"""What `atlab doctor` looks at: one line per subject, each ok, a note (works without), or bad."""

from __future__ import annotations

import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from atlab.errors import AtlabError

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_LEAST_DISK = 5  # GB: the largest caches of a study


def examine() -> Iterator[tuple[str, str, str]]:
    """(state, subject, finding) one by one; state is "ok", "note" or "bad"."""
    python = platform.python_version()
    yield ("ok" if sys.version_info >= (3, 11) else "bad"), "Python", f"{python} at {sys.executable}"
    yield _versions()
    yield _device()
    yield _espeak()
    browser = next((path for path in map(shutil.which, CHROMIUM) if path), None)
    yield (
        ("ok", "browser", browser)
        if browser
        else ("note", "browser", "no Chromium: figures are interactive only, not images")
    )
    kernel = Path(sys.prefix, "share/jupyter/kernels/atlab/kernel.json")
    yield (
        ("ok", "kernel", str(kernel))
        if kernel.exists()
        else ("note", "kernel", "no 'atlab' kernel (make install writes it): python3 is used")
    )
    free = shutil.disk_usage(".").free / 1e9
    yield ("ok" if free >= _LEAST_DISK else "note"), "disk", f"{free:.0f} GB free in {Path.cwd()}"


def pins(constraints: str) -> dict[str, str]:
    """Name -> version of a constraints file, of the lines that hold on this machine.

    >>> pins("torch==2.11.0 \\\\\\n    --hash=sha256:0\\ncolorama==0.4.6 ; sys_platform == 'never'\\n")
    {'torch': '2.11.0'}
    """
    from packaging.requirements import Requirement

    found = {}
    for line in constraints.splitlines():
        if re.match(r"[A-Za-z0-9]", line):
            requirement = Requirement(line.rstrip(" \\"))
            if requirement.marker is None or requirement.marker.evaluate():
                found[requirement.name] = str(requirement.specifier).removeprefix("==")
    return found


def _versions() -> tuple[str, str, str]:
    file = Path(__file__).resolve().parents[2] / "constraints.txt"
    if not file.exists():
        return "note", "versions", "constraints.txt is not next to the package: nothing to compare with"
    wanted, other = pins(file.read_text()), []
    for name, version in wanted.items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed = "absent"
        if installed != version:
            other.append(f"{name} {installed} (pinned {version})")
    if other:
        return "note", "versions", f"{len(other)} of {len(wanted)} differ from constraints.txt: {', '.join(other[:5])}"
    return "ok", "versions", f"all {len(wanted)} packages as pinned"


def _device() -> tuple[str, str, str]:
    try:
        import torch

        from atlab.system import devices

        chosen = devices.choose()
        name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else f"{torch.get_num_threads()} threads"
        bf16 = "yes" if devices.computes_bf16(chosen) else "no"
    except (ImportError, OSError, AtlabError) as error:
        return "bad", "device", f"torch does not work: {error}"
    return "ok", "device", f"{chosen} ({name}), bf16: {bf16}, torch {torch.__version__}"


def _espeak() -> tuple[str, str, str]:
    try:
        import espeakng_loader

        library = espeakng_loader.get_library_path()
    except (ImportError, OSError) as error:
        return "note", "eSpeak NG", f"absent ({error}): the embedded speech cannot be rendered"
    if not Path(library).exists():
        return "note", "eSpeak NG", f"{library} is missing: the embedded speech cannot be rendered"
    return "ok", "eSpeak NG", str(library)
