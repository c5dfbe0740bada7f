"""YAML from a stranger: bounded in size and depth, without references or tags, and no value that YAML versions read differently."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

from atlab.errors import AtlabError
from atlab.system.foreign import read_text

_NULL = r"~|null|Null|NULL|"
_BOOL = r"true|True|TRUE|false|False|FALSE"
_INT = r"[-+]?(?:0|[1-9][0-9]{0,17})"
_FLOAT = r"[-+]?(?:(?:0|[1-9]\d*)\.\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|(?:0|[1-9]\d*)[eE][-+]?\d+)"
# Octal, hexadecimal, binary, base 60 (1:30 is 90 in YAML 1.1), underscores, too many digits, infinity, dates, yes and no.
_AMBIGUOUS = (
    r"[-+]?(?:0[xXoObB][\da-fA-F_]+|0\d[\d._]*(?:[eE][-+]?\d+)?|\d[\d_]*(?::\d+)+(?:\.\d*)?|\d[\d_]*_[\d_.]*|\d{19,}"
    r"|\.(?i:inf|nan))|\d{4}-\d\d?-\d\d?(?:[Tt ].*)?|(?i:yes|no|on|off)"
)


def read(path: Path, most_bytes: int, most_depth: int) -> Any:
    """What a YAML file holds: mappings with text as keys, lists, text, numbers, true, false, null.

    AtlabError, with the line, for a file that is not YAML in UTF-8, for one that is larger or nested deeper than this, and for
    anchors, aliases, tags, a key that is repeated or not text, and values such as 010, 1:30, 2026-01-01 and yes.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "a.yaml")
    >>> _ = path.write_text("seed: 0..4\\nbeta: [1e-3, null]")
    >>> read(path, 1000, 5)
    {'seed': '0..4', 'beta': [0.001, None]}
    """
    import yaml

    text = read_text(path, most_bytes)
    try:
        _check_structure(text, path, most_depth)
        loader = _loader()(text)
        loader.name = str(path)
        content = loader.get_single_data()
        json.dumps(content, ensure_ascii=False).encode()  # an escape such as \ud800 is no character
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise AtlabError(f"{path}{where} is not YAML: {getattr(error, 'problem', None) or error}") from None
    except AtlabError:
        raise
    except (ValueError, OverflowError) as error:
        raise AtlabError(f"{path} is not YAML of Unicode characters: {error}") from None
    return content


def _check_structure(text: str, path: Path, most_depth: int) -> None:
    """AtlabError for what would refer to something else or nest too deeply, found before anything is built."""
    import yaml

    depth = 0
    for event in yaml.parse(text, _base()):
        where = f"{path}, line {event.start_mark.line + 1}:"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise AtlabError(
                f"{where} anchors (&name) and aliases (*name) are not read: write the value out, or quote it"
            )
        if getattr(event, "tag", None):
            raise AtlabError(f"{where} tags ({event.tag}) are not read: write the value without one, or quote it")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > most_depth:
            raise AtlabError(f"{where} lists and mappings are nested more than {most_depth} deep")


def _base() -> type:
    """PyYAML's safe loader, the compiled one where there is one."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@functools.cache
def _loader() -> type:
    """PyYAML's safe loader with the values of YAML 1.2 that no other version reads in another way."""

    class Loader(_base()):
        yaml_implicit_resolvers: dict = {}

        def construct_mapping(self, node: Any, deep: bool = False) -> dict:
            seen: set[str] = set()
            for key, _ in node.value:
                where = f"{self.name}, line {key.start_mark.line + 1}:"
                if key.tag == "!ambiguous":
                    self.construct_object(key)
                if key.tag != "tag:yaml.org,2002:str":
                    raise AtlabError(
                        f"{where} expected text as a key, found {str(key.value)[:40]!r}; quote it if it is meant"
                    )
                if key.value in seen:
                    raise AtlabError(f"{where} the key {key.value!r} is repeated")
                seen.add(key.value)
            return super().construct_mapping(node, deep)

        def refuse(self, node: Any) -> None:
            raise AtlabError(
                f"{self.name}, line {node.start_mark.line + 1}: {node.value[:40]!r} means different things in different versions "
                "of YAML; write a decimal number, true or false, or put it in quotes"
            )

    kinds = ((_NULL, "null", [*"~nN", ""]), (_BOOL, "bool", "tTfF"), (_INT, "int", "-+0123456789"))
    for pattern, kind, first in (*kinds, (_FLOAT, "float", "-+.0123456789")):
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(rf"(?:{pattern})\Z"), list(first))
    Loader.add_implicit_resolver("!ambiguous", re.compile(rf"(?:{_AMBIGUOUS})\Z"), list("-+.0123456789yYnNoO"))
    Loader.add_constructor("!ambiguous", Loader.refuse)
    return Loader
