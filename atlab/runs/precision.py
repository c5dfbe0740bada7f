"""Planned precision: the differences that a study is made for, when it looks at them, and when it has seen enough.

precision: {half_width: 2.0, at_most: 40, look_every: 8}   # points of test accuracy; repetitions
primary:                                                   # named before the first run
  - at.conv1 - baseline
  - at.conv5 or at.conv9 - baseline                        # the pilot chooses which of them is tested

A repetition has a split and a seed of its own (0, 1, ...). The first `look_every` of them are the pilot. After every
`look_every` repetitions the study looks at its primary differences, and stops once the 95 % interval of each is at most
`half_width` to either side, or after `at_most` repetitions. Where a difference has several arms, the mean validation
accuracy of the pilot chooses one; the others are not continued, and the difference is that of the later repetitions, which
had no part in the choice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from atlab import stats
from atlab.errors import AtlabError, unknown
from atlab.runs.folder import Run, is_done, to_json
from atlab.stats import Interval
from atlab.system.files import write_atomic

KEYS = ("half_width", "at_most", "look_every")
LEAST = 8  # repetitions of a pilot: after shorter ones the intervals cover clearly less than they say (benchmarks.precision)
FILE = "plan.json"
SCORES = ("test_accuracy", "validation_accuracy")


class Contrast(NamedTuple):
    """A difference in test accuracy that is named before it is measured: one of `arms` minus `against`."""

    arms: tuple[str, ...]
    against: str

    def __str__(self) -> str:
        return f"{' or '.join(self.arms)} - {self.against}"


@dataclass(frozen=True)
class Plan:
    """How precisely the primary differences are to be known (`half_width`, in points), and when it is looked at."""

    half_width: float
    at_most: int
    look_every: int
    primary: tuple[Contrast, ...]

    def counts(self) -> list[int]:
        """The numbers of repetitions at which the study looks.

        >>> Plan(2.0, 20, 8, ()).counts()
        [8, 16, 20]
        """
        return [*range(self.look_every, self.at_most, self.look_every), self.at_most]

    def arms(self) -> list[str]:
        """The arms of the primary differences, each once."""
        return list(dict.fromkeys(arm for contrast in self.primary for arm in (*contrast.arms, contrast.against)))


class Look(NamedTuple):
    """What a look saw: the differences by contrast, their p values after Holm, the arm of each, and whether it is enough.

    Differences are fractions; one with fewer than two pairs has no interval (nan).
    """

    repetitions: int
    differences: dict[Contrast, Interval]
    p_holm: dict[Contrast, float]
    chosen: dict[Contrast, str]
    enough: bool


def numbers(precision: Any, where: str) -> dict[str, Any]:
    """The numbers of a plan, checked; AtlabError for one that is missing or not allowed.

    >>> numbers({"half_width": 2, "at_most": 16, "look_every": 2}, "the grid")
    Traceback (most recent call last):
    atlab.errors.AtlabError: the grid: look_every in `precision` is 2; allowed: repetitions, at least 8
    """
    if not isinstance(precision, Mapping):
        raise AtlabError(
            f"{where}: `precision` is {precision!r}; expected {{half_width: POINTS, at_most: REPETITIONS, look_every: REPETITIONS}}"
        )
    for key in precision:
        if key not in KEYS:
            raise unknown(f"key in `precision` of {where}", key, KEYS)
    width, most, every = (precision.get(key) for key in KEYS)
    if not _is(width, int | float) or not 0 < width <= 100:
        raise AtlabError(f"{where}: half_width in `precision` is {width!r}; allowed: points above 0, at most 100")
    for name, value, least in (("look_every", every, LEAST), ("at_most", most, every)):
        if not _is(value, int) or value < least:
            raise AtlabError(f"{where}: {name} in `precision` is {value!r}; allowed: repetitions, at least {least}")
    return {"half_width": float(width), "at_most": most, "look_every": every}


def parse(precision: Any, primary: Any, arms: Sequence[str], where: str) -> Plan:
    """The plan of a grid's `precision` and `primary`; AtlabError for what is not allowed, or no arm of the grid.

    >>> planned = {"half_width": 2, "at_most": 16, "look_every": 8}
    >>> parse(planned, ["at.conv1 or at.conv5 - baseline"], ["baseline", "at.conv1", "at.conv5"], "the grid").primary[0].arms
    ('at.conv1', 'at.conv5')
    """
    if not isinstance(primary, list) or not primary or not all(isinstance(text, str) for text in primary):
        raise AtlabError(f'{where}: precision needs `primary:`, a list of differences such as "at.conv5 - baseline"')
    return Plan(primary=tuple(_contrast(text, arms, where) for text in primary), **numbers(precision, where))


def _is(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _contrast(text: str, arms: Sequence[str], where: str) -> Contrast:
    one, minus, against = text.partition(" - ")
    if not minus:
        raise AtlabError(f'{where}: expected a primary difference such as "ARM - ARM", got {text!r}')
    found = Contrast(tuple(name.strip() for name in one.split(" or ")), against.strip())
    for name in (*found.arms, found.against):
        if name not in arms:
            raise unknown(f"arm in `primary` of {where}", name, arms)
    return found


def choose(plan: Plan, validation: Mapping[str, np.ndarray]) -> dict[Contrast, str]:
    """The arm of each difference: the one with the highest mean validation accuracy in the pilot, the first of equal ones."""
    pilot = slice(0, plan.look_every)
    return {c: max(c.arms, key=lambda arm: validation[arm][pilot].mean()) for c in plan.primary}


def dropped(plan: Plan, chosen: Mapping[Contrast, str]) -> set[str]:
    """The arms that are not continued after the pilot: those that were only there to be chosen, and were not."""
    kept = {*chosen.values(), *(contrast.against for contrast in plan.primary)}
    return {arm for arm in plan.arms() if arm not in kept}


def look(plan: Plan, repetitions: int, test: Mapping[str, np.ndarray], validation: Mapping[str, np.ndarray]) -> Look:
    """What is seen after so many repetitions: {arm: accuracies by repetition} of the test and of validation -> `Look`."""
    chosen = choose(plan, validation)
    differences, p = {}, []
    for contrast, arm in chosen.items():
        rows = slice(plan.look_every if len(contrast.arms) > 1 else 0, repetitions)
        one, other = test[arm][rows], test[contrast.against][rows]
        enough = len(one) > 1
        differences[contrast] = (
            stats.paired_difference(one, other) if enough else Interval(math.nan, math.nan, math.nan, len(one))
        )
        p.append(stats.paired_p(one, other) if enough else 1.0)
    enough = all(100 * d.half_width <= plan.half_width for d in differences.values())
    return Look(repetitions, differences, dict(zip(differences, stats.holm(p), strict=True)), chosen, enough)


def looks(plan: Plan, test: Mapping[str, np.ndarray], validation: Mapping[str, np.ndarray]) -> list[Look]:
    """The looks that the finished repetitions (the others are nan) allow, up to the first that saw enough."""
    found: list[Look] = []
    for count in plan.counts():
        if not _complete(plan, count, test, validation) or (found and found[-1].enough):
            break
        found.append(look(plan, count, test, validation))
    return found


def _complete(plan: Plan, count: int, test: Mapping, validation: Mapping) -> bool:
    if any(np.isnan([test[arm][: plan.look_every], validation[arm][: plan.look_every]]).any() for arm in plan.arms()):
        return False
    left = dropped(plan, choose(plan, validation))
    return not any(np.isnan(test[arm][:count]).any() for arm in plan.arms() if arm not in left)


def sentence(plan: Plan, seen: Look) -> str:
    """What a look means for the study.

    >>> contrast = Contrast(("at",), "baseline")
    >>> seen = Look(8, {contrast: Interval(0.01, -0.02, 0.04, 8)}, {contrast: 0.5}, {contrast: "at"}, False)
    >>> sentence(Plan(2.0, 40, 8, (contrast,)), seen)
    '8 of at most 40 repetitions: at - baseline ±3.0 points (goal: ±2); continuing'
    """
    known = ", ".join(f"{contrast} ±{100 * d.half_width:.1f} points" for contrast, d in seen.differences.items())
    then = "reached" if seen.enough else "no more are planned" if seen.repetitions == plan.at_most else "continuing"
    return f"{seen.repetitions} of at most {plan.at_most} repetitions: {known} (goal: ±{plan.half_width:g}); {then}"


def scores(folders: Mapping[str, Sequence[Path]]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Test and validation accuracy by arm of runs in the order of their repetitions; nan for those that are not done.

    AtlabError for a finished run whose result has no such numbers.
    """
    found = {arm: np.array([_accuracies(path) for path in of_arm]).T for arm, of_arm in folders.items()}
    return ({arm: values[part] for arm, values in found.items()} for part in range(2))


