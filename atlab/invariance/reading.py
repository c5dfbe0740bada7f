"""From a study's runs to a card, and from a card to sentences: every one is decided by an interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from atlab import stats
from atlab.errors import AtlabError
from atlab.invariance.card import RANDOM, Report
from atlab.invariance.measuring import LEACE
from atlab.labels import NAMES, plain

SHOWN = ("target_accuracy", "changed", "excess", "excess_nats", "worst_group", "equalised_odds")
POINTS = ("target_accuracy", "balanced_accuracy", "mlp", "changed", "excess", "worst_group", "equalised_odds")


def networks(table: pd.DataFrame) -> tuple[dict[str, list], dict[str, object]]:
    """The runs of a study by strategy, in the order of their seeds, and the run of every orthogonal factor's network.

    Args:
        table: finished runs, as `sweep.Outcome.table()` gives them.

    Raises:
        AtlabError: a strategy that was trained twice with one seed (at two layers, say): measure a part of the table.
    """
    from atlab import runs
    from atlab.experiment.settings import from_parameters
    from atlab.experiment.skeleton import NETWORKS

    models: dict[str, list] = {}
    teachers: dict[str, object] = {}
    ordered = [runs.Run(path) for path in table.sort_values("seed", kind="stable")["path"]]
    wanted = {}
    for run in ordered:
        settings = from_parameters(run.parameters)
        models.setdefault(settings.strategy, []).append(run)
        wanted |= {text: settings.teacher(text) for text in settings.orthogonal if not text.startswith("file:")}
    for name, of_name in models.items():
        seeds = [from_parameters(run.parameters).seed for run in of_name]
        if len(set(seeds)) < len(seeds):
            raise AtlabError(
                f"strategy {name!r} was trained more than once with one seed: choose runs that differ in the seed only"
            )
    folder = Path(table["path"].iloc[0]).parent.parent / NETWORKS
    for path in runs.table(folder)["path"] if folder.is_dir() else ():
        run = runs.Run(path)
        for factor, settings in wanted.items():
            if from_parameters(run.parameters) == settings:
                teachers[factor] = run
    return models, {factor: teachers[factor] for factor in wanted if factor in teachers}


def by_network(report: Report, factor: str, layer: str) -> pd.DataFrame:
    """What does not depend on a layer, with what probes read at one: a row per network, means over seeds with intervals."""
    rows = report.summary[(report.summary["factor"] == factor) & (report.summary["layer"] == layer)].set_index("name")
    shown = {}
    for measure in (*SHOWN[:1], "balanced_accuracy", *SHOWN[1:]):
        if measure in rows:
            shown[measure] = [_cell(row, measure) for _, row in rows.iterrows()]
    return pd.DataFrame(shown, index=[NAMES.get(name, name) for name in rows.index]).rename_axis("network")


def _cell(row: pd.Series, measure: str) -> str:
    scale, digits = (100, 1) if measure in POINTS else (1, 2)
    value, low, high = (scale * row[key] for key in (measure, f"{measure}_low", f"{measure}_high"))
    return "" if np.isnan(value) else f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def against(report: Report, measure: str, factor: str, other: str = "baseline") -> pd.DataFrame:
    """Every network's difference to another's, paired by seed: a row per network and layer.

    Columns name, layer, difference, low, high (95 % t interval), p (paired t-test), p_holm (over all rows).
    """
    part = report.table[report.table["factor"] == factor]
    rows = []
    for layer in dict.fromkeys(part["layer"]):
        values = part[part["layer"] == layer].pivot(index="seed", columns="name", values=measure)
        for name in dict.fromkeys(part["name"]):
            if name == other or name not in values or other not in values:
                continue
            both = values[[name, other]].dropna()
            if len(both) > 1:
                found = stats.paired_difference(both[name], both[other])
                rows.append(
                    {
                        "name": name,
                        "layer": layer,
                        "difference": found.mean,
                        "low": found.low,
                        "high": found.high,
                        "p": stats.paired_p(both[name], both[other]),
                    }
                )
    table = pd.DataFrame(rows, columns=["name", "layer", "difference", "low", "high", "p"])
    return table.assign(p_holm=stats.holm(table["p"]))


def lowered(
    report: Report, factor: str, layer: str, name: str = "at", other: str = "baseline"
) -> dict[str, stats.Interval]:
    """Share of the baseline's value by which presence (above chance) and use (excess, in nats) are lowered, and use beyond presence.

    1 is all of it, 0 none, below 0 it rose; presence alone where use could not be measured. The shares are of the baseline's mean over seeds; intervals are paired by seed.
    """
    rows = report.table[(report.table["factor"] == factor) & (report.table["layer"] == layer)]
    values = {"presence": rows["balanced_accuracy"] - rows["chance"]}
    if "excess_nats" in rows:
        values["use"] = rows["excess_nats"]
    tables = {kind: rows.assign(v=v).pivot(index="seed", columns="name", values="v") for kind, v in values.items()}
    shares = {kind: ((v[other] - v[name]) / v[other].mean()).dropna() for kind, v in tables.items()}
    found = {kind: stats.mean_interval(share) for kind, share in shares.items() if len(share) > 1}
    if "use" not in found:
        return found
    return found | {"use beyond presence": stats.paired_difference(shares["use"], shares["presence"])}


def findings(report: Report, factor: str, layer: str, ours: str = "at") -> list[str]:
    """Sentences about what a strategy does to a factor, for a list in Markdown.

    layer: where the strategy acts. What its interval does not decide is said to be undecided.
    """
    name = NAMES.get(ours, ours)
    lines = [f"**Cost.** Accuracy on {plain(report.target)}: " + _beside_all(report, "target_accuracy", factor, layer)]
    lines.append(
        f"**Presence at {plain(layer)}**, a linear probe of {plain(factor)}: "
        + _beside_all(report, "balanced_accuracy", factor, layer)
    )
    lines.append(f"**Where.** {_where(report, factor, ours)}")
    used = (
        "excess_nats" in report.table
        and not report.table.loc[report.table["factor"] == factor, "excess_nats"].isna().any()
    )
    if used:
        lines.append(f"**Use** of {plain(factor)} (excess, nats): " + _beside_all(report, "excess_nats", factor, layer))
        found = lowered(report, factor, layer, ours)
        parts = [f"{kind} falls by {_percent(found[kind])} of the baseline's" for kind in ("presence", "use")]
        beyond = found["use beyond presence"]
        decided = (
            "more than presence"
            if beyond.low > 0
            else "less than presence"
            if beyond.high < 0
            else "neither more nor less, as far as these seeds tell"
        )
        lines.append(
            f"**Use or presence?** With {name}, {parts[0]}, {parts[1]}; use falls {decided} (difference {_percent(beyond)})."
        )
    if "gradient_reversal" in set(report.table["name"]):
        rival = [
            f"{what} {_difference(report, measure, ours, 'gradient_reversal', layer, factor)}"
            for measure, what in (
                ("target_accuracy", "accuracy"),
                ("balanced_accuracy", f"probe of {plain(factor)} at {plain(layer)}"),
                ("excess_nats", "use"),
            )
            if used or measure != "excess_nats"
        ]
        lines.append(f"**{name} minus gradient reversal**: {'; '.join(rival)}.")
    if LEACE in set(report.table["name"]):
        parts = []
        for at in dict.fromkeys(report.table["layer"]):
            parts.append(f"{plain(at)} {_difference(report, 'target_accuracy', LEACE, 'baseline', at, factor)}")
        lines.append(
            f"**Removal.** Erasing what is linear of {plain(factor)} changes the baseline's accuracy by: {'; '.join(parts)}."
        )
    if RANDOM in set(report.table["name"]):
        lines.append(
            f"**Floor.** With random weights, a probe at {plain(layer)} reads {_value(report, 'balanced_accuracy', RANDOM, layer, factor)}, "
            f"in the baseline {_value(report, 'balanced_accuracy', 'baseline', layer, factor)}."
        )
    return lines


def _beside_all(report: Report, measure: str, factor: str, layer: str) -> str:
    names = [n for n in dict.fromkeys(report.table["name"]) if n not in ("baseline", LEACE, RANDOM)]
    parts = [f"{NAMES.get(n, n)} {_difference(report, measure, n, 'baseline', layer, factor)}" for n in names]
    return f"baseline {_value(report, measure, 'baseline', layer, factor)}; against it {'; '.join(parts)}."


def _value(report: Report, measure: str, name: str, layer: str, factor: str) -> str:
    rows = report.summary.query("name == @name and layer == @layer and factor == @factor")
    value = rows[measure].iloc[0]
    return f"{100 * value:.1f} %" if measure in POINTS else f"{value:.2f}"


def _difference(report: Report, measure: str, name: str, other: str, layer: str, factor: str) -> str:
    found = report.difference(measure, name, other, layer, factor)
    scale, digits, unit = (100, 1, " points") if measure in POINTS else (1, 2, "")
    decided = "" if found.low > 0 or found.high < 0 else ", undecided"
    return f"{scale * found.mean:+.{digits}f}{unit} [{scale * found.low:+.{digits}f}, {scale * found.high:+.{digits}f}]{decided}"


def _where(report: Report, factor: str, ours: str) -> str:
    table = against(report, "balanced_accuracy", factor)
    table = table[table["name"] == ours]
    sure = table.assign(p_holm=stats.holm(table["p"]))
    sure = sure[sure["p_holm"] < 0.05]
    lower, higher = (_named(sure[sign * sure["difference"] > 0]) for sign in (-1, 1))
    name = NAMES.get(ours, ours)
    text = f"Layer by layer (p < 0.05 after Holm over {len(table)} layers) a linear probe reads {plain(factor)} less well with {name} than in the baseline at: {lower}"
    return f"{text}; better at: {higher}."


def _named(rows: pd.DataFrame) -> str:
    parts: Sequence[str] = [f"{plain(row.layer)} ({100 * row.difference:+.1f} points)" for row in rows.itertuples()]
    return ", ".join(parts) or "no layer"


def _percent(i: stats.Interval) -> str:
    return f"{100 * i.mean:.0f} % [{100 * i.low:.0f}, {100 * i.high:.0f}]"
