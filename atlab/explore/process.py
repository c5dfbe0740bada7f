"""A training in a process of its own: started, watched by its checkpoints, stopped, taken up again, kept.

`python -m atlab.explore.process` trains what its first line of input says and ends when its input is closed, so
that no training outlives the notebook that started it. What it has done is in its checkpoint, and starting it again with
the same settings goes on from there with the same bits.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, NamedTuple

import pandas as pd

from atlab import runs
from atlab.data.orthogonal import content_hash
from atlab.errors import AtlabError
from atlab.experiment.settings import Settings
from atlab.experiment.skeleton import NETWORKS
from atlab.runs.progress import duration
from atlab.system.home import data_folder, home
from atlab.system.processes import end_with_input

SILENCE = 600.0  # seconds without a new file after which a run counts as abandoned
STATES = ("new", "starting", "training", "stopped", "failed", "done")


class Status(NamedTuple):
    """How far a training is: its state (one of `STATES`), what trains now, its history so far, and a sentence."""

    state: str
    role: str
    history: pd.DataFrame
    sentence: str


class Training:
    """The training of some settings into root/study/<id>/, in a process of its own; only one of each at a time."""

    _known: dict[Path, Training] = {}

    def __new__(cls, settings: Settings, root: str | Path, study: str) -> Training:
        path = run_path(settings, root, study)
        known = cls._known.get(path)
        if known is None:
            known = cls._known[path] = super().__new__(cls)
            known.settings, known.root, known.study, known.path = settings, Path(root), study, path
            known._process, known._log = None, None
        return known

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Train, or go on where it was stopped; does nothing if it runs or is done."""

        if self.running or runs.is_done(self.path):
            return
        self.settings.check_values()
        if self._log is not None:
            self._log.close()
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - read when the process has ended
        self._process = started("atlab.explore.process", self._log)
        wanted = {"settings": asdict(self.settings), "root": str(self.root.resolve()), "study": self.study}
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        """End the process; what it has done stays in its checkpoint."""
        if self.running:
            self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def wait(self, seconds: float = 600.0) -> Training:
        """Return when the process has ended; subprocess.TimeoutExpired after `seconds`."""
        if self._process is not None:
            self._process.wait(seconds)
        return self

    def status(self) -> Status:
        """Read what there is on disk; never waits for the process."""
        if runs.is_done(self.path):
            run = runs.Run(self.path)
            result = run.result()
            told = f"done: {result['epochs_run']} epochs, test accuracy {100 * result['test_accuracy']:.1f} % of {result['test_clips']} clips"
            return Status("done", self.settings.role, run.history(), told)
        settings, path = self._present()
        history = checkpoint_history(path / "checkpoint.safetensors")
        what = "" if path == self.path else f"the network it takes first ({settings.task}): "
        reached = f"{what}epoch {len(history)} of at most {settings.epochs}"
        if self.running:
            if not len(history):
                return Status("starting", settings.role, history, f"starting; {what}no epoch is done yet")
            return Status("training", settings.role, history, f"training, {what}{watched(path).sentence}")
        if self._process is not None and self._process.returncode not in (0, 1):
            return Status("failed", settings.role, history, f"the training ended: {last_words(self._log)}")
        if path.exists() and len(history):
            return Status("stopped", settings.role, history, f"stopped, {reached}; it goes on from there")
        return Status("new", settings.role, history, "not started")

    def _present(self) -> tuple[Settings, Path]:
        """What trains now: these settings, or a network they take that is not done."""
        from atlab.explore import studies

        for need in studies.required(self.settings):
            path = run_path(need, self.root, NETWORKS)
            if not runs.is_done(path):
                return need, path
        return self.settings, self.path


def started(module: str, log: IO[str]) -> subprocess.Popen:
    """A process that runs a module in the project's folder and reads from a pipe; the end of this process closes it."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module],  # -P: no module of the current folder
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        text=True,
        cwd=home(),
        env=os.environ | {"ATLAB_DATA": str(data_folder().resolve())},
        start_new_session=True,  # Ctrl-C in the notebook is not meant for it
    )


def last_words(log: IO[str]) -> str:
    """The last line that a process wrote."""
    log.seek(0)
    return next((line for line in reversed(log.read().splitlines()) if line.strip()), "without a word")


def unfinished(root: Path) -> list[Path]:
    """Folders of runs below a root that gave a sign of life in the last minutes and are not done, the latest first."""
    seen = {path.parent: _last_sign(path.parent) for path in root.glob("*/*/params.json")}
    alive = [path for path, sign in seen.items() if time.time() - sign < SILENCE and not runs.is_done(path)]
    return sorted(alive, key=lambda path: -seen[path])


def _last_sign(path: Path) -> float:
    return max((file.stat().st_mtime for file in path.glob("*")), default=0.0)


def watched(path: Path) -> Status:
    """How far a run is that any process trains, by what is in its folder; AtlabError if the folder is no run's."""
    run = runs.Run(path)
    role = str(run.parameters.get("role", "student"))
    if runs.is_done(path):
        return Status("done", role, run.history(), "done")
    history = checkpoint_history(run.checkpoint_path)
    epochs = int(run.parameters.get("epochs", 0))
    if not len(history):
        return Status("starting", role, history, "no epoch is done yet")
    left = duration(max(0, epochs - len(history)) * float(history["seconds"].median()))
    quiet = time.time() - _last_sign(path)
    sign = f"; last sign of life {duration(quiet)} ago" if quiet > 60 else ""
    return Status("training", role, history, f"epoch {len(history)} of at most {epochs}, at most {left} left{sign}")


def run_path(settings: Settings, root: str | Path, study: str) -> Path:
    """The folder that `experiment.train` fills for these settings."""
    from atlab import runs
    from atlab.explore import studies

    settings.check_values()
    fs = settings.seen(studies.open_data(settings.data))
    return Path(root) / study / runs.run_id(asdict(settings), content_hash(fs, settings.orthogonal))


def checkpoint_history(path: Path) -> pd.DataFrame:
    """The finished epochs in a training's checkpoint; no rows if there is none, or while it is being replaced."""
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return pd.DataFrame(json.loads(file.metadata()["at"])["history"])
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError):
        return pd.DataFrame()


def keep(training: Training, study: str) -> Path:
    """Copy a finished run into another study of the root: -> its folder there.

    AtlabError for an unfinished run, a name that is no study, and a run that is in that study already.
    """
    from atlab.system.files import new_folder, write_atomic

    if not runs.is_done(training.path):
        raise AtlabError("only a finished run can be kept: let the training end first")
    runs.check_study(study)
    target = training.root / study / training.path.name
    if target.exists():
        raise AtlabError(f"this run is in {study} already")
    with new_folder(target) as new:
        for file in training.path.iterdir():
            if file.is_file() and file.name not in (".lock", "done"):
                shutil.copy2(file, new / file.name)
        card = json.loads((new / "params.json").read_text()) | {"study": study}
        write_atomic(new / "params.json", runs.to_json(card, "run", indent=1) + "\n")
        runs.mark_done(new)
    return target


def main() -> None:
    """Train what the first line of standard input says; end when the input does."""
    wanted = json.loads(sys.stdin.readline())
    end_with_input()
    from atlab import experiment

    try:
        experiment.train(Settings(**wanted["settings"]), wanted["root"], wanted["study"], progress=False)
    except AtlabError as error:
        print(error, flush=True)
        os._exit(2)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        os._exit(3)
    os._exit(0)


if __name__ == "__main__":
    main()
