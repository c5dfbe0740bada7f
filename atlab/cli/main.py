"""The `atlab` command. Heavy imports wait for the command that needs them, so that help and mistakes answer at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import atlab
from atlab.cli.data import data
from atlab.cli.parsing import Group, TakesPairs, pairs
from atlab.system.home import find, in_home, named, shown

app = typer.Typer(cls=Group, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(data, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"atlab {atlab.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """A lab bench for anti-transfer learning and layer-wise transferability."""


def _root(given: Path | None) -> Path:
    """The folder of all studies: what was typed is relative to the current folder, the default lies in the project's."""
    return in_home("runs") if given is None else Path(shown(given.absolute()))


Root = Annotated[Path | None, typer.Option(help="Folder for all studies; runs/ of the project if not given.")]


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="A new or empty folder.")]) -> None:
    """Lay out a project: atlab's notebooks and grids, and folders for data sets and runs."""
    from atlab.system import project

    project.create(folder)
    typer.echo(f"project   {folder}; next: cd {folder} && atlab run 01_quickstart")


@app.command(cls=TakesPairs)
def run(
    notebook: Annotated[str, typer.Argument(help="A notebook: its path, or a name such as train or 01_quickstart.")],
    parameter: Annotated[
        list[str], typer.Option("-p", "--parameter", metavar="NAME VALUE", help="One of its parameters; repeatable.")
    ] = [],  # noqa: B006
    study: Annotated[str | None, typer.Option(help="Folder for its runs; the notebook's name if not given.")] = None,
    root: Root = None,
    html: Annotated[bool, typer.Option("--html", help="Also write one HTML file that needs no network.")] = False,
) -> None:
    """Run a notebook with parameters into its run folder; a finished run is opened, an interrupted one resumed."""
    from atlab.runs import notebooks, parameters

    path = named(notebook, ".ipynb")
    given = parameters.parse(path, pairs(parameter))
    done = notebooks.run(path, given, root=_root(root), study=study, html=html, announce=typer.echo)
    typer.echo(f"notebook  {shown(done.notebook_path)}")
    if html:
        typer.echo(f"HTML      {shown(done.notebook_path.with_suffix('.html'))}")


@app.command(cls=TakesPairs)
def sweep(
    grid: Annotated[str, typer.Argument(help="A grid: the path of its YAML, or a name such as table3_words.")],
    scale: Annotated[str, typer.Option(help="One of the grid's scales.")] = "laptop",
    root: Root = None,
    workers: Annotated[int, typer.Option(help="Runs at once on this machine, one thread each.")] = 2,
    devices: Annotated[str, typer.Option(help="CUDA devices to use, such as 0,1.")] = "",
    per_device: Annotated[int, typer.Option(help="Runs at once on each of them.")] = 1,
    scheduler: Annotated[str, typer.Option(help="Address of a Dask scheduler elsewhere, tls://...")] = "",
    trust_network: Annotated[
        bool, typer.Option("--trust-network", help="Use a scheduler without TLS: nobody else reaches that network.")
    ] = False,
    parameter: Annotated[
        list[str], typer.Option("-p", "--parameter", metavar="NAME VALUE", help="Overrides the grid's; repeatable.")
    ] = [],  # noqa: B006
    only: Annotated[int | None, typer.Option(help="The number of a single run.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, what it costs, and stop.")] = False,
    sbatch: Annotated[bool, typer.Option("--sbatch", help="Print a line for Slurm, and stop.")] = False,
) -> None:
    """Run what is missing from a grid, after the networks that its runs share; the same command carries on."""
    from atlab.runs import jobs, parameters
    from atlab.runs import sweep as sweeps
    from atlab.runs.dry_run import dry_run as what_it_would_do

    root = _root(root)
    opened = jobs.load(grid, scale)
    fixed = parameters.parse(opened.notebook, pairs(parameter))
    if sbatch:
        typer.echo(sweeps.sbatch(grid, scale, root, parameter, **fixed))
        return
    if dry_run:
        typer.echo(what_it_would_do(grid, scale, root, workers, only, **fixed))
        return
    outcome = sweeps.run(
        grid,
        scale,
        root,
        workers,
        [d for d in devices.split(",") if d],
        per_device,
        scheduler,
        trust_network,
        only,
        **fixed,
    )
    typer.echo(outcome.summary())
    if outcome.failed:
        for name, message in outcome.failed.items():
            typer.secho(f"failed: {name}\n  {message}", fg="red", err=True)
        raise typer.Exit(1)


@app.command()
def report(
    study: Annotated[str, typer.Argument(help="A study under the root, or its folder.")],
    root: Root = None,
    out: Annotated[Path | None, typer.Option(help="The page; report.html in the study's folder if not given.")] = None,
) -> None:
    """Write one HTML page of a study: accuracies with intervals, differences to the baseline, curves, every run."""
    from atlab.analysis import report as reports

    typer.echo(f"HTML      {reports.write(study, _root(root), out)}")


@app.command()
def measure(
    model: Annotated[Path, typer.Argument(help="A run folder, or a model file.")],
    data_set: Annotated[str, typer.Argument(metavar="DATA", help="A data set's folder or name.")],
    factors: Annotated[str, typer.Option(help="What should not matter, separated by commas.")],
    layers: Annotated[
        str, typer.Option(help="Where to measure, separated by commas; every convolution if not given.")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Also write every number to this CSV.")] = None,
) -> None:
    """How much of each factor is left in a network, layer by layer, and what use its predictions make of it."""
    from atlab.invariance import single

    wanted = [name.strip() for name in factors.split(",") if name.strip()]
    found = single.measure(
        find(model), data_set, wanted, [name.strip() for name in layers.split(",") if name.strip()] or None
    )
    typer.echo("\n\n".join(single.lines(found, factor) for factor in wanted))
    if out is not None:
        found.table.to_csv(out, index=False)


@app.command()
def explore(
    study: Annotated[
        Path | None, typer.Argument(help="Folder of a study's runs, the newest study if not given.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of 127.0.0.1.")] = 8866,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it in the browser.")] = False,
) -> None:
    """Serve the explorers on this machine only, without JupyterLab (Voila); Ctrl+C ends them."""
    from atlab.explore import serving

    raise typer.Exit(serving.serve(str(study or ""), port, browser, typer.echo))


@app.command()
def doctor() -> None:
    """Check this machine: Python, versions against the pins, device, synthesiser, browser, kernel, disk."""
    from atlab.cli.doctor import examine

    signs = {"ok": ("green", "ok  "), "note": ("yellow", "note"), "bad": ("red", "BAD ")}
    found = list(examine())
    for state, name, finding in found:
        colour, sign = signs[state]
        typer.echo(f"{typer.style(sign, fg=colour)}  {name:12} {finding}")
    if any(state == "bad" for state, _, _ in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
