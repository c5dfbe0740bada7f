"""What the studies say: the tables in docs/results.md and their figure, from the CSV files that `atlab report` writes.

    python docs/verdicts.py

A study that planned its precision shows its primary differences, another one the difference of each arm to the baseline.
STUDY_invariance.csv is the differences.csv of notebooks/experiments/study_invariance.ipynb: the same in other measures.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special

from atlab import labels, plots
from atlab.invariance import repeated

HERE = Path(__file__).parent
PAGE, TABLES, FIGURE = HERE / "results.md", HERE / "results", HERE / "results/verdicts.png"
INVARIANCE = "_invariance.csv"
MARKS = r"(<!-- results/(\w+)\.csv, by docs/verdicts\.py -->\n).*?(<!-- end -->)"
HOLDS = 0.05  # p value after Holm's correction
NAMES = {  # of arms in grids, for readers
    "at.orthogonal.predictions.clip_kernel.cka.conv13.3.0": "CKA of predictions on orthogonal clips",
    "gradient_reversal.orthogonal.conv13": "adversary on orthogonal clips",
    "second_stream.orthogonal": "control",
    "gradient_reversal.conv13": "adversary on target clips",
}
SHOWN = {  # in the figure: studies that planned their precision, and what they are about
    "study_confounded_arabic": "Arabic digits, short cut",
    "study_adversary_arabic": "Arabic words, short cut",
    "study_confounded": "synthetic words, short cut",
    "study_rivals": "synthetic words, short cut",
    "study_unseen_speakers": "synthetic words, unseen speakers",
    "study_goodness": "synthetic notes, unseen instruments",
}
GOAL = 0.02  # half the width of an interval that says enough


def differences() -> pd.DataFrame:
    """One row per difference: study, condition, arm, n, difference, d_low, d_high, p_holm (fractions)."""
    paths = [path for path in sorted(TABLES.glob("*.csv")) if not path.name.endswith(INVARIANCE)]
    return pd.concat([_of(path) for path in paths], ignore_index=True)


def _of(path: Path) -> pd.DataFrame:
    found = pd.read_csv(path, dtype={"condition": "str"}).fillna({"condition": ""})
    chosen = found[found["primary"]] if found["primary"].any() else found.dropna(subset="mean")
    names = {"mean": "difference", "low": "d_low", "high": "d_high"}
    return chosen.rename(columns=names).assign(study=path.stem, arm=chosen["arm"].map(readable))


def readable(arm: str) -> str:
    """The name of an arm or a difference for readers."""
    for name, said in NAMES.items():
        arm = arm.replace(name, said)
    arm = re.sub(r"\w+", lambda word: labels.NAMES.get(word[0], word[0]), arm)
    return arm.replace("AT.", "AT ").replace("data/", "")


def verdict(row: pd.Series) -> str:
    """In a word, and how many repetitions would do where the interval is too wide."""
    if not row["p_holm"] < HOLDS:
        count = repetitions(row)
        return "not decided" + (f" ({count})" if count > row["n"] else "")
    return "**above**" if row["difference"] > 0 else "**below**"


def repetitions(row: pd.Series) -> int:
    """The least number with which a t interval of the same spread is at most `GOAL` to either side; 0 without an interval."""
    deviation = (row["d_high"] - row["d_low"]) / 2 * np.sqrt(row["n"]) / special.stdtrit(row["n"] - 1, 0.975)
    counts = np.arange(2, 10_000)  # enough for any spread of accuracies
    enough = counts[special.stdtrit(counts - 1, 0.975) * deviation / np.sqrt(counts) <= GOAL]
    return int(enough[0]) if len(enough) else 0


def table(study: str, rows: pd.DataFrame) -> str:
    """A study's differences as Markdown: one row per arm, one column per condition."""
    conditions = list(dict.fromkeys(rows["condition"]))[::-1]
    lines = [
        f"| [{study}](results/{study}.csv) | " + " | ".join(c or "points" for c in conditions) + " |",
        "|---" * (1 + len(conditions)) + "|",
    ]
    for arm, of_arm in rows.groupby("arm", sort=False):
        cells = of_arm.set_index("condition").reindex(conditions)
        shown = ["" if pd.isna(r["difference"]) else f"{_interval(r)} {verdict(r)}" for _, r in cells.iterrows()]
        lines.append(f"| {arm} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def measures(path: Path) -> str:
    """A study's differences in other measures as Markdown: one row per measure, one column per difference."""
    cells = repeated.shown(pd.read_csv(path, keep_default_na=False))
    lines = [f"| [{path.stem}](results/{path.name}) | " + " | ".join(map(readable, cells)) + " |"]
    lines.append("|---" * (1 + cells.shape[1]) + "|")
    for measure, row in cells.iterrows():
        lines.append(f"| {measure} | " + " | ".join(re.sub(r"(.*) \*$", r"**\1**", cell) for cell in row) + " |")
    return "\n".join(lines) + "\n"


def _interval(row: pd.Series) -> str:
    return f"{100 * row['difference']:+.1f} [{100 * row['d_low']:+.1f}, {100 * row['d_high']:+.1f}]"


def with_tables(page: str, rows: pd.DataFrame) -> str:
    """The page with the present tables between their marks."""
    tables = {study: table(study, part) for study, part in rows.groupby("study")}
    tables |= {path.stem: measures(path) for path in TABLES.glob(f"*{INVARIANCE}")}
    return re.sub(MARKS, lambda found: f"{found[1]}{tables[found[2]]}{found[3]}", page, flags=re.DOTALL)


def figure(rows: pd.DataFrame):
    """The primary differences of the planned studies, one row each."""
    rows = pd.concat([rows[rows["study"] == study] for study in SHOWN])
    named = rows.assign(arm=rows["study"].map(SHOWN) + ": " + rows["arm"])
    drawn = plots.improvement_by_arm(named, title="What was found, difference by difference")
    return drawn.update_xaxes(title_text="difference in test accuracy (points; 95 % t intervals)")


def main() -> None:
    """Write both."""
    rows = differences()
    PAGE.write_text(with_tables(PAGE.read_text(), rows))
    figure(rows).write_image(FIGURE, scale=1.5)


if __name__ == "__main__":
    main()
