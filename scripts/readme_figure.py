"""Draw docs/quickstart.png from the runs of the demo: make demo && .venv/bin/python scripts/readme_figure.py"""

from pathlib import Path

from atlab import plots, runs

table = runs.table("runs/quickstart").query("role == 'student'").sort_values(["strategy", "seed"])
order = {"baseline": 0, "wi": 1, "at": 2}
table = table.sort_values("strategy", key=lambda s: s.map(order), kind="stable")
figure = plots.accuracy_by_strategy(
    table, ["train_accuracy", "test_accuracy"], f"word accuracy, {table['seed'].nunique()} seeds"
)
Path("docs").mkdir(exist_ok=True)
figure.write_image("docs/quickstart.png", scale=2, width=760, height=360)
