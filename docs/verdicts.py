"""What the studies say: the table in docs/results.md and its figure, from the CSV files that `atlab report` writes.

    python docs/verdicts.py

A study that planned its precision shows its primary differences, another one the differences of its anti-transfer arms to the baseline.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
PAGE, TABLES, FIGURE = HERE / "results.md", HERE / "results", HERE / "results/verdicts.png"
BEGIN, END = "<!-- from docs/verdicts.py: -->\n", "<!-- end -->\n"
SHOWN = r"(?:inverse |dual )?AT\b"  # arms of studies without a plan


def differences() -> pd.DataFrame:
    """One row per shown difference of every table: study, condition, arm, n, difference, d_low, d_high, p_holm."""
    return pd.concat([_of(path) for path in sorted(TABLES.glob("*.csv"))], ignore_index=True)


def _of(path: Path) -> pd.DataFrame:
    found = pd.read_csv(path, keep_default_na=False, na_values=[""]).fillna({"condition": ""})
    primary = found["primary"].astype(bool)
    chosen = found[primary if primary.any() else found["arm"].str.match(SHOWN) & found["mean"].notna()]
    names = {"mean": "difference", "low": "d_low", "high": "d_high"}
    return chosen.rename(columns=names).assign(study=path.stem)


def verdict(row: pd.Series) -> str:
    """In a word, after Holm's correction over the arms of a condition."""
    if not row["p_holm"] < 0.05:
        return "not decided"
    return "**higher**" if row["difference"] > 0 else "**lower**"


def table(rows: pd.DataFrame) -> str:
    """The differences as Markdown."""
    lines = ["| study | difference in test accuracy, points | repetitions | verdict |", "|---|---|---|---|"]
    for _, row in rows.iterrows():
        name = f"[{row['study']}](results/{row['study']}.csv)" + (f", {row['condition']}" if row["condition"] else "")
        values = f"{100 * row['difference']:+.1f} [{100 * row['d_low']:+.1f}, {100 * row['d_high']:+.1f}]"
        lines.append(f"| {name} | {row['arm']}: {values} | {row['n']:.0f} | {verdict(row)} |")
    return "\n".join(lines) + "\n"


def with_table(page: str, rows: pd.DataFrame) -> str:
    """The page with the present table between its marks."""
    return re.sub(f"(?<={re.escape(BEGIN)}).*?(?={re.escape(END)})", lambda _: table(rows), page, flags=re.DOTALL)


def main() -> None:
    """Write both."""
    from atlab import plots

    rows = differences()
    PAGE.write_text(with_table(PAGE.read_text(), rows))
    arms = rows.assign(arm=(rows["study"] + " " + rows["condition"]).str.strip().str.replace("_", " ") + ": " + rows["arm"])
    plots.improvement_by_arm(arms, title="What anti-transfer changes").write_image(FIGURE, scale=2)


if __name__ == "__main__":
    main()
