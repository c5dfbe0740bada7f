"""The `atlab` command: parsing, and one file per group of commands."""

import sys

from atlab.errors import AtlabError
from atlab.system.extras import check


def command() -> None:
    """What the installed script `atlab` calls: one sentence where the command's packages are not installed."""
    try:
        check(__name__)
    except AtlabError as error:
        sys.exit(f"error: {error}")
    from atlab.cli.main import app

    app()
