"""The parts of a split: which clips train, validate and test, stored by clip id and checked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from atlab.errors import AtlabError
from atlab.system.files import write_atomic

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Sorted row numbers of the three parts, int64, and how they were made; `spare` are test clips that `cut` left out."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    how: dict = field(default_factory=dict)
    spare: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def whole_test(self) -> np.ndarray:
        """The test part as it was before it was cut, int64."""
        return np.sort(np.concatenate([self.test, self.spare]))

    def save(self, path: str | Path, fs) -> Path:
        """Write the parts by clip id, with the content hash of the data set (of the clean one, where `fs` adds noise)."""
        ids = fs.factors["id"].to_numpy()
        parts = {part: ids[getattr(self, part)].tolist() for part in (*PARTS, "spare")}
        return write_atomic(path, json.dumps({"data": clean_hash(fs), "how": self.how, **parts}) + "\n")

    @classmethod
    def load(cls, path: str | Path, fs) -> Split:
        """Read a stored split; AtlabError if there is none at `path` or it was made for other data."""
        try:
            stored = json.loads(Path(path).read_text())
        except (OSError, ValueError) as error:
            raise AtlabError(f"{path} is not a stored split: {error}") from None
        kinds = {"data": str, "how": dict, **dict.fromkeys((*PARTS, "spare"), list)}
        missing = [k for k in kinds if not (isinstance(stored, dict) and isinstance(stored.get(k), kinds[k]))]
        if missing:
            raise AtlabError(f"{path} is not a stored split: it lacks {missing}")
        if stored["data"] != clean_hash(fs):
            raise AtlabError(
                f"{path} splits another data set (content hash {stored['data'][:12]}, this one has "
                f"{clean_hash(fs)[:12]})"
            )
        row = {clip: number for number, clip in enumerate(fs.factors["id"])}
        if strange := [clip for part in (*PARTS, "spare") for clip in stored[part] if clip not in row]:
            raise AtlabError(f"{path} names clips that the data set does not have: {strange[:5]}")
        rows = {
            part: np.array(sorted(row[clip] for clip in stored[part]), dtype=np.int64) for part in (*PARTS, "spare")
        }
        return cls(how=stored["how"], **rows)

    def check(self, fs, target: str) -> None:
        """AtlabError unless a classifier of `target` can be trained and judged on the parts.

        It refuses an empty part, a source with clips in two parts, a training part of one class, and a class
        that training never saw.
        """
        for part in PARTS:
            if not len(getattr(self, part)):
                raise AtlabError(f"the {part} part of the split is empty ({len(fs)} clips, {self.how})")
        sources = [set(column(fs, "source")[getattr(self, part)].tolist()) for part in PARTS]
        for one, other in ((0, 1), (0, 2), (1, 2)):
            if shared := sources[one] & sources[other]:
                raise AtlabError(
                    f"{len(shared)} sources have clips in the {PARTS[one]} and in the {PARTS[other]} part: "
                    f"{sorted(shared)[:3]}; "
                    "scores would be too good"
                )
        seen = set(fs.labels(target, self.train).tolist())
        if len(seen) < 2:
            raise AtlabError(
                f"the training part has a single class of {target!r}: {next(iter(seen))!r}; a classifier needs two"
            )
        for part in PARTS[1:]:
            strange = sorted(set(fs.labels(target, getattr(self, part)).tolist()) - seen, key=str)
            if strange:
                raise AtlabError(
                    f"the {part} part has classes of {target!r} that training never saw: {strange[:8]}; "
                    "a split that is disjoint in a factor cannot have that factor as its target"
                )


def clean_hash(fs) -> str:
    """The hash without noise: a split belongs to the clips, whatever noise is added to them."""
    noise = fs.card.get("noise")
    return noise["of"] if isinstance(noise, dict) and "of" in noise else fs.content_hash


def column(fs, name: str) -> np.ndarray:
    """Values of a factor, or of another column that groups clips."""
    return fs.factors[name].to_numpy() if name in fs.factors.columns else fs.labels(name)