def _accuracies(path: Path) -> tuple[float, ...]:
    if not is_done(path):
        return (math.nan,) * len(SCORES)
    result = Run(path).result()
    if missing := [name for name in SCORES if not isinstance(result.get(name), int | float)]:
        raise AtlabError(f"precision is planned for test accuracies, but the result of {path} has no {missing[0]}")
    return tuple(float(result[name]) for name in SCORES)


def record(plan: Plan, study: Path, folders: Mapping[str, Sequence[Path]]) -> None:
    """Write the plan into the study's folder, with the ids of its runs, before the first of them begins.

    AtlabError if the study was planned otherwise: a plan must not change once its results are in sight.
    """
    stated = {"precision": {key: getattr(plan, key) for key in KEYS}, "primary": [str(c) for c in plan.primary]}
    known = _stored(study)
    if known is not None and {key: known.get(key) for key in stated} != stated:
        raise AtlabError(
            f"{study} was planned otherwise: expected {known.get('precision')} and {known.get('primary')}, found "
            f"{stated['precision']} and {stated['primary']}; give the changed study a name of its own"
        )
    runs = {arm: [folder.name for folder in folders[arm]] for arm in plan.arms()}
    write_atomic(study / FILE, to_json(stated | {"runs": runs}, "plan", indent=1) + "\n")


def recorded(study: Path) -> tuple[Plan, dict[str, list[Path]]] | None:
    """The plan of a study's folder and the run folders of its arms; None if none was made. AtlabError for a damaged one."""
    known = _stored(study)
    if known is None:
        return None
    where = str(study / FILE)
    try:
        runs = {str(arm): [study / Path(str(name)).name for name in names] for arm, names in known["runs"].items()}
        return parse(known["precision"], known["primary"], list(runs), where), runs
    except (KeyError, TypeError, AttributeError) as error:
        raise AtlabError(f"{where} is damaged: {type(error).__name__} {error}") from None


def _stored(study: Path) -> dict | None:
    try:
        known = json.loads((study / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise AtlabError(f"{study / FILE} is damaged: {error}") from None
    if not isinstance(known, dict):
        raise AtlabError(f"{study / FILE} is damaged: expected a plan, found a {type(known).__name__}")
    return known
