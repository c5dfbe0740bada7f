"""Tables and a reading of gradual transfer, from the runs of both studies."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from atlab import stats
from atlab.data.orthogonal import OrthogonalTask
from atlab.errors import AtlabError

ARM = ["task", "model", "base"]
TASKS = {"phone": "phones", "emotion": "emotions"}
PREFIX = "errors."


def by_level(table: pd.DataFrame) -> pd.DataFrame:
    """One row per task, model, base and number of held layers, from `runs.table` of transfer runs.

    Runs between images have the data set as their task and the source as their model (see `of_images`).
    Columns: task, model, base, held (number), error with its 95 % t interval over repetitions (low, high), primary (mean
    error of the networks trained on the task alone), drop (error minus primary, paired by repetition) with its
    interval (d_low, d_high), repetitions. An error is at least 0; phone error rates may exceed 1. AtlabError for a single repetition, which has no interval.
    """
    rows = []
    for arm, part in table.groupby(ARM, sort=True):
        for column in (name for name in part.columns if name.startswith(PREFIX)):
            known = part.dropna(subset=column)
            if not len(known):
                continue
            error = stats.mean_interval(known[column], ends=(0, float("inf")))
            drop = stats.paired_difference(known[column], known["primary_error"])
            rows.append(
                {
                    **dict(zip(ARM, arm, strict=True)),
                    "held": held_stages(column),
                    "error": error.mean,
                    "low": error.low,
                    "high": error.high,
                    "primary": known["primary_error"].mean(),
                    "drop": drop.mean,
                    "d_low": drop.low,
                    "d_high": drop.high,
                    "repetitions": error.n,
                }
            )
    if not rows:
        raise AtlabError("no finished transfer among the runs")
    return pd.DataFrame(rows).sort_values([*ARM, "held"], ignore_index=True)


def of_images(table: pd.DataFrame) -> pd.DataFrame:
    """Runs between images with columns task and model: what is learned, and what it is learned from.

    >>> runs = pd.DataFrame({"data": ["data/cifar10", "digits"], "target": ["class", "digit"], "source": ["class@data/svhn", "ink"]})
    >>> of_images(runs)[["task", "model"]].values.tolist()
    [['class of cifar10', 'class of svhn'], ['digit of digits', 'ink of digits']]
    """

    def source(text: str, own: str) -> str:
        factor, data, file = OrthogonalTask.parse(text)
        return Path(file).name if file else f"{factor} of {Path(data or own).name}"

    tasks = [f"{factor} of {Path(data).name}" for factor, data in zip(table["target"], table["data"], strict=True)]
    models = [source(text, data) for text, data in zip(table["source"], table["data"], strict=True)]
    return table.assign(task=tasks, model=models)


def against_random(table: pd.DataFrame) -> pd.DataFrame:
    """Error with copied layers minus error with layers of random weights held, paired by repetition: one row per level.

    Columns: task, model, held, difference, low, high, repetitions. Empty where the study has no random base.
    """
    rows = []
    for (task, model), part in table.groupby(["task", "model"], sort=True):
        unit = [name for name in ("seed", "fold") if name in part]
        bases = {base: runs.set_index(unit).sort_index() for base, runs in part.groupby("base")}
        if {"trained", "random"} - bases.keys():
            continue
        trained, random = bases["trained"], bases["random"]
        both = trained.index.intersection(random.index)
        for column in (name for name in part.columns if name.startswith(PREFIX) and part[name].notna().any()):
            if random[column].notna().all() and trained[column].notna().all():
                found = stats.paired_difference(trained.loc[both, column], random.loc[both, column])
                rows.append(
                    {
                        "task": task,
                        "model": model,
                        "held": held_stages(column),
                        "difference": found.mean,
                        "low": found.low,
                        "high": found.high,
                        "repetitions": found.n,
                    }
                )
    columns = ["task", "model", "held", "difference", "low", "high", "repetitions"]
    return pd.DataFrame(rows, columns=columns).sort_values(columns[:3], ignore_index=True)


def reading(levels: pd.DataFrame, random: pd.DataFrame) -> str:
    """What the intervals decide, in sentences (Markdown): how deep layers can be held, what it costs, in which direction more."""
    lines = []
    trained = levels[levels["base"] == "trained"]
    for (task, model), part in trained.groupby(["task", "model"], sort=True):
        worse = part[part["d_low"] > 0]
        name = f"**{_task(task).capitalize()}, {'model ' + model.upper() if model in ('a', 'b') else 'from ' + model}**"
        last = part.iloc[-1]
        start = f"{name}: alone {100 * last['primary']:.1f} %."
        if len(worse):
            first = int(worse["held"].min())
            lines.append(f"{start} A rise of the error is shown from {first} held layers on")
        else:
            lines.append(f"{start} No number of held layers shows a rise of the error")
        lines[-1] += (
            f"; with all {int(last['held'])} held it differs by {100 * last['drop']:+.1f} points "
            f"[{100 * last['d_low']:+.1f}, {100 * last['d_high']:+.1f}] ({int(last['repetitions'])} repetitions)."
        )
        own = random[(random["task"] == task) & (random["model"] == model)]
        if len(own):
            lines[-1] += f" Against random layers in their place, copied ones are {_verdicts(own)}."
    deep = trained.sort_values("held").groupby(["task", "model"]).tail(1)
    relative = (deep["drop"] / deep["primary"].clip(lower=1e-9)).groupby(deep["task"]).mean()
    if set(relative.index) == set(TASKS):
        lines.append(
            f"With all hidden layers held, the error of emotions rises by {relative['emotion']:.2f} of what it is alone, that of phones by "
            f"{relative['phone']:.2f} (means over models): the two error rates are of different kinds, and no interval is given for this ratio."
        )
    return "\n".join(f"- {line}" for line in lines)


def _verdicts(own: pd.DataFrame) -> str:
    """What the intervals of `against_random` decide, as "better with 3, 4 held, undecided with 0, 1, 2 held"."""
    better, worse = own["high"] < 0, own["low"] > 0
    parts = {"better": own[better], "worse": own[worse], "undecided": own[~(better | worse)]}
    return ", ".join(
        f"{word} with {', '.join(map(str, part['held']))} held" for word, part in parts.items() if len(part)
    )


def _task(task: str) -> str:
    return TASKS.get(task, task)


def held_stages(column: str) -> int:
    """Held stages of a result's name: 0, "layer 5", "blocks 2-3" (three)."""
    return int(re.findall(r"\d+", column)[-1])
