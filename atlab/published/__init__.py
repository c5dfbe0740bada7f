"""Numbers that the papers print, as data, each with its source; to stand beside what is measured here.

Guizzo, Weyde & Tarroni (2021), Anti-transfer learning for task invariance in convolutional neural networks for speech
processing, Neural Networks 142, doi:10.1016/j.neunet.2021.05.012: tables 2 to 6. Yosinski, Clune, Bengio & Lipson (2014), How
transferable are features in deep neural networks?, NIPS 27: table 1. All accuracies are in percent, as printed; one number a
cell, without interval, of an unstated number of runs.
"""

from __future__ import annotations

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
    "yosinski2014_table1_boost": "Yosinski et al. 2014, table 1",
}
# Where the authors' code is not what the paper says (their repository at 09fb6e7 and 3154afc), and what that means for a number.
DEVIATIONS = {
    "Gram": "The code builds one Gram matrix over the whole batch and averages row cosines before the square (published=True).",
    "layer": "Layer n of the code ends before convolution n: it is layer n - 1, and layer 1 is the input itself.",
    "weight initialisation": "The code loads a whole network's weights into its convolutions without matching names: nothing is "
    "loaded, and WI and the start of dual AT are random unless checkpoints were converted by hand.",
    "repeats": "The baseline was run 20 times, WI 3 times, AT once a layer with the best of 13 layers reported.",
    "rate": "0.00005 in every experiment file instead of 0.0005.",
    "speakers": "IEMOCAP's speaker labels are sessions of two actors each.",
    "instruments": "The labels of Good-Sounds' instruments are all zero: 100 % is the accuracy of a constant.",
    "noise": "The mixer halves the ratio in dB: low is 10 to 20 dB, high 0 to 5 dB.",
}


def table(name: str) -> pd.DataFrame:
    """A printed table, a row a row of the paper; missing task names are empty strings.

    >>> table("table3_word_recognition").query("strategy == 'none'")["test_none"].item()
    95.32
    """
    if name not in SOURCES:
        raise unknown("published table", name, SOURCES)
    return pd.read_csv(FOLDER / f"{name}.csv", keep_default_na=False)


def improvements(name: str, column: str) -> pd.DataFrame:
    """Rows above the baseline (strategy "none") in one column of a table, in points: strategy, task, improvement.

    >>> improvements("table4_emotion_recognition", "test_speaker")["improvement"].round(1).tolist()
    [2.0, 1.3, 3.9, 4.1]
    """
    printed = table(name)
    if column not in printed:
        raise unknown(f"column of {name}", column, printed.columns)
    base = printed.loc[printed["strategy"] == "none", column].item()
    others = printed[printed["strategy"] != "none"]
    return pd.DataFrame({"strategy": others["strategy"], "task": others["orthogonal_task"], "improvement": others[column] - base}).reset_index(drop=True)
