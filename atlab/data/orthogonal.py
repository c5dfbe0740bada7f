"""An orthogonal task as text: a factor of the student's data set, one of another data set, or a model file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from atlab.data.catalog import load_data
from atlab.data.parts import clean_hash
from atlab.errors import AtlabError
from atlab.system.hashing import sha256_file
from atlab.system.home import find

if TYPE_CHECKING:
    from atlab.data.factorset import FactorSet


class OrthogonalTask(NamedTuple):
    """Where an orthogonal network comes from: a factor, the data set it belongs to ("" for the student's), or a model file."""

    factor: str
    data: str = ""
    file: str = ""

    @classmethod
    def parse(cls, text: str) -> OrthogonalTask:
        """Read `speaker`, `emotion@ravdess_1s` or `file:PATH`; AtlabError for anything else.

        >>> OrthogonalTask.parse("speaker")
        OrthogonalTask(factor='speaker', data='', file='')
        >>> OrthogonalTask.parse("emotion@ravdess_1s").data, OrthogonalTask.parse("file:runs/a/model.safetensors").file
        ('ravdess_1s', 'runs/a/model.safetensors')
        """
        if text.startswith("file:"):
            task = cls("", file=text.removeprefix("file:"))
            if task.file:
                return task
        else:
            factor, at, data = text.partition("@")
            if factor and bool(at) == bool(data):
                return cls(factor, data)
        raise AtlabError(f"expected an orthogonal task as FACTOR, FACTOR@DATA or file:PATH, got {text!r}")

    def model_path(self) -> Path:
        """The model file; AtlabError if it is not there."""
        path = find(self.file)
        if not path.is_file():
            raise AtlabError(f"the orthogonal network {self.file!r} is not there: expected a model file (.safetensors)")
        return path


def form(fs: FactorSet) -> dict[str, object]:
    """What two data sets must share for one network to see both: kind, sample rate, shape of an item."""
    return {"kind": fs.kind, "sample_rate": fs.sample_rate, "shape": list(fs.read([0]).shape[1:])}


def check_forms(texts: Iterable[str], fs: FactorSet) -> None:
    """AtlabError where an orthogonal network was, or would be, trained on items of another form than those of `fs`.

    Also for a task of another data set that turns out to be this one: its network would see the student's test clips.
    """
    for text in texts:
        task = OrthogonalTask.parse(text)
        if task.data:
            other = load_data(task.data)
            if other.content_hash == clean_hash(fs):
                raise AtlabError(
                    f"the orthogonal task {text!r} names the target's own data set: write {task.factor!r}, so that its network "
                    "never sees the clips that test the target"
                )
            _require_same(text, form(other), fs)
        elif task.file:
            from atlab import models

            seen = models.load(task.model_path()).card.get("input")
            if isinstance(seen, dict):  # files of atlab 0.1 do not say
                _require_same(text, seen, fs)


def content_of(texts: Iterable[str]) -> list[str]:
    """The content hash of every other data set and model file that orthogonal tasks name."""
    tasks = [OrthogonalTask.parse(text) for text in texts if "@" in text or text.startswith("file:")]
    return [sha256_file(task.model_path()) if task.file else load_data(task.data).content_hash for task in tasks]


def content_hash(fs: FactorSet, texts: Iterable[str]) -> str:
    """The identity of a run's data: the data set's hash, joined with those of what its orthogonal tasks name."""
    others = content_of(texts)
    return hashlib.sha256(json.dumps([fs.content_hash, *others]).encode()).hexdigest() if others else fs.content_hash


def _require_same(text: str, found: dict, fs: FactorSet) -> None:
    wanted = form(fs)
    for name, meaning in (("kind", "kind"), ("sample_rate", "sample rate"), ("shape", "shape of an item")):
        if found.get(name) != wanted[name]:
            raise AtlabError(
                f"the orthogonal task {text!r} has another {meaning} than the target's data: {found.get(name)} instead of "
                f"{wanted[name]}; prepare both alike (same rate, same length)"
            )
