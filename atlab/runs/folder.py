"""Run folders: `runs/<study>/<id>/`, complete or resumable, named by what went into the run.

The id is a hash of the notebook's source, the parameters, the data and atlab's version, so the same question is never
computed twice, whichever process asks it. `done` is written last and lists the run's files: without it, or if one of
them is missing, a folder is unfinished, and the next `open_run` with the same arguments carries on in it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import atlab
from atlab.errors import AtlabError
from atlab.labels import shown
from atlab.system.files import Held, lock, sync, write_atomic
from atlab.system.foreign import read_json
from atlab.system.hashing import sha256_file
from atlab.system.home import find, in_home

if TYPE_CHECKING:
    import pandas
    from filelock import FileLock

__all__ = ["Held", "Run", "check_study", "is_done", "mark_done", "open_run", "run_id", "table", "to_json"]

_STUDY = re.compile(r"[\w.-]*\w[\w.-]*")


def to_json(value: object, name: str, indent: int | None = None) -> str:
    """JSON, canonical (sorted keys, no spaces) unless indented; NumPy values become numbers and lists, paths strings.

    AtlabError names the entry that is NaN, infinite, or of a type that JSON cannot hold.

    >>> to_json({"b": 1, "a": (0.5, None)}, "parameters")
    '{"a":[0.5,null],"b":1}'
    """
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(
        _plain(value, name), sort_keys=indent is None, ensure_ascii=False, indent=indent, separators=separators
    )


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        strange = [key for key in value if not isinstance(key, str)]
        if strange:
            raise AtlabError(f"{name} has the key {strange[0]!r}; allowed: strings")
        return {key: _plain(item, f"{name}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{name}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # NumPy and torch, without importing either
        return _plain(value.tolist(), name)
    if isinstance(value, float) and not math.isfinite(value):
        raise AtlabError(f"{name} is {value}: JSON holds finite numbers only (use None for a missing one)")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise AtlabError(f"{name} is a {type(value).__name__}; allowed: numbers, strings, None, lists and dicts of them")


def run_id(parameters: Mapping[str, Any], data_hash: str = "", source: str = "") -> str:
    """16 hexadecimal digits of the SHA-256 over source, parameters, data hash and atlab's version.

    The order of the parameters does not matter; AtlabError if they are not plain JSON.

    >>> run_id({"seed": 0, "beta": 1.0}) == run_id({"beta": 1.0, "seed": 0})
    True
    >>> run_id({"seed": 0}) == run_id({"seed": 1})
    False
    """
    identity = [source, to_json(dict(parameters), "parameters"), data_hash, atlab.__version__]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def is_done(path: str | Path) -> bool:
    """Whether everything of a run is on disk: its `done` lists files, and each is there with the listed size."""
    path = Path(path)
    try:
        listed = read_json(path / "done")["files"]
        return all((path / name).stat().st_size == entry["bytes"] for name, entry in listed.items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False


def mark_done(path: str | Path) -> None:
    """Put a run's files on the disk, then `done` with the size and SHA-256 of each; only then is its checkpoint removed.

    Every file of the folder counts but hidden ones and the training loop's checkpoint.
    """
    path = Path(path)
    names = [file.relative_to(path).as_posix() for file in sorted(path.rglob("*")) if file.is_file()]
    names = [name for name in names if not re.search(r"(^|/)\.|^checkpoint|^done$", name)]
    listed = {name: {"bytes": (path / name).stat().st_size, "sha256": sha256_file(path / name)} for name in names}
    for changed in [*(path / name for name in names), *sorted({(path / name).parent for name in names} | {path})]:
        sync(changed)
    write_atomic(path / "done", to_json({"files": listed}, "done", indent=1) + "\n")
    sync(path)
    for checkpoint in [*path.glob("checkpoint*"), *path.glob(".checkpoint*")]:
        checkpoint.unlink()


class Run:
    """One run's folder. `Run(path)` reads or fills an existing one; `open_run` makes it and holds its lock.

    `path`, `parameters`, and the places `model_path` (model.safetensors), `checkpoint_path` (a folder or file stem for
    the training loop's state), `notebook_path` (out.ipynb). AtlabError if the folder is no run folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.parameters: dict[str, Any] = dict(read_json(self.path / "params.json")["parameters"])
        except (ValueError, TypeError, KeyError) as error:
            raise AtlabError(f"{self.path} is not a run folder: its params.json cannot be read ({error})") from None
        self._lock: FileLock | None = None

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {'done' if self.done else 'unfinished'})"

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def done(self) -> bool:
        """True once everything of the run is on disk (`is_done`)."""
        return is_done(self.path)

    @property
    def model_path(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def checkpoint_path(self) -> Path:
        return self.path / "checkpoint.safetensors"

    @property
    def notebook_path(self) -> Path:
        return self.path / "out.ipynb"

    def save_result(self, result: Mapping[str, Any]) -> None:
        """Write result.json (nested dicts, lists, finite numbers, strings, None); AtlabError for anything else."""
        write_atomic(self.path / "result.json", to_json(dict(result), "result", indent=1) + "\n")

    def result(self) -> dict[str, Any]:
        """What `save_result` wrote; AtlabError if there is none."""
        if not os.path.lexists(self.path / "result.json"):
            raise AtlabError(f"{self.path} has no result.json{self._state()}")
        return read_json(self.path / "result.json")

    def save_history(self, history: pandas.DataFrame) -> None:
        """Write history.parquet, one row per epoch."""
        write_atomic(self.path / "history.parquet", history.to_parquet())

    def history(self) -> pandas.DataFrame:
        """What `save_history` wrote; AtlabError if there is none."""
        import pandas

        try:
            return pandas.read_parquet(self.path / "history.parquet")
        except FileNotFoundError:
            raise AtlabError(f"{self.path} has no history.parquet{self._state()}") from None
        except Exception as error:  # Arrow and pandas raise a dozen types for a file that is no table
            raise AtlabError(f"{self.path / 'history.parquet'} is damaged: {error}") from None

    def finish(self, result: Mapping[str, Any] | None = None) -> None:
        """Save the result, if one is given, mark the run done and let go of its lock.

        Only the process that opened the run marks it: a notebook that was handed the folder saves its result here,
        and `done` comes after the executed notebook itself.
        """
        if result is not None:
            self.save_result(result)
        if self._lock is not None:
            mark_done(self.path)
            self.close()

    def close(self) -> None:
        """Let go of the lock; the run stays as far as it came."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _state(self) -> str:
        return "" if self.done else " (the run is unfinished)"


def check_study(study: str) -> None:
    """AtlabError for a study's name that is no plain folder name."""
    if not _STUDY.fullmatch(study):
        raise AtlabError(f"study is {study!r}; allowed: letters, digits, dot, dash and underscore, not dots alone")


def open_run(
    root: str | Path,
    study: str,
    parameters: Mapping[str, Any],
    data_hash: str = "",
    source: str = "",
    wait: bool = False,
) -> Run:
    """The run of these parameters in `root/study/`: made, resumed where it was interrupted, or opened done.

    An unfinished run belongs to one process at a time, by a file lock that ends with its holder however it dies.
    While another process holds it: Held (an AtlabError), or with `wait=True` the run as that process leaves it. AtlabError also
    for a study name that is no plain folder name and parameters that are not plain JSON.

    >>> import tempfile
    >>> root = tempfile.mkdtemp()
    >>> run = open_run(root, "demo", {"seed": 0})
    >>> run.save_result({"test_accuracy": 0.75})
    >>> run.finish()
    >>> open_run(root, "demo", {"seed": 0}).result()
    {'test_accuracy': 0.75}
    """
    check_study(study)
    path = in_home(root) / study / run_id(parameters, data_hash, source)
    if is_done(path):
        return Run(path)
    taken = _locked(path, wait)
    try:
        if not is_done(path):  # left from before: what it lists is damaged
            (path / "done").unlink(missing_ok=True)
        if not (path / "params.json").exists():
            card = {
                "parameters": dict(parameters),
                "study": study,
                "data_hash": data_hash,
                "source": hashlib.sha256(source.encode()).hexdigest() if source else "",
                "atlab": atlab.__version__,
            }
            write_atomic(path / "params.json", to_json(card, "run", indent=1) + "\n")
        run = Run(path)
        for left in path.glob(".*.tmp"):  # by a process that was killed while it wrote
            left.unlink()
    except BaseException:
        taken.release()
        raise
    if run.done:  # finished by another process while this one waited
        taken.release()
    else:
        run._lock = taken
    return run


def _locked(path: Path, wait: bool) -> FileLock:
    try:
        path.mkdir(parents=True, exist_ok=True)
        return lock(path / ".lock", f"the run {path}", wait)
    except OSError as error:
        raise AtlabError(f"the run folder {path} cannot be written: {error.strerror}") from None


def table(study_folder: str | Path) -> pandas.DataFrame:
    """All finished runs of a study, one row per run: id, parameters, results, path.

    A parameter that is a list of names becomes text ("conv1, conv5"). Nested results become columns joined by dots; a result named as a parameter becomes "result.NAME". Unfinished runs
    are left out. AtlabError if the folder does not exist.

    >>> import tempfile
    >>> root = tempfile.mkdtemp()
    >>> for seed in (0, 1):
    ...     with open_run(root, "demo", {"seed": seed}) as run:
    ...         run.save_result({"test": {"accuracy": 0.5 + seed / 4}})
    ...         run.finish()
    >>> table(f"{root}/demo")[["seed", "test.accuracy"]].sort_values("seed").values.tolist()
    [[0.0, 0.5], [1.0, 0.75]]
    """
    import pandas

    folder = find(study_folder)
    if not folder.is_dir():
        raise AtlabError(f"there is no study folder {folder}")
    rows = []
    for done in sorted(folder.glob("*/done")):
        if not is_done(done.parent):
            continue
        run = Run(done.parent)
        results = _flat(run.result()) if (run.path / "result.json").exists() else {}
        parameters = {name: shown(value) for name, value in run.parameters.items() if name not in ("id", "path")}
        taken = {"id", "path", *parameters}
        results = {f"result.{name}" if name in taken else name: value for name, value in results.items()}
        rows.append({"id": run.id, **parameters, **results, "path": str(run.path)})
    names = dict.fromkeys(name for row in rows for name in row if name != "path")
    return pandas.DataFrame(rows, columns=[*(names or ["id"]), "path"])


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat
