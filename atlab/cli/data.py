"""`atlab data`: list, show, prepare, verify."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from atlab.cli.parsing import pairs
from atlab.errors import AtlabError
from atlab.system.home import data_folder, shown

data = typer.Typer(no_args_is_help=True, help="Data sets: what there is, what is in one, raw files to a FactorSet.")


@data.command("list")
def data_list() -> None:
    """Every recipe: its licence, how to get the raw files, its size and factors, and whether it is prepared here.

    The raw files of an open corpus can be downloaded by anyone; fully crossed factors have clips of every combination.
    """
    from rich.table import Table
    from rich.text import Text

    import data_recipes

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 1, 0))
    for column in ("name", "prepared", "factors", "size", "licence", "raw files"):
        table.add_column(column, overflow="fold")
    here = _all_prepared()
    for name, recipe in data_recipes.recipes().items():
        raw_files = "\n".join([recipe.ACCESS, *data_recipes.availability(name)])
        texts = "\n".join(here.get(name, ["no"])), ", ".join(recipe.FACTORS), recipe.SIZE, recipe.LICENCE, raw_files
        table.add_row(name, *map(Text, texts))
    _console().print(table)


@data.command("show")
def data_show(
    name: Annotated[str, typer.Argument(metavar="NAME-OR-DIR", help="A recipe, or a prepared folder.")],
    cross: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="FACTOR FACTOR", help="Two factors to cross; the first two if not given."),
    ] = None,
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
    option: Annotated[list[str], typer.Option("--option", metavar="KEY=VALUE", help="Recipe option; repeatable.")] = [],  # noqa: B006
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores if not given.")] = None,
) -> None:
    """Turn raw files into a FactorSet; an existing set is opened, an interrupted one resumed."""
    import inspect

    import data_recipes

    recipe = data_recipes.get(name)
    accepted = inspect.signature(recipe.prepare).parameters
    if raw is None and _needs_raw(recipe):
        raise AtlabError(f"{name} needs its raw files: --raw DIR; to get them: {recipe.ACCESS}")
    options = _options(
        pairs(option), {key: p for key, p in accepted.items() if key not in ("raw", "out", "workers")}, name
    )
    out = out or data_folder() / name
    fs = recipe.prepare(raw, out, workers=workers, **options)
    typer.echo(f"{len(fs)} clips in {shown(out)}; summary: atlab data show {shown(out)}")


@data.command("verify")
def data_verify(
    name: Annotated[str, typer.Argument(metavar="NAME-OR-DIR", help="A prepared data set, or its folder.")],
) -> None:
    """Read all of a prepared data set and compare it with the hash in its card."""
    from atlab.data import FactorSet

    folder = Path(name) if (Path(name) / "card.json").exists() else _prepared(name)
    if folder is None:
        raise AtlabError(
            f"{name} is not a prepared data set: there is no card.json in {name} or {data_folder() / name}"
        )
    fs = FactorSet.open(folder)
    fs.verify()
    typer.echo(f"{shown(folder)}: {len(fs)} clips match the card, hash {fs.content_hash[:12]}")


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


def _needs_raw(recipe: ModuleType) -> bool:
    import inspect

    return "None" not in str(inspect.signature(recipe.prepare).parameters["raw"].annotation)


def _show_recipe(name: str) -> None:
    import data_recipes

    recipe = data_recipes.get(name)
    out = _console()
    command = f"atlab data prepare {name}{' --raw DIR' if _needs_raw(recipe) else ''}"
    out.print(f"[bold]{name}[/bold] is not prepared in {shown(data_folder())}: {command}", highlight=False)
    for title, text in (
        ("raw files", recipe.ACCESS),
        ("size", recipe.SIZE),
        ("licence", recipe.LICENCE),
        ("citation", recipe.CITATION),
        ("data", "; ".join(data_recipes.availability(name))),
    ):
        out.print(f"{title:10}{text}", highlight=False, markup=False)
    for factor, meaning in recipe.FACTORS.items():
        out.print(f"factor    {factor}: {meaning}", highlight=False, markup=False)


def _prepared(name: str) -> Path | None:
    folder = data_folder() / name
    return folder if (folder / "card.json").exists() else None


def _all_prepared() -> dict[str, list[str]]:
    """The data sets in the data folder by the recipe that wrote them, each with its number of clips."""
    import json

    found: dict[str, list[str]] = {}
    for path in sorted(data_folder().glob("*/card.json")):
        if not path.parent.name.startswith("."):  # a set that is being written
            try:
                card = json.loads(path.read_text())
                recipe, clips = card["recipe"], f" ({card['clips']:,} clips)"
            except (OSError, ValueError, TypeError, KeyError):  # another program's file, or a corrupt one
                recipe, clips = path.parent.name, ""
            found.setdefault(recipe, []).append(f"{shown(path.parent)}{clips}")
    return found


def _console() -> Any:
    from rich.console import Console

    # Without a terminal a table must not be cut to 80 columns.
    return Console(width=None if sys.stdout.isatty() else 160)
