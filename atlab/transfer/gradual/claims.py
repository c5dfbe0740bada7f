"""What Fayek et al. 2018 conclude from figures 1 and 2, each decided by its interval over repetitions."""

from __future__ import annotations

from itertools import combinations

import pandas as pd

from atlab import stats
from atlab.analysis.claims import claim
from atlab.labels import plain
from atlab.stats import Interval
from atlab.transfer.gradual.reading import PREFIX, TASKS, held_stages

# Rises of the error that differ by less than this are called alike: 5 points. The paper gives no measure of "similar".
ALIKE = 0.05
# Held layers of models A and B at the same depth: none, all convolutions, all hidden layers.
DEPTHS = {"a": (0, 2, 5), "b": (0, 10, 12)}


def of_speech(table: pd.DataFrame) -> list[str]:
    """Figure 2: the last hidden layers transfer worse than the first; models A and B behave alike (bullets, Markdown)."""
    lines = []
    for task in sorted(set(table["task"])):
        models = sorted(set(table.loc[table["task"] == task, "model"]))
        rises = {model: _rises(table, task, model) for model in models}
        for model, rise in rises.items():
            lines.append(
                claim(
                    f"{TASKS.get(task, task).capitalize()}, model {model.upper()}: holding all hidden layers costs more than holding none",
                    stats.paired_difference(rise[rise.columns.max()], rise[rise.columns.min()]),
                )
            )
        if all(model in rises and {*DEPTHS[model]} <= {*rises[model]} for model in DEPTHS):
            same = [rises[model][list(DEPTHS[model])].mean(axis=1) for model in DEPTHS]
            lines.append(
                _alike(
                    f"{TASKS.get(task, task).capitalize()}: models A and B are alike (rise of the error, mean over no layer, all "
                    "convolutions and all hidden layers held)",
                    stats.paired_difference(*same),
                )
            )
    return lines


def of_images(table: pd.DataFrame) -> list[str]:
    """Figure 1: which source serves a task better, and which direction between two tasks (bullets, Markdown).

    `table` as `reading.of_images` gives it. Rises of the error in points, mean over all numbers of held blocks above none,
    paired by seed; the tasks' own errors differ, and so does what a point means.
    """
    pairs = set(zip(table["task"], table["model"], strict=True))
    rise = {pair: _held_mean(_rises(table, *pair)) for pair in pairs}
    lines = []
    for task in sorted({task for task, _ in pairs}):
        for first, second in combinations(sorted(source for of, source in pairs if of == task), 2):
            difference = stats.paired_difference(rise[task, second], rise[task, first])
            lines.append(claim(f"{task}: blocks of {first} cost less than blocks of {second}", difference))
    for first, second in combinations(sorted({task for task, _ in pairs}), 2):
        if {(first, second), (second, first)} <= pairs:
            difference = stats.paired_difference(rise[first, second], rise[second, first])
            lines.append(
                claim(f"Blocks of {first} cost {second} less than blocks of {second} cost {first}", difference)
            )
    return lines


def _rises(table: pd.DataFrame, task: str, model: str) -> pd.DataFrame:
    """Error less that of the task alone: a row for each repetition, a column for each number of held stages."""
    runs = table[(table["task"] == task) & (table["model"] == model) & (table["base"] == "trained")]
    runs = runs.set_index([name for name in ("seed", "fold") if name in runs]).sort_index()
    errors = runs[[name for name in runs if name.startswith(PREFIX)]].dropna(axis=1)
    return errors.rename(columns=held_stages).sub(runs["primary_error"], axis=0).sort_index(axis=1)


def _held_mean(rises: pd.DataFrame) -> pd.Series:
    return rises.drop(columns=0).mean(axis=1)


def _alike(sentence: str, difference: Interval) -> str:
    """A claim that a difference is smaller than `ALIKE` in size, and whether its interval says so."""
    if difference.low > -ALIKE and difference.high < ALIKE:
        verdict = "holds here"
    else:
        apart = difference.low > ALIKE or difference.high < -ALIKE
        verdict = "does not hold here" if apart else "not decided here"
    return (
        f"- {plain(sentence)}: **{verdict}** ({difference.percent()}, {difference.n} seeds; alike is a difference below "
        f"{100 * ALIKE:.0f} points)"
    )
