"""How the command line reads its words and shows its errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from atlab.errors import AtlabError


class Group(TyperGroup):
    """Shows an AtlabError as one red line (and what follows it, dim) with exit code 2 instead of a traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for word in args:
            if any("\ud800" <= letter <= "\udfff" for letter in word):  # a byte that could not be decoded
                raise typer.BadParameter(f"expected text in {sys.getfilesystemencoding()}, got {word!r}")
        return super().parse_args(ctx, args)

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
        except BrokenPipeError:
            raise  # the reader closed the output: the command ends silently
        except OSError as error:
            if os.environ.get("ATLAB_DEBUG") == "1":
                raise
            where = f": {error.filename}" if error.filename else ""
            typer.secho(f"error: {error.strerror or error}{where}", fg="red", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.secho("interrupted; the same command carries on", fg="yellow", err=True)
            raise typer.Exit(130) from None


class TakesPairs(TyperCommand):
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


def pairs(texts: Iterable[str]) -> dict[str, str]:
    """NAME=VALUE texts as a dict; AtlabError for a text without a name and a value, and for a name given twice."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise AtlabError(f"{text!r} is not a name with a value; allowed: NAME=VALUE")
        if name in pairs:
            raise AtlabError(f"{name!r} is given twice: {pairs[name]!r} and {value!r}")
        pairs[name] = value
    return pairs
