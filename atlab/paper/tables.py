"""Numbers that the papers print, as data, each with its source, to be shown next to what is measured here.

Guizzo, Weyde & Tarroni (2021), Anti-transfer learning for task invariance in convolutional neural networks for speech
processing, Neural Networks 142, doi:10.1016/j.neunet.2021.05.012: tables 2 to 6. Its preprint: Guizzo, Weyde & Tarroni (2020),
Blissful ignorance: anti-transfer learning for task invariance, arXiv:2006.06494: table 1 (`PREPRINT` says what became of the
rest). Yosinski, Clune, Bengio & Lipson (2014), How transferable are features in deep neural networks?, NIPS 27: table 1. All
accuracies are in percent, as printed: one number per cell, without interval, over an unstated number of runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from atlab.errors import unknown

FOLDER = Path(__file__).parent
SOURCES = {
    "table2_pretraining": "Guizzo, Weyde & Tarroni 2021, table 2",
    "table3_word_recognition": "Guizzo, Weyde & Tarroni 2021, table 3",
    "table4_emotion_recognition": "Guizzo, Weyde & Tarroni 2021, table 4",
    "table5_sound_goodness": "Guizzo, Weyde & Tarroni 2021, table 5",
    "table6_aggregation_similarity": "Guizzo, Weyde & Tarroni 2021, table 6",
    "preprint_table1_pretraining": "Guizzo, Weyde & Tarroni 2020, table 1",
    "yosinski2014_table1_boost": "Yosinski et al. 2014, table 1",
}
# What became of the preprint's tables and figures in the journal.
PREPRINT = {
    "table 1": ("table 2", "without emotions of IEMOCAP and MS-SNSD; two digits (preprint_table1_pretraining)"),
    "table 2": ("table 4", "the same numbers"),
    "table 3": ("table 5", "the same numbers"),
    "table 4": ("table 6", "the same numbers"),
    "figure 2": ("figure 3", "without words and dual AT; averages over emotions and goodness only"),
    "figure 3": ("figure 6", "the same task; split and orthogonal task are not stated"),
    "figure 4": ("figure 7", "one run on the class split by session instead of the random split"),
}
# The column of a table with the test accuracies of a condition: the parameter that tells conditions apart, and its values.
TEST_COLUMNS = {
    "table3_word_recognition": (
        "noise",
        {
            "none": "test_none",
            "low": "test_low",
            "high": "test_high",
            "published_low": "test_low",
            "published_high": "test_high",
        },
    ),
    "table4_emotion_recognition": (
        "split",
        {"random": "test_rand", "disjoint": "test_speaker", "official": "test_speaker"},
    ),
    "table5_sound_goodness": ("split", {"random": "test_rand", "disjoint": "test_instr", "official": "test_instr"}),
}
# What the conditions of a table are called in figure 3.
TASKS = {
    "table3_word_recognition": "words",
    "table4_emotion_recognition": "emotions",
    "table5_sound_goodness": "goodness",
}
# The folder that `atlab data prepare` writes for each corpus of table 2.
FOLDERS = {
    "Librispeech": "librispeech_words",
    "IEMOCAP (1 s)": "iemocap_1s",
    "IEMOCAP (4 s)": "iemocap",
    "Good-Sounds": "good_sounds",
    "Nsynth": "nsynth",
    "MS-SNSD": "ms_snsd",
}
NAMED = {"session": "speaker", "instrument_family": "instrument"}  # factors under the names that the paper gives them
# The corpus of a table's target task: orthogonal networks of any other corpus come from elsewhere.
TARGETS = {
    "table3_word_recognition": "GSC",
    "table4_emotion_recognition": "IEMOCAP",
    "table5_sound_goodness": "Good-Sounds",
}
# What the texts of Guizzo, Weyde & Tarroni 2021 and 2020 say in numbers about its figures and costs (points of test accuracy, unless said).
STATED = {
    "average improvement of the test accuracy (section 4.3)": 4.11,
    "average improvement of the training accuracy (section 4.3)": 2.35,
    "average improvement of the test accuracy (preprint, section 4; emotions and goodness)": 5.25,
    "average improvement of the training accuracy (preprint, section 4; emotions and goodness)": 2.37,
    "largest improvement of the test accuracy (section 4.3)": 11.5,
    "largest improvement of the training accuracy (section 4.3)": 6.7,
    "improvement with beta 1 on emotions, squared cosine (section 5.6)": 3.0,
    "time of training with AT over time without (section 5.7)": 2.8,
}
# Where the authors' code is not what the paper says (their repository at 09fb6e7 and 3154afc), and what that means for a number.
DEVIATIONS = {
    "Gram": "The code builds one Gram matrix over the whole batch and averages row cosines before the square (published=True).",
    "layer": "Layer n of the code ends before convolution n: it is layer n - 1, and layer 1 is the input itself.",
    "weight initialisation": "The code loads a whole network's weights into its convolutions without matching names: nothing is "
    "loaded, and WI and the start of dual AT are random unless checkpoints were converted by hand.",
    "repeats": "The baseline was run 20 times, WI 3 times, AT once per layer with the best of 13 layers reported.",
    "rate": "0.00005 in every experiment file instead of 0.0005.",
    "speakers": "IEMOCAP's speaker labels are sessions of two actors each.",
    "instruments": "The labels of Good-Sounds' instruments are all zero: 100 % is the accuracy of a constant.",
    "noise": "The mixer halves the ratio in dB: low is 10 to 20 dB, high 0 to 5 dB.",
}


def table(name: str) -> pd.DataFrame:
    """A printed table, one row per printed row; missing task names are empty strings.

    >>> table("table3_word_recognition").query("strategy == 'none'")["test_none"].item()
    95.32
    """
    if name not in SOURCES:
        raise unknown("printed table", name, SOURCES)
    return pd.read_csv(FOLDER / f"{name}.csv", keep_default_na=False)


def printed_network(data: str) -> dict[str, object]:
    """What table 2 prints for the network that is trained on a data set, known by its folder's name; None for other sets.

    >>> printed_network("data/iemocap_1s")
    {"paper's corpus": 'IEMOCAP (1 s)', "paper's train": 85.6, "paper's test": 51.9, "paper's classes": 4}
    """
    rows = table("table2_pretraining")
    row = rows[rows["dataset"].map(FOLDERS) == Path(data).name]
    columns = {
        "paper's corpus": "dataset",
        "paper's train": "train_acc",
        "paper's test": "test_acc",
        "paper's classes": "classes",
    }
    return {name: None if row.empty else row[column].item() for name, column in columns.items()}


def preprint() -> pd.DataFrame:
    """The preprint's tables and figures next to the journal's: preprint, journal, what differs.

    >>> preprint().set_index("preprint").loc["table 4", "journal"]
    'table 6'
    """
    rows = [(name, journal, difference) for name, (journal, difference) in PREPRINT.items()]
    return pd.DataFrame(rows, columns=["preprint", "journal", "difference"])


def improvements(name: str, column: str) -> pd.DataFrame:
    """Rows above the baseline (strategy "none") in one column of a table: strategy, task, data, elsewhere, improvement in points.

    `elsewhere` is whether the orthogonal network was trained on another corpus than the target's.

    >>> improvements("table4_emotion_recognition", "test_speaker")["improvement"].round(1).tolist()
    [2.0, 1.3, 3.9, 4.1]
    """
    printed = table(name)
    if column not in printed:
        raise unknown(f"column of {name}", column, printed.columns)
    base = printed.loc[printed["strategy"] == "none", column].item()
    others = printed[printed["strategy"] != "none"]
    data = others["orthogonal_dataset"]
    columns = {
        "strategy": others["strategy"],
        "task": others["orthogonal_task"],
        "data": data,
        "elsewhere": data != TARGETS.get(name, ""),
    }
    return pd.DataFrame({**columns, "improvement": others[column] - base}).reset_index(drop=True)


def deviations(*topics: str) -> str:
    """Where the authors' code is not what the paper says, one bullet per topic of `DEVIATIONS` (Markdown).

    >>> deviations("rate")
    '- rate: 0.00005 in every experiment file instead of 0.0005.'
    """
    for topic in topics:
        if topic not in DEVIATIONS:
            raise unknown("deviation", topic, DEVIATIONS)
    return "\n".join(f"- {topic}: {DEVIATIONS[topic]}" for topic in topics)


def test_column(name: str, parameters: Mapping) -> str:
    """The column of a printed table that stands for a run's condition, "" if the paper has none like it.

    >>> test_column("table4_emotion_recognition", {"split": "disjoint"})
    'test_speaker'
    >>> test_column("table3_word_recognition", {"noise": "published_low"})
    'test_low'
    """
    if name not in TEST_COLUMNS:
        raise unknown("printed table with conditions", name, TEST_COLUMNS)
    parameter, columns = TEST_COLUMNS[name]
    return columns.get(parameters[parameter], "")


def averages() -> pd.DataFrame:
    """Figure 3's averages as the printed tables 3 to 5 give them, in points: group, cells, improvement.

    As its caption says: tasks average the best AT row of each test column; the same and the other (bigger) corpus all cells of
    emotions and goodness; single and dual AT those of words.

    >>> averages().set_index("group")["improvement"].round(2)["all three tasks"].item()
    3.58
    """
    groups: dict[str, list[float]] = {"all three tasks": [], **{task: [] for task in TASKS.values()}}
    for name, (_, columns) in TEST_COLUMNS.items():
        for column in dict.fromkeys(columns.values()):
            above = improvements(name, column)
            points = {"dual AT": above[above["strategy"] == "dual_at"]}
            single = above[above["strategy"] == "at"]
            if points["dual AT"].empty:
                points = {
                    "AT, another corpus": single[single["elsewhere"]],
                    "AT, the same corpus": single[~single["elsewhere"]],
                }
            else:
                points = {"single AT": single, **points}
            best = max(part["improvement"].max() for part in points.values())
            for group in ("all three tasks", TASKS[name]):
                groups[group].append(best)
            for group, part in points.items():
                groups.setdefault(group, []).extend(part["improvement"])
    return pd.DataFrame([{"group": g, "cells": len(v), "improvement": sum(v) / len(v)} for g, v in groups.items()])
