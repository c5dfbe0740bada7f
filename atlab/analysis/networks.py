"""How well the orthogonal networks of a study know their task: anti-transfer against one that does not says nothing."""

from __future__ import annotations

import pandas as pd

from atlab.labels import plain

PREFIX, ACCURACY, CHANCE = "orthogonal_networks.", ".test_accuracy", ".chance"
WEAK = 0.25  # of the way from chance to perfect


def accuracies(table: pd.DataFrame) -> pd.DataFrame:
    """The orthogonal networks that the runs of a study took: task, networks, test accuracy (mean), chance, weak.

    A network is weak if its accuracy on clips that it was not trained on lies less than a quarter of the way from chance
    to 1.
    """
    rows = []
    for column in [c for c in table if c.startswith(PREFIX) and c.endswith(ACCURACY)]:
        name = column[len(PREFIX) : -len(ACCURACY)]
        known = table[[column, f"{PREFIX}{name}{CHANCE}"]].dropna().drop_duplicates()
        if known.empty:  # a network of other runs of the study
            continue
        accuracy, chance = known.mean()
        weak = bool((accuracy - chance) < WEAK * (1 - chance))
        rows.append({"task": name, "networks": len(known), "accuracy": accuracy, "chance": chance, "weak": weak})
    return pd.DataFrame(rows, columns=["task", "networks", "accuracy", "chance", "weak"])


def sentences(table: pd.DataFrame) -> str:
    """What the orthogonal networks know, one line each, and a warning for weak ones (Markdown); "" where none was trained.

    >>> runs = pd.DataFrame({"orthogonal_networks.speaker.test_accuracy": [0.2], "orthogonal_networks.speaker.chance": [0.125]})
    >>> print(sentences(runs))
    - The network of **speaker** names 20.0 % of unseen clips (chance: 12.5 %): **it is weak**, so what is compared with it says little.
    """
    lines = []
    for _, row in accuracies(table).iterrows():
        said = f"- The network of **{plain(row['task'])}** names {100 * row['accuracy']:.1f} % of unseen clips (chance: {100 * row['chance']:.1f} %)"
        lines.append(said + (": **it is weak**, so what is compared with it says little." if row["weak"] else "."))
    return "\n".join(lines)
