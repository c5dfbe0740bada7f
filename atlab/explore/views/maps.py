"""The Grad-CAM invariance explorer: where networks look, on one clip or on pairs of clips, and how it sounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import ipywidgets as widgets
import numpy as np
import pandas as pd

from atlab import plots
from atlab.data import catalog
from atlab.data.noise import KINDS
from atlab.errors import AtlabError, unknown
from atlab.explore import studies
from atlab.explore.cache import FIGURES
from atlab.explore.compute import maps as compute
from atlab.explore.compute.data import wav
from atlab.explore.widgets import inputs
from atlab.explore.widgets.background import Step
from atlab.explore.widgets.explorer import Explorer, Shown, sentence
from atlab.invariance.maps.gradcam import METHODS

MOST = 8  # networks side by side
RESETS = {
    "study": ("data", "clip", "models", "extra", "reference", "hear", "pair_value"),
    "data": ("clip", "pair_by", "pair_value"),
    "clip": ("pair_value",),
    "pair_by": ("pair_value",),
    "models": ("reference", "hear"),
}


@dataclass(frozen=True)
class MapsState:
    """What the Grad-CAM explorer shows; empty fields stand for the first there is.

    Attributes:
        study: folder of runs; data: another data set than the study's; clip: its id.
        models: networks by label or run id; extra: one more, by its model file.
        layer, method: of the maps; target: "true", "predicted" or a class by name.
        opacity: of the maps over the clip; difference: show the other maps minus that of `reference`.
        pair_by: a factor of the data, "noise", or "" for no pair; pair_value: the other clip's value of it (a kind of
            noise, mixed in at snr_db); align: move maps by the lag between the two sounds before they are compared.
        score: compare with the clips of every other value, not of this one only.
        hear: the network whose map selects what is played; threshold: where the map is at least this, 0 for softly.
    """

    study: str = "runs/demo_study"
    data: str = ""
    clip: str = ""
    models: tuple[str, ...] = ()
    extra: str = ""
    layer: str = "conv13"
    method: str = "GradCAM"
    target: str = "true"
    opacity: float = 0.6
    difference: bool = False
    reference: str = ""
    pair_by: str = ""
    pair_value: str = ""
    snr_db: float = 10.0
    align: bool = True
    score: bool = False
    hear: str = ""
    threshold: float = 0.0


def steps(s: MapsState) -> Iterator[Step | Shown]:
    """What a state shows, part by part."""
    yield Step(0, 1, f"opening {s.study}")
    known = studies.networks(s.study)
    chosen = s.models or studies.first_choice(known)
    fs = studies.study_data(s.study, s.data)
    target = studies.settings_of(s.study).target
    pairs = [("no pair", ""), *((name, name) for name in fs.factor_names)]
    pairs += [("noise", "noise")] if fs.kind == "audio" and "noise" not in fs.factor_names else []
    yield Shown(choices={"models": list(known), "pair_by": pairs, "clip": _proposals(fs)}, resolved={"models": chosen})
    nets, notes = _open(s, fs, chosen)
    clip = s.clip or str(fs.factors["id"].iloc[0])
    reference = s.reference or next(
        (n for n in nets if n in known and known[n].strategy == "baseline" and known[n].role != "teacher"),
        next(iter(nets)),
    )
    hear = s.hear or list(nets)[-1]
    classes = list(dict.fromkeys(str(name) for net in nets.values() for name in net.card["classes"]))
    if s.target not in ("true", "predicted", *classes):
        raise unknown("class", s.target, ["true", "predicted", *classes])
    explained = [("the clip's label", "true"), ("predicted", "predicted"), *((name, name) for name in classes)]
    layers = studies.layers_of(next(iter(nets.values())))
    yield Shown(
        choices={"layer": layers, "target": explained, "reference": list(nets), "hear": list(nets)},
        resolved={"clip": clip, "reference": reference, "hear": hear},
        notes=notes,
    )
    samples = [compute.sample(fs, studies.row_of(fs, clip))]
    if s.pair_by:
        values = _others(fs, samples[0].row, s.pair_by, target)
        value = s.pair_value or next(iter(values))
        yield Shown(choices={"pair_value": list(values)}, resolved={"pair_value": value})
        samples.append(_other(fs, s, values, value))
    else:
        yield Shown(choices={"pair_value": []})
    drawn: dict[str, np.ndarray] = {}
    titles, failed = {}, []
    for n, (label, net) in enumerate(nets.items()):
        yield Step(n, len(nets), f"maps of {label}")
        try:
            classes_of = compute.target_classes(net, fs, samples, s.target)
            drawn[label] = compute.class_maps(net, fs, samples, s.layer, s.method, classes_of)
            titles[label] = _title(label, net, classes_of, compute.predictions(net, fs, samples))
        except (AtlabError, RuntimeError) as error:
            failed.append((label, error))
    if not drawn:
        raise failed[0][1]
    yield Shown(notes=[f"{label} is left out: {sentence(error)}" for label, error in failed])
    yield from _draw(
        s,
        fs,
        samples,
        drawn,
        titles,
        tuple(map(compute.network_key, nets.values())),
        reference if reference in drawn else next(iter(drawn)),
    )
    yield _sounds(s, fs, samples, drawn, hear)
    if s.pair_by and s.score:
        yield from _score(s, fs, samples[0], {label: nets[label] for label in drawn}, values)
    else:
        yield Shown(figures={"agreement": None})


def _open(s: MapsState, fs, chosen) -> tuple[dict, list[str]]:
    """The networks by label, and what is odd about them; AtlabError if none can be opened."""
    nets, notes, failed = {}, [], []
    if len(chosen) > MOST:
        notes.append(f"{len(chosen)} networks are chosen; the first {MOST} are shown.")
    for name in [*chosen[:MOST], *([s.extra] if s.extra else [])]:
        try:
            label, net = studies.model(s.study, name)
        except AtlabError as error:
            failed.append(error)
            continue
        nets[label] = net
        if not studies.knows(net, fs):
            notes.append(
                f"{label} was trained on another data set than {fs.card['name']}: its classes may mean something else."
            )
    if not nets:
        raise failed[0] if failed else AtlabError("no network is chosen")
    return nets, [*notes, *map(sentence, failed)]


def _proposals(fs, most: int = 300) -> list[str]:
    return [str(name) for name in fs.factors["id"].iloc[:most]]


def _others(fs, row: int, factor: str, target: str) -> dict[str, int]:
    """What a clip can be paired with: values and the rows of their clips (the same row with each kind of noise)."""
    if factor == "noise" and "noise" not in fs.factor_names:
        return dict.fromkeys(KINDS, row)
    return compute.counterparts(fs, row, factor, target)


def _other(fs, s: MapsState, values: dict[str, int], value: str) -> compute.Sample:
    if value not in values:
        raise unknown(f"value of {s.pair_by!r} for the pair", value, values)
    if s.pair_by == "noise" and "noise" not in fs.factor_names:
        return compute.sample(fs, values[value], value, s.snr_db)
    return compute.sample(fs, values[value])


def _title(label: str, net, targets: list[int], predicted: list[int]) -> str:
    """The network, the class its map explains, and its answer where that is another."""
    names = [str(name) for name in net.card["classes"]]
    told = " / ".join(dict.fromkeys(names[t] for t in targets))
    answers = " / ".join(dict.fromkeys(names[p] for t, p in zip(targets, predicted, strict=True) if p != t))
    return f"{label}<br>{told}" + (f" (says {answers})" if answers else "")


def _draw(s: MapsState, fs, samples, drawn: dict, titles: dict, weights: tuple, reference: str) -> Iterator[Shown]:
    key = (
        tuple(x.key for x in samples),
        tuple(titles.items()),
        weights,
        s.layer,
        s.method,
        s.target,
        s.pair_by,
        s.align,
    )
    shift = compute.lag(fs, *samples) if len(samples) == 2 and s.align else 0
    scores = {titles[n]: compute.agreement(m[0], m[1], shift) for n, m in drawn.items()} if len(samples) == 2 else None
    pictures = [compute.picture(fs, one) for one in samples]

    def maps():
        late = f", second clip {shift * 128 / fs.sample_rate:+.2f} s" if shift and fs.sample_rate else ""
        minus = f", minus the map of {reference}" if s.difference else ""
        title = f"{s.method} of {s.layer}{minus}{late}"
        return plots.class_maps(
            pictures,
            {titles[n]: m for n, m in drawn.items()},
            s.opacity,
            titles[reference] if s.difference else "",
            scores,
            title,
        )

    yield Shown(figures={"maps": FIGURES.get(("maps", *key, s.opacity, s.difference and reference), maps)})

    def profiles():
        ground = pictures[0]
        power = 10 ** (ground.values / 10)
        shown = {"sound": power, **{n: m[0] for n, m in drawn.items()}}
        bands = {n: compute.by_band(z, ground.y) for n, z in shown.items()}
        names = next(iter(bands.values()))[1]
        over_time = {n: compute.by_time(z) for n, z in shown.items()}
        return plots.map_profiles(
            {n: b[0] for n, b in bands.items()}, names, over_time, ground.x, f"where relevance lies, {ground.caption}"
        )

    yield Shown(figures={"profiles": FIGURES.get(("profiles", *key), profiles) if fs.kind == "audio" else None})


def _sounds(s: MapsState, fs, samples, drawn: dict, hear: str) -> Shown:
    if fs.kind != "audio":
        return Shown(sounds={"clip": b"", "pair": b"", "selected": b""})
    if hear not in drawn:
        raise unknown("network to hear", hear, drawn)
    clips = [wav(one.array, fs.sample_rate) for one in samples]
    selected = compute.masked_sound(samples[0].array, drawn[hear][0], s.threshold)
    return Shown(
        sounds={
            "clip": clips[0],
            "pair": clips[1] if len(clips) > 1 else b"",
            "selected": wav(selected, fs.sample_rate),
        }
    )


def _score(s: MapsState, fs, first, nets: dict, values: dict[str, int]) -> Iterator[Step | Shown]:
    """Agreement of the maps with those of every other value's clip, network by network."""
    chosen = list(values)[: compute.MOST_PAIRS]
    others = [_other(fs, s, values, value) for value in chosen]
    shifts = [compute.lag(fs, first, other) if s.align else 0 for other in others]
    rows = []
    for n, (label, net) in enumerate(nets.items()):
        yield Step(n, len(nets), f"{len(others)} pairs of {label}")
        both = [first, *others]
        maps = compute.class_maps(net, fs, both, s.layer, s.method, compute.target_classes(net, fs, both, s.target))
        rows += [(label, v, compute.agreement(maps[0], m, k)) for v, m, k in zip(chosen, maps[1:], shifts, strict=True)]
    table = pd.DataFrame(rows, columns=["network", "pair", "agreement"])
    at = f" at {s.snr_db:g} dB SNR" if s.pair_by == "noise" else ""
    title = f"maps of {s.layer}: agreement over {len(chosen)} values of {s.pair_by}{at} (mean, 95 % t interval)"
    key = (
        "agreement",
        first.key,
        tuple(nets),
        s.layer,
        s.method,
        s.target,
        s.pair_by,
        s.snr_db,
        s.align,
        tuple(np.round(table["agreement"], 9)),
    )
    yield Shown(figures={"agreement": FIGURES.get(key, lambda: plots.map_agreements(table, title))})


