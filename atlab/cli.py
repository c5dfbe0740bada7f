"""The `atlab` command. Heavy imports wait for the command that needs them, so that help and mistakes answer at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import atlab
from atlab.errors import AtlabError


class _Group(TyperGroup):
    """Shows an AtlabError as one red line (and what follows it, dim) with exit code 2 instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except AtlabError as error:
            if os.environ.get("ATLAB_DEBUG") == "1":
                raise
            first, *rest = str(error).splitlines() or [type(error).__name__]
            typer.secho(f"error: {first}", fg="red", err=True)
            for line in rest:
                typer.secho(line, dim=True, err=True)
            raise typer.Exit(2) from None
        except OSError as error:
            if os.environ.get("ATLAB_DEBUG") == "1":
                raise
            where = f": {error.filename}" if error.filename else ""
            typer.secho(f"error: {error.strerror or error}{where}", fg="red", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.secho("interrupted; the same command carries on", fg="yellow", err=True)
            raise typer.Exit(130) from None


class _TakesPairs(TyperCommand):
    """Reads `-p name value`, which is `-p name=value` to the parser below it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        folded, left = [], list(args)
        while left:
            word = left.pop(0)
            folded.append(word)
            if word in ("-p", "--parameter") and left and "=" not in left[0]:
                name = left.pop(0)
                if not left:
                    raise AtlabError(f"-p {name} has no value; allowed: -p NAME VALUE")
                folded.append(f"{name}={left.pop(0)}")
        return super().parse_args(ctx, folded)


app = typer.Typer(cls=_Group, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)  # fmt: skip
data = typer.Typer(no_args_is_help=True, help="Data sets: what there is, what is in one, raw files to a FactorSet.")
app.add_typer(data, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"atlab {atlab.__version__}")
        raise typer.Exit


@app.callback()
def main(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False) -> None:
    """A lab bench for anti-transfer learning and layer-wise transferability."""


@app.command(cls=_TakesPairs)
def run(
    notebook: Annotated[Path, typer.Argument(help="The notebook to run.")],
    parameter: Annotated[list[str], typer.Option("-p", "--parameter", metavar="NAME VALUE", help="One of its parameters; repeatable.")] = [],  # noqa: B006, E501
    study: Annotated[str | None, typer.Option(help="Folder for its runs; the notebook's name if not given.")] = None,
    root: Annotated[Path, typer.Option(help="Folder for all studies.")] = Path("runs"),
    html: Annotated[bool, typer.Option("--html", help="Also write one HTML file that needs no network.")] = False,
) -> None:
    """Run a notebook with parameters into its run folder; one that is done is opened, an interrupted one resumed."""
    from atlab import notebooks

    given = notebooks.parse(notebook, _pairs(parameter))
    done = notebooks.run(notebook, given, root=root, study=study, html=html, announce=typer.echo)
    typer.echo(f"notebook  {done.notebook_path}")
    if html:
        typer.echo(f"HTML      {done.notebook_path.with_suffix('.html')}")


def _pairs(texts: Iterable[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise AtlabError(f"{text!r} is not a name with a value; allowed: NAME=VALUE")
        if name in pairs:
            raise AtlabError(f"{name!r} is given twice: {pairs[name]!r} and {value!r}")
        pairs[name] = value
    return pairs


@app.command(cls=_TakesPairs)
def sweep(
    grid: Annotated[str, typer.Argument(help="A grid's YAML, or the name of one in notebooks/experiments/grids.")],
    scale: Annotated[str, typer.Option(help="One of the grid's scales.")] = "laptop",
    root: Annotated[Path, typer.Option(help="Folder for all studies.")] = Path("runs"),
    workers: Annotated[int, typer.Option(help="Processes at once on this machine.")] = 2,
    devices: Annotated[str, typer.Option(help="CUDA devices to use, such as 0,1.")] = "",
    per_device: Annotated[int, typer.Option(help="Runs at once on each of them.")] = 1,
    scheduler: Annotated[str, typer.Option(help="Address of a Dask scheduler (tcp://..), or local.")] = "",
    gpu_share: Annotated[float, typer.Option(help="Of a Dask worker's resource GPU that a run takes.")] = 0.0,
    parameter: Annotated[list[str], typer.Option("-p", "--parameter", metavar="NAME VALUE", help="Put over the grid's; repeatable.")] = [],  # noqa: B006, E501
    only: Annotated[int | None, typer.Option(help="The number of a single run.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, what it costs, and stop.")] = False,
    sbatch: Annotated[bool, typer.Option("--sbatch", help="Print a line for Slurm, and stop.")] = False,
) -> None:
    """Run every run of a grid that is not done, after the networks that they share; the same command carries on."""
    from atlab import notebooks
    from atlab import sweep as sweeps

    opened = sweeps.load(grid, scale)
    fixed = notebooks.parse(opened.notebook, _pairs(parameter))
    if sbatch:
        typer.echo(sweeps.sbatch(grid, scale, root, parameter, **fixed))
        return
    if dry_run:
        typer.echo(sweeps.dry_run(grid, scale, root, workers, only, **fixed))
        return
    outcome = sweeps.run(
        grid, scale, root, workers, [d for d in devices.split(",") if d], per_device, scheduler, gpu_share, only, **fixed
    )
    typer.echo(outcome.summary())
    if outcome.failed:
        for name, message in outcome.failed.items():
            typer.secho(f"failed: {name}\n  {message}", fg="red", err=True)
        raise typer.Exit(1)


@app.command()
def report(
    study: Annotated[str, typer.Argument(help="A study under the root, or its folder.")],
    root: Annotated[Path, typer.Option(help="Folder for all studies.")] = Path("runs"),
    out: Annotated[Path | None, typer.Option(help="The page; report.html in the study's folder if not given.")] = None,
) -> None:
    """Write one HTML page of a study: accuracies with intervals, differences to the baseline, curves, every run."""
    from atlab import report as reports

    typer.echo(f"HTML      {reports.write(study, root, out)}")


@app.command()
def measure(
    model: Annotated[Path, typer.Argument(help="A run folder, or a model file.")],
    data_set: Annotated[str, typer.Argument(metavar="DATA", help="A data set's folder or name.")],
    factors: Annotated[str, typer.Option(help="What should not matter, separated by commas.")],
    layers: Annotated[str, typer.Option(help="Where to measure, separated by commas; every convolution if not given.")] = "",
    out: Annotated[Path | None, typer.Option(help="Also write every number to this CSV.")] = None,
) -> None:
    """How much of each factor is left in a network, layer by layer, and what use its predictions make of it."""
    from atlab.invariance import single

    wanted = [name.strip() for name in factors.split(",") if name.strip()]
    found = single.measure(model, data_set, wanted, [name.strip() for name in layers.split(",") if name.strip()] or None)
    typer.echo("\n\n".join(single.lines(found, factor) for factor in wanted))
    if out is not None:
        found.table.to_csv(out, index=False)


@data.command("list")
def data_list() -> None:
    """Every recipe: its licence, how to get the raw files, its size and factors, and whether it is prepared here."""
    import data_recipes
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 1, 0))
    for column in ("name", "prepared", "factors", "size", "licence", "raw files"):
        table.add_column(column, overflow="fold")
    here = _all_prepared()
    for name, recipe in data_recipes.recipes().items():
        texts = "\n".join(here.get(name, ["no"])), ", ".join(recipe.FACTORS), recipe.SIZE, recipe.LICENCE, recipe.ACCESS
        table.add_row(name, *map(Text, texts))
    _console().print(table)


@data.command("show")
def data_show(
    name: Annotated[str, typer.Argument(metavar="NAME-OR-DIR", help="A recipe, or a prepared folder.")],
    cross: Annotated[tuple[str, str] | None, typer.Option(metavar="FACTOR FACTOR", help="Two factors to cross; the first two if not given.")] = None,  # noqa: E501
) -> None:
    """Counts, a crossing table, durations and some clips of a prepared data set; else how to get it."""
    folder = Path(name) if (Path(name) / "card.json").exists() else _prepared(name)
    if folder is None:
        if Path(name).is_dir():
            raise AtlabError(f"{name} is not a prepared data set: it holds no card.json")
        _show_recipe(name)
        return
    from atlab.data import FactorSet
    from atlab.data.display import as_text

    _console().print(as_text(FactorSet.open(folder), cross), highlight=False)


@data.command("prepare")
def data_prepare(
    name: Annotated[str, typer.Argument(help="The recipe; see `atlab data list`.")],
    raw: Annotated[Path | None, typer.Option(help="Folder of the raw files; embedded sets need none.")] = None,
    out: Annotated[Path | None, typer.Option(help="The FactorSet's folder; data/NAME if not given.")] = None,
    option: Annotated[list[str], typer.Option("--option", metavar="KEY=VALUE", help="Of the recipe; repeatable.")] = [],  # noqa: B006
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores if not given.")] = None,
) -> None:
    """Turn raw files into a FactorSet; a set that is there is opened, an interrupted one resumed."""
    import inspect

    import data_recipes

    recipe = data_recipes.get(name)
    accepted = inspect.signature(recipe.prepare).parameters
    if raw is None and "None" not in str(accepted["raw"].annotation):
        raise AtlabError(f"{name} needs its raw files: --raw DIR; to get them: {recipe.ACCESS}")
    options = _options(_pairs(option), {key: p for key, p in accepted.items() if key not in ("raw", "out", "workers")}, name)
    out = out or _data_folder() / name
    fs = recipe.prepare(raw, out, workers=workers, **options)
    typer.echo(f"{len(fs)} clips in {out}; summary: atlab data show {out}")


def _options(texts: dict[str, str], accepted: dict[str, Any], recipe: str) -> dict[str, Any]:
    """Options as the recipe's signature types them: literals, but text where only text is accepted."""
    import ast

    from atlab.errors import unknown

    options: dict[str, Any] = {}
    for key, text in texts.items():
        if key not in accepted:
            raise unknown(f"option of {recipe}", key, accepted)
        try:
            options[key] = text if accepted[key].annotation in ("str", str) else ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[key] = {"true": True, "false": False}.get(text.lower(), text)
    return options


def _show_recipe(name: str) -> None:
    import data_recipes

    recipe = data_recipes.get(name)
    out = _console()
    out.print(f"[bold]{name}[/bold] is not prepared in {_data_folder()}: atlab data prepare {name} --raw DIR", highlight=False)
    for title, text in (("raw files", recipe.ACCESS), ("size", recipe.SIZE), ("licence", recipe.LICENCE), ("citation", recipe.CITATION)):
        out.print(f"{title:10}{text}", highlight=False, markup=False)
    for factor, meaning in recipe.FACTORS.items():
        out.print(f"factor    {factor}: {meaning}", highlight=False, markup=False)


def _data_folder() -> Path:
    return Path(os.environ.get("ATLAB_DATA", "data"))


def _prepared(name: str) -> Path | None:
    folder = _data_folder() / name
    return folder if (folder / "card.json").exists() else None


def _all_prepared() -> dict[str, list[str]]:
    """The data sets in the data folder by the recipe that wrote them, each with its number of clips."""
    import json

    found: dict[str, list[str]] = {}
    for path in sorted(_data_folder().glob("*/card.json")):
        if not path.parent.name.startswith("."):  # a set that is being written
            try:
                card = json.loads(path.read_text())
                recipe, clips = card["recipe"], f" ({card['clips']:,} clips)"
            except (OSError, ValueError, TypeError, KeyError):  # another program's file, or a spoiled one
                recipe, clips = path.parent.name, ""
            found.setdefault(recipe, []).append(f"{path.parent}{clips}")
    return found


def _console() -> Any:
    from rich.console import Console

    # Without a terminal a table must not be cut to 80 columns.
    return Console(width=None if sys.stdout.isatty() else 160)


@app.command()
def explore(
    study: Annotated[Path, typer.Argument(help="Folder of a study's runs, e.g. runs/quickstart.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of 127.0.0.1.")] = 8866,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it in the browser.")] = False,
) -> None:
    """Serve the explorers of a study on this machine only, without JupyterLab (Voila); Ctrl+C ends them."""
    from atlab.explore import serving

    raise typer.Exit(serving.serve(str(study), port, browser, typer.echo))


@app.command()
def doctor() -> None:
    """Check this machine: Python, versions against the pins, device, synthesiser, browser, kernel, disk."""
    from atlab import doctor as checks

    signs = {"ok": ("green", "ok  "), "note": ("yellow", "note"), "bad": ("red", "BAD ")}
    found = list(checks.examine())
    for state, name, finding in found:
        colour, sign = signs[state]
        typer.echo(f"{typer.style(sign, fg=colour)}  {name:12} {finding}")
    if any(state == "bad" for state, _, _ in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
