"""Build the documentation site: run the tutorials, write the command line's pages, and call Sphinx with warnings as errors.

    python docs/build.py [--without-tutorials]

The tutorials run as `atlab run` runs them, once each; a tutorial that has not changed is not run again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import nbformat
import pictures  # docs/pictures.py
from typer.main import get_command

from atlab.cli.main import app
from atlab.runs import notebooks

DOCS = Path(__file__).parent
TUTORIALS = DOCS.parent / "notebooks/tutorials"


def place_tutorials(run: bool) -> None:
    """Put every tutorial into docs/tutorials; executed if asked for, with its figures as pictures."""
    with pictures.chrome() if run else nullcontext(False) as drawn:
        for path in sorted(TUTORIALS.glob("*.ipynb")):
            notebook = nbformat.read(path, as_version=4)
            if run:
                executed = notebooks.run(path, {}, announce=print).notebook_path
                with_outputs(notebook, nbformat.read(executed, as_version=4))
            if drawn:
                pictures.keep(path, notebook)
            pictures.draw(notebook, drawn)
            nbformat.write(notebook, DOCS / "tutorials" / path.name)
    if run and not drawn:
        print("no Chrome was found: the pages have no figures")


def with_outputs(notebook: nbformat.NotebookNode, executed: nbformat.NotebookNode) -> None:
    """Give the cells of a notebook the outputs of its execution, which may be older than its text: code names a run, text does not."""
    found = {cell.id: cell for cell in executed.cells if cell.cell_type == "code"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = found[cell.id].outputs, found[cell.id].execution_count


def write_command_line() -> None:
    """The help of every command, as one page."""
    parts = ["# Command line\n"]
    for name, command in _commands(get_command(app), "atlab"):
        options = [option for option in command.params if option.name != "help"]
        parts.append(f"## {name}\n\n{(command.help or '').strip()}\n")
        if options:
            parts.append("| | |\n|---|---|")
            parts.append("\n".join(f"| `{_shown(option)}` | {_help(option)} |" for option in options) + "\n")
    (DOCS / "command_line.md").write_text("\n".join(parts))


def _commands(group, name: str):
    for key, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{name} {key}")
        else:
            yield f"{name} {key}", command


def _shown(option) -> str:
    return option.name.upper() if option.param_type_name == "argument" else ", ".join(option.opts)


def _help(option) -> str:
    return (getattr(option, "help", None) or "").replace("|", "\\|")


def main() -> int:
    """Build docs/_build/html; the exit status is Sphinx's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--without-tutorials", action="store_true", help="Show the tutorials as they are, not executed."
    )
    arguments = parser.parse_args()
    place_tutorials(run=not arguments.without_tutorials)
    write_command_line()
    out = DOCS / "_build/html"
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", DOCS, out]
    status = subprocess.run([*map(str, command), "-d", str(DOCS / "_build/doctrees")]).returncode
    if status == 0:
        print(f"documentation  {out / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
