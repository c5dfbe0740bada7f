"""How often planned studies decide, where nothing is true and where something is: `atlab.runs.precision` on made-up scores.

    python -m benchmarks.precision [--studies 400]

A study has a difference to be measured and one whose arm the pilot chooses among three; pilot, looks, choice and Holm are the
package's own. An arm's scores are the split's difficulty, the arm's effect and noise, half of which validation shares.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from atlab.runs import precision

ARMS = ("baseline", "at.conv1", "at.conv5", "at.conv9", "reversal")
CHOSEN = precision.Contrast(ARMS[1:4], "baseline")
NAMED = precision.Contrast(("reversal",), "baseline")
PLAN = precision.Plan(half_width=2.0, at_most=96, look_every=8, primary=(NAMED, CHOSEN))
EFFECTS = {
    "no effect": {},
    "all arms +3": dict.fromkeys(ARMS[1:], 3.0),
    "one arm -3": {"reversal": -3.0},
    "one candidate +3": {"at.conv5": 3.0},
}
SPREADS = (2.0, 3.0, 4.0, 6.0, 8.0)  # standard deviation of a pair, points


class Row(NamedTuple):
    """Shares of studies: any difference said to hold, that of the named and of the chosen arm; intervals that cover the truth."""

    case: str
    spread: float
    repetitions: float
    any_holds: float
    named_holds: float
    chosen_holds: float
    covered: float


def scores(
    effects: Mapping[str, float], spread: float, repetitions: int, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Test and validation accuracy of every arm [repetitions]; effects and the spread of a pair in points."""
    difficulty, part = rng.normal(0, 0.08, repetitions), spread / 200
    test, validation = {}, {}
    for arm in ARMS:
        shared = 0.7 + difficulty + effects.get(arm, 0.0) / 100 + rng.normal(0, part, repetitions)
        test[arm], validation[arm] = (shared + rng.normal(0, part, repetitions) for _ in range(2))
    return test, validation


def simulate(case: str, spread: float, studies: int, plan: precision.Plan = PLAN, seed: int = 0) -> Row:
    """Run the whole procedure on so many studies."""
    rng, effects = np.random.default_rng(seed), EFFECTS[case]
    holds, covered, repetitions = [], [], []
    for _ in range(studies):
        seen = precision.looks(plan, *scores(effects, spread, plan.at_most, rng))[-1]
        holds.append([seen.p_holm[c] < 0.05 and seen.differences[c].mean > 0 for c in plan.primary])
        for contrast, found in seen.differences.items():
            truth = effects.get(seen.chosen[contrast], 0.0) / 100
            covered.append(found.low <= truth <= found.high)
        repetitions.append(seen.repetitions)
    named, chosen = np.mean(holds, axis=0)
    any_holds = np.mean(np.any(holds, axis=1))
    return Row(case, spread, *map(float, (np.mean(repetitions), any_holds, named, chosen, np.mean(covered))))


def more_baselines(arms: int) -> tuple[int, float]:
    """The number of baselines per repetition that costs least for one precision, and the share of runs that it saves.

    With m baselines the variance of a difference is 1 + 1 / m times that of a run, and a repetition takes arms + m runs; the
    optimum is near sqrt(arms).
    """
    cost = {m: (1 + 1 / m) * (arms + m) for m in range(1, arms + 1)}
    best = min(cost, key=cost.get)
    return best, 1 - cost[best] / cost[1]


def main(arguments: list[str] | None = None) -> list[Row]:
    """Simulate and print: -> the rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("--studies", type=int, default=400)
    studies = parser.parse_args(arguments).studies
    print(
        f"{studies} studies a row; ±{PLAN.half_width:g} points, looks every {PLAN.look_every} repetitions, at most {PLAN.at_most}"
    )
    print(
        f"{'case':18} {'sd of a pair':>12} {'repetitions':>12} {'any holds':>10} {'named':>7} {'chosen':>7} {'covered':>8}"
    )
    rows = []
    for case in EFFECTS:
        for spread in SPREADS:
            row = simulate(case, spread, studies)
            rows.append(row)
            shares = f"{row.any_holds:10.3f} {row.named_holds:7.3f} {row.chosen_holds:7.3f} {row.covered:8.3f}"
            print(f"{case:18} {spread:12g} {row.repetitions:12.1f} {shares}")
    for arms in (1, 2, 4, 8):
        best, saved = more_baselines(arms)
        print(f"{arms} arms: {best} baselines per repetition take {100 * saved:.0f} % fewer runs than one")
    return rows


if __name__ == "__main__":
    main()
