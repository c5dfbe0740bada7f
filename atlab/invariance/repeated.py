"""How invariant the networks of a planned study became: its primary differences again, in other measures than accuracy.

Every repetition of such a study has a split of its own. Its networks are measured on the test part of that split, so that
they are compared on the same clips, and differences are paired by repetition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from atlab import stats
from atlab.errors import AtlabError
from atlab.invariance.card import Report, report
from atlab.invariance.reading import POINTS
from atlab.runs import precision
from atlab.runs.folder import Run, is_done
from atlab.system.processes import pool

PROBE = "balanced_accuracy"  # at every layer
ONCE = ("target_accuracy", "worst_group", "excess", "excess_nats", "changed", "maps")  # the same at every layer
COLUMNS = ("contrast", "arm", "measure", "layer", "n", "against", "mean", "low", "high")


def measured(
    study: Path,
    layers: str | Sequence[str],
    factor: str = "",
    *,
    pairs: int = 100,
    workers: int = 1,
    progress: bool = True,
) -> Report:
    """Measure the arms of a study's primary differences in every finished repetition.

    Args:
        study: the folder of a study whose grid plans its `precision`.
        layers: where a probe reads the factor.
        factor: what should not matter; the first orthogonal task of the runs if empty.
        pairs: pairs of clips of each kind whose Grad-CAM maps are compared, at most.
        workers: processes that measure repetitions side by side.

    Returns a `Report` with the arm as name, the repetition as seed, and the column `maps`: the mean correlation of the Grad-CAM
        maps (last convolution, true class) of two clips that differ in the factor only.

    Raises:
        AtlabError: no plan, or no look at it yet; and what `report` raises.
    """
    _, chosen, folders = _planned(study)
    kept = list(dict.fromkeys(arm for contrast, arm in chosen.items() for arm in (arm, contrast.against)))
    finished = [n for n, paths in enumerate(zip(*(folders[a] for a in kept), strict=False)) if all(map(is_done, paths))]
    factor = factor or _factor(folders[kept[0]][finished[0]])
    jobs = [(n, {arm: folders[arm][n] for arm in kept}, factor, layers, pairs) for n in finished]
    found = list(tqdm(_all(jobs, workers), total=len(jobs), desc="repetitions", disable=not progress))
    rows = np.unique(np.concatenate([part.rows for part in found]))
    return Report(pd.concat([part.table for part in found], ignore_index=True), found[0].target, found[0].classes, rows)


def differences(study: Path, card: Report) -> pd.DataFrame:
    """The study's primary differences in each measure of a card that `measured` made: one row per difference, measure and layer.

    Columns: contrast, arm (that the pilot chose), measure, layer (empty where a measure has none), n (pairs of repetitions),
    against (mean of what it is compared with), mean, low, high (paired, 95 % t interval), p_holm (over all rows). A difference
    whose arm was chosen by the pilot is that of the later repetitions. Use is `excess` and `excess_nats`, or where no clip of a
    test part has a repetition, `changed`. Units are those of the card, shares not points.
    """
    plan, chosen, _ = _planned(study)
    rows, p = [], []
    for contrast, arm in chosen.items():
        table = card.table[card.table["seed"] >= plan.look_every] if len(contrast.arms) > 1 else card.table
        for measure, layer, values in _values(table):
            both = values[[arm, contrast.against]].dropna()
            if len(both) < 2:
                continue
            one, other = both[arm], both[contrast.against]
            d = stats.paired_difference(one, other)
            rows.append((str(contrast), arm, measure, layer, d.n, other.mean(), d.mean, d.low, d.high))
            p.append(stats.paired_p(one, other))
    return pd.DataFrame(rows, columns=COLUMNS).assign(p_holm=stats.holm(p))


def _values(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Measure, layer, and its values by repetition and arm."""
    layers = list(dict.fromkeys(table["layer"]))
    unread = "changed" if "excess" in table else ""  # of clips without repetitions it is all that tells of use
    for measure in (PROBE, *(m for m in ONCE if m in table and m != unread)):
        for layer in layers if measure == PROBE else layers[:1]:
            values = table[table["layer"] == layer].pivot(index="seed", columns="name", values=measure)
            yield measure, layer if measure == PROBE else "", values


def shown(found: pd.DataFrame) -> pd.DataFrame:
    """`differences` for reading: one row per measure, one column per difference; shares in points, nats and correlations as they are.

    A star marks what holds after Holm's correction.

    >>> seen = {"against": 0.5, "mean": -0.04, "low": -0.07, "high": -0.01, "p_holm": 0.02, "n": 8}
    >>> one = pd.DataFrame([{"contrast": "at - baseline", "measure": "balanced_accuracy", "layer": "conv5"} | seen])
    >>> shown(one)["at - baseline"].to_dict()
    {'balanced accuracy conv5': '-4.0 [-7.0, -1.0] from 50.0 *'}
    """
    names = (found["measure"] + " " + found["layer"]).str.strip().str.replace("_", " ")
    table = found.assign(measure=names, said=[_said(row) for _, row in found.iterrows()])
    pivoted = table.pivot(index="measure", columns="contrast", values="said").fillna("")
    return pivoted.loc[list(dict.fromkeys(names)), list(dict.fromkeys(found["contrast"]))].rename_axis(columns=None)


def _said(row: pd.Series) -> str:
    scale, digits = (100, 1) if row["measure"] in POINTS else (1, 2)
    mean, low, high = (f"{scale * row[key]:+.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}] from {scale * row['against']:.{digits}f}" + " *" * bool(row["p_holm"] < 0.05)


def _planned(study: Path) -> tuple[precision.Plan, dict[precision.Contrast, str], dict[str, list[Path]]]:
    """The plan, the arm of every primary difference, and the run folders of all arms."""
    recorded = precision.recorded(Path(study))
    if recorded is None:
        raise AtlabError(
            f"{study} has no plan: expected the folder of a study whose grid has `precision` and `primary`"
        )
    plan, folders = recorded
    seen = precision.looks(plan, *precision.scores(folders))
    if not seen:
        raise AtlabError(f"{study} is not at its first look yet: expected {plan.look_every} finished repetitions")
    return plan, seen[-1].chosen, folders


def _factor(folder: Path) -> str:
    from atlab.experiment.settings import from_parameters

    return from_parameters(Run(folder).parameters).tasks()[0].factor


def _all(jobs: list[tuple], workers: int) -> Iterator[Report]:
    if workers == 1:
        yield from (_of_repetition(*job) for job in jobs)
        return
    with pool(workers, torch.set_num_threads, (1,)) as processes:
        yield from processes.map(_of_repetition, *zip(*jobs, strict=True))


def _of_repetition(
    repetition: int, paths: dict[str, Path], factor: str, layers: str | Sequence[str], pairs: int
) -> Report:
    from atlab import experiment
    from atlab.invariance.maps.agreement import agreement

    models = {arm: [path] for arm, path in paths.items()}
    fs = experiment.load_data(Run(next(iter(paths.values()))).parameters["data"])
    card = report(models, fs, factor, layers, erase="", floor=False, progress=False)
    maps = agreement(models, fs, card.rows, factor, most=pairs, progress=False).set_index("name")["counterfactual"]
    table = card.table.assign(seed=repetition, maps=card.table["name"].map(maps))
    return Report(table, card.target, card.classes, card.rows)
