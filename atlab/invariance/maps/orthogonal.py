"""Do students look where the networks of orthogonal tasks look? Figure 5 of the paper, on all test clips instead of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from atlab import stats
from atlab.analysis.claims import claim
from atlab.invariance.features import batches_of
from atlab.invariance.maps.agreement import compared, progress_bar
from atlab.invariance.maps.gradcam import class_activation_map
from atlab.invariance.networks import open_network
from atlab.labels import NAMES
from atlab.system import devices


def with_orthogonal(
    models: Mapping[str, Sequence],
    orthogonal: Mapping[str, object],
    fs,
    rows: np.ndarray,
    layer: str = "conv13",
    *,
    batch_size: int = 16,
    device: str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """Agreement of the maps of students with those of orthogonal networks, clip by clip; each for the class it predicts.

    Args:
        models: name -> networks (run folders or modules), in the order of their seeds.
        orthogonal: task -> its network.
        fs, rows: the data set as the students saw it (with its noise), and the clips to look at.

    Returns columns name, seed, task, row, correlation (Pearson, -1 to 1), overlap (`top_overlap`); nan where a map is constant.
    Memory is that of one batch.

    >>> import atlab, tempfile
    >>> fs = atlab.data.toy(tempfile.mkdtemp() + "/toy", words=2, speakers=2, repetitions=1)
    >>> net = atlab.models.vgg16(2, width=1 / 16)
    >>> found = with_orthogonal({"baseline": [net]}, {"speaker": net}, fs, np.arange(4), "conv3", progress=False)
    >>> found[["name", "task", "row"]].values.tolist()[0], found["overlap"].tolist()
    (['baseline', 'speaker', 0], [1.0, 1.0, 1.0, 1.0])
    """
    place = devices.choose(None if device == "auto" else device)
    students = [(name, open_network(item, n)) for name, items in models.items() for n, item in enumerate(items)]
    others = {task: open_network(item).model.to(place) for task, item in orthogonal.items()}
    found = []
    for x, _, index in progress_bar(batches_of(fs, rows, device=place, batch_size=batch_size), "maps", progress):
        theirs = {task: class_activation_map(model, x, layer) for task, model in others.items()}
        for name, student in students:
            ours = class_activation_map(student.model.to(place), x, layer)
            for task, maps in theirs.items():
                part = compared(index.cpu().numpy(), ours, maps)
                found.append(part.assign(name=name, seed=student.seed, task=task))
    columns = ["name", "seed", "task", "row", "correlation", "overlap"]
    return pd.concat(found, ignore_index=True)[columns].sort_values(columns[:4], ignore_index=True)


def by_seed(scores: pd.DataFrame) -> pd.DataFrame:
    """Means over clips for every name, seed and task, with the number of clips whose maps are not constant."""
    groups = scores.groupby(["name", "seed", "task"], sort=False)
    means = groups[["correlation", "overlap"]].mean()
    return means.assign(clips=groups["correlation"].count()).reset_index()


def claims(means: pd.DataFrame, name: str = "dual_at", other: str = "baseline") -> list[str]:
    """Fig. 5: a student's maps agree less with those of each orthogonal network than another's, paired by seed (`by_seed`)."""
    lines = []
    for task, part in means.groupby("task", sort=False):
        values = part.pivot(index="seed", columns="name", values="correlation")
        difference = stats.paired_difference(values[name], values[other])
        sentence = (
            f"maps of {NAMES[name]} agree less with those of {task} than maps of the {NAMES[other]} (correlation x 100)"
        )
        lines.append(claim(sentence, difference, above=False))
    return lines
