"""The one place where a data set's name becomes a folder: prepared, embedded or demo."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from atlab.errors import AtlabError
from atlab.system.hashing import sha256_file
from atlab.system.home import data_folder, find

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet

DEMO = "demo_speech"
DEMO_SPEECH = {"words": "zero,one,two,three,four,five", "speakers": 8, "emotions": 2, "repetitions": 5}


def _speech(out: Path) -> FactorSet:
    from atlab.data.synthetic.speech import synthetic_speech

    return synthetic_speech(out)


def _commands(out: Path) -> FactorSet:
    from atlab.data.synthetic.commands import synthetic_commands

    return synthetic_commands(out)


def _digits(out: Path) -> FactorSet:
    from atlab.data.synthetic.digits import synthetic_digits

    return synthetic_digits(out)


def _notes(out: Path) -> FactorSet:
    from atlab.data.synthetic.notes import synthetic_notes

    return synthetic_notes(out)


def _demo(out: Path) -> FactorSet:
    from atlab.data.synthetic.speech import synthetic_speech

    return synthetic_speech(out, **DEMO_SPEECH)


# What needs no raw files: each is rendered into the data folder on first use.
EMBEDDED: dict[str, Callable[[Path], FactorSet]] = {
    "synthetic_speech": _speech,
    "synthetic_commands": _commands,
    "synthetic_notes": _notes,
    "synthetic_digits": _digits,
    DEMO: _demo,
}


def data_sets() -> list[str]:
    """Names of what `load_data` opens: the prepared sets, and the embedded ones."""
    prepared = [card.parent.name for card in sorted(data_folder().glob("*/card.json")) if card.parent.name[0] != "."]
    return list(dict.fromkeys([*prepared, *EMBEDDED]))


def load_data(data: str | Path) -> FactorSet:
    """Open a data set by its folder or name; an embedded one is rendered into data/<name> on first use.

    Raises AtlabError if there is no such data set, with the ways to get one.
    """
    from atlab.data.factorset import FactorSet

    if folder := data_set_folder(data):
        return FactorSet.open(folder)
    if str(data) in EMBEDDED:
        return EMBEDDED[str(data)](data_folder() / str(data))
    raise AtlabError(
        f"no data set at {str(data)!r}: give the folder that `atlab data prepare` wrote (it holds card.json), "
        f"or one of the embedded ones: {', '.join(EMBEDDED)}"
    )


def data_set_folder(data: str | Path) -> Path | None:
    """The folder that `load_data` opens for this folder or name; None where there is no prepared set."""
    if not str(data):
        return None
    folders = find(data), data_folder() / data
    # os.path returns False, not an error, for text that cannot be a path
    return next((folder for folder in folders if os.path.isfile(folder / "card.json")), None)


def is_there(name: str) -> bool:
    """False for an embedded data set that would have to be rendered first."""
    return name not in EMBEDDED or data_set_folder(name) is not None


def has_factor(data: str, factor: str) -> bool:
    """Whether a data set has a factor by its card; False for one that is not there yet."""
    folder = data_set_folder(data)
    try:
        return folder is not None and factor in json.loads((folder / "card.json").read_text())["factors"]
    except (ValueError, TypeError, KeyError):  # `load_data` says what is wrong with the card
        return False


def content_of(text: str) -> str:
    """Hash of the content of the data set or file that a text names, "" if it names none.

    An embedded set that is not there yet is rendered: what is hashed is what `load_data` opens.
    """
    folder = data_set_folder(text)
    if folder is None and text in EMBEDDED:
        return load_data(text).content_hash
    if folder is None:
        return sha256_file(find(text)) if text and os.path.isfile(find(text)) else ""
    card = folder / "card.json"
    try:
        return str(json.loads(card.read_text())["content_hash"])
    except (ValueError, TypeError, KeyError):  # `load_data` says what is wrong with it
        return sha256_file(card)