def maps(
    study: str = "runs/demo_study", *, state: MapsState | None = None, threaded: bool | None = None, **fields
) -> Explorer:
    """Open the Grad-CAM explorer on a study, or at a `state`; further fields of `MapsState` by name."""
    controls = {
        "study": inputs.text("study", help="Folder of runs"),
        "data": inputs.text("data set", catalog.data_sets(), "The study's own if empty"),
        "clip": inputs.text("clip", help="Id of a clip"),
        "models": inputs.several("networks", rows=6, width="330px"),
        "extra": inputs.text("one more", help="A model file (model.safetensors)"),
        "layer": inputs.choice("layer"),
        "method": inputs.choice("method", METHODS),
        "target": inputs.choice("explain class", help="true: the clip's label in each network's task"),
        "opacity": inputs.number("opacity", 0, 1, 0.05),
        "difference": inputs.check("difference to"),
        "reference": inputs.choice("reference"),
        "pair_by": inputs.choice("pair by", [("no pair", "")]),
        "pair_value": inputs.choice("other clip"),
        "snr_db": inputs.number("SNR (dB)", -10, 40, 1, "Of noise as the other clip"),
        "align": inputs.check("align the two sounds"),
        "score": inputs.check("score over all other values"),
        "hear": inputs.choice("hear by", help="The network whose map selects what is played"),
        "threshold": inputs.number("map at least", 0, 0.95, 0.05, "0 plays the clip weighted by the map"),
    }
    return Explorer(
        "Grad-CAM invariance explorer",
        state or MapsState(study=study, **fields),
        steps,
        controls,
        _body,
        threaded,
        RESETS,
    )


def _body(e: Explorer) -> list[widgets.Widget]:
    which = widgets.VBox([e.row("study", "data", "clip", "extra")], layout={"flex": "1 1 auto"})
    how = e.row(
        "layer",
        "method",
        "target",
        "opacity",
        "difference",
        "reference",
        "pair_by",
        "pair_value",
        "snr_db",
        "align",
        "score",
    )
    players = widgets.Box(
        [e.sound("clip", "clip"), e.sound("selected", "what the map selects"), e.sound("pair", "other clip")],
        layout={"flex_flow": "row wrap"},
    )
    top = widgets.HBox([e.controls["models"], which])
    return [top, how, e.view("maps"), e.row("hear", "threshold"), players, e.view("profiles"), e.view("agreement")]
