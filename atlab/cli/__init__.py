"""The `atlab` command: parsing, and one file per group of commands."""

import os
import sys

from atlab.errors import AtlabError
from atlab.system.extras import check


def command() -> None:
    """Entry point of the script `atlab`; one sentence where the command's packages are not installed."""
    _open_streams()
    try:
        check(__name__)
    except AtlabError as error:
        sys.exit(f"error: {error}")
    from atlab.cli.main import app

    try:
        app()
    except OSError as error:  # while printing before a command begins
        sys.exit(f"error: {error.strerror}")


def _open_streams() -> None:
    """Output always has somewhere to go, and characters that its encoding lacks are shown as question marks."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - open as long as the process
        else:
            getattr(sys, name).reconfigure(errors="replace")
