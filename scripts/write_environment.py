"""Write environment.yml for conda users: Python 3.11 and the very pins of constraints.txt."""

from __future__ import annotations

from pathlib import Path

from packaging.requirements import Requirement

HEAD = """\
# Written by scripts/lock from constraints.txt: the same versions for conda users.
#   conda env create -f environment.yml, then: python -m pip install --no-deps --no-build-isolation -e .
name: atlab
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def pins(constraints: str) -> list[str]:
    """The lines `name==version ; marker` that can hold on Python 3.11, whatever the platform."""
    lines = [line.rstrip(" \\") for line in constraints.splitlines() if line and not line.startswith((" ", "#"))]
    return [line for line in lines if _on_python_311(line)]


def _on_python_311(line: str) -> bool:
    marker = Requirement(line).marker
    platforms = (
        {"sys_platform": s, "os_name": o} for s, o in (("linux", "posix"), ("darwin", "posix"), ("win32", "nt"))
    )
    version = {"python_version": "3.11", "python_full_version": "3.11.9"}
    return marker is None or any(marker.evaluate({**version, **platform}) for platform in platforms)


def main() -> None:
    root = Path(__file__).resolve().parent.parent
    listed = "".join(f'      - "{pin}"\n' for pin in pins((root / "constraints.txt").read_text()))
    (root / "environment.yml").write_text(HEAD + listed)


if __name__ == "__main__":
    main()
