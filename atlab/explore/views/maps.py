"""Grad-CAM: where networks look on a clip and on one that differs from it in one factor, and how it sounds."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass, replace

import ipywidgets as widgets
import numpy as np

from atlab import plots
from atlab.errors import AtlabError, unknown
from atlab.explore import studies
from atlab.explore.cache import FIGURES
from atlab.explore.compute import maps as compute
from atlab.explore.compute import pairs, uploads
from atlab.explore.compute.data import offered, wav
from atlab.explore.widgets import inputs
from atlab.explore.widgets.background import Step
from atlab.explore.widgets.explorer import Explorer, Page
from atlab.explore.widgets.recorder import Recorder
from atlab.explore.widgets.shown import Shown, sentence
from atlab.invariance.maps.gradcam import METHODS

MOST = 8  # networks side by side
MORE = "more: method, explained class, differences, noise, a sound of your own, another model"
ALONE = "-"  # pair_by for no pair
RESETS = {
    "study": ("data", "clip", "network", "networks", "extra", "reference", "layer", "pair_by", "pair_value"),
    "data": ("clip", "pair_by", "pair_value"),
    "clip": ("pair_value",),
    "pair_by": ("pair_value",),
    "network": ("networks", "reference"),
    "networks": ("reference",),
}


@dataclass(frozen=True)
class MapsState:
    """What the Grad-CAM page shows; empty fields stand for a choice that suits the study.

    Attributes:
        study: folder of runs; data: another data set than the study's; clip: its id.
        network: the one that is heard, by label or run id; networks: all columns; extra: one more, by its model file.
        layer, method: of the maps; target: "true", "predicted" or a class by name.
        opacity: of the maps over the clip; difference: show the other maps minus that of `reference`.
        pair_by: a factor of the data (the orthogonal one if empty), "noise", "own sound", or "-" for no pair; pair_value: the other
            clip's value of it (a kind of noise, mixed in at snr_db; a sound file of yours); align: move maps by the lag between the two sounds before they are compared.
        pairs: how many pairs of clips the agreement is averaged over.
        threshold: of the map for what is heard; 0 weights the sound by the map.
    """

    study: str = ""
    data: str = ""
    clip: str = ""
    network: str = ""
    networks: tuple[str, ...] = ()
    extra: str = ""
    layer: str = ""
    method: str = "GradCAM"
    target: str = "true"
    opacity: float = 0.6
    difference: bool = False
    reference: str = ""
    pair_by: str = ""
    pair_value: str = ""
    snr_db: float = 10.0
    align: bool = True
    pairs: int = 12
    threshold: float = 0.0


def steps(s: MapsState) -> Iterator[Step | Shown]:
    """What a state shows, part by part."""
    s, studies_offered = studies.settle(s)
    yield studies_offered
    yield Step(0, 1, f"opening {s.study}")
    known = studies.networks(s.study)
    settings, fs = studies.settings_of(s.study), studies.study_data(s.study, s.data)
    s = replace(
        s, networks=s.networks or studies.first_choice(known, s.network), clip=s.clip or str(fs.factors["id"].iloc[0])
    )
    s = replace(s, pair_by=s.pair_by or _orthogonal(settings, fs))
    kinds = [
        ("no pair", ALONE),
        *((n, n) for n in dict.fromkeys([*fs.factor_names, *([pairs.NOISE, uploads.OWN] * (fs.kind == "audio"))])),
    ]
    yield Shown(
        choices={
            "networks": list(known),
            "pair_by": kinds,
            "clip": offered(fs, s.clip),
            "data": studies.data_options(s.data),
        },
        resolved={"networks": s.networks, "clip": s.clip, "pair_by": s.pair_by},
        texts={"rate": str(fs.sample_rate) if fs.kind == "audio" else ""},
        kind=fs.kind,
    )
    nets, notes = _open(s, fs)
    s = replace(s, reference=s.reference or next(iter(nets)), network=s.network or _heard(known, nets))
    classes = list(dict.fromkeys(str(name) for net in nets.values() for name in net.card["classes"]))
    if s.target not in ("true", "predicted", *classes):
        raise unknown("class", s.target, ["true", "predicted", *classes])
    yield Shown(
        choices={
            "layer": studies.layers_of(next(iter(nets.values()))),
            "target": [("the true label", "true"), ("predicted", "predicted"), *((name, name) for name in classes)],
            "reference": list(nets),
            "network": list(nets),
        },
        resolved={"reference": s.reference, "network": s.network},
        notes=notes,
    )
    samples, value, offer = _samples(s, fs, settings.target)
    yield offer
    if len(samples) > 1:
        yield Shown(texts={"pair": html.escape(pairs.told(fs, *samples, s.pair_by))})
    s = replace(s, pair_value=value)
    if not s.layer:
        acted = [known[n].layers for n in nets if n in known and known[n].strategy in ("at", "dual_at")]
        first = [layer for layers in acted[:1] for layer in reversed(layers)]
        for item in compute.deepest_with_maps(nets, fs, samples, s.method, s.target, first):
            if isinstance(item, Step):
                yield item
            else:
                s = replace(s, layer=item)
        yield Shown(resolved={"layer": s.layer})
    yield from _maps(s, fs, samples, nets)
    if len(samples) > 1 and s.pairs and s.pair_by != uploads.OWN:
        rows = studies.unheard(s.study, s.reference, fs)
        yield from pairs.averaged(s, fs, rows, settings.target, nets)


def _orthogonal(settings, fs) -> str:
    """The factor that anti-transfer acts against, if the data has it, else the first that is not the target."""
    named = [task.split("@")[0] for task in getattr(settings, "orthogonal", ())]
    return next((n for n in [*named, *fs.factor_names] if n in fs.factor_names and n != settings.target), ALONE)


def _heard(known: dict, nets: dict) -> str:
    """The first network that learned with anti-transfer, else the last one."""
    return next(
        (n for n in nets if n in known and "at" in known[n].strategy.split("_") and known[n].role != "teacher"),
        list(nets)[-1],
    )


def _open(s: MapsState, fs) -> tuple[dict, list[str]]:
    """The networks by label, and what is odd about them; AtlabError if none can be opened."""
    nets, notes, failed = {}, [], []
    if len(s.networks) > MOST:
        notes.append(f"{len(s.networks)} networks are chosen; the first {MOST} are shown.")
    for name in [*s.networks[:MOST], *([s.extra] if s.extra else [])]:
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


def _samples(s: MapsState, fs, target: str) -> tuple[list[compute.Sample], str, Shown]:
    """The clip and the other one of its pair, the value in which they differ, and what else could be chosen."""
    first = compute.sample(fs, studies.row_of(fs, s.clip))
    if s.pair_by == ALONE:
        return [first], "", Shown(choices={"pair_value": []})
    try:
        values = pairs.counterparts(fs, first.row, s.pair_by, target)
    except AtlabError as error:
        return [first], "", Shown(choices={"pair_value": []}, notes=[sentence(error)])
    value = s.pair_value or pairs.closest(fs, first.row, values, s.pair_by)[0]
    named = [(v.rpartition("/")[2] if s.pair_by == uploads.OWN else v, v) for v in values]
    offer = Shown(choices={"pair_value": named}, resolved={"pair_value": value})
    return [first, pairs.other(fs, values, value, s.pair_by, s.snr_db)], value, offer


def _maps(s: MapsState, fs, samples, nets: dict) -> Iterator[Step | Shown]:
    drawn: dict[str, np.ndarray] = {}
    titles, failed = {}, []
    for n, (label, net) in enumerate(nets.items()):
        yield Step(n, len(nets), f"maps of {label}")
        try:
            classes = compute.target_classes(net, fs, samples, s.target)
            drawn[label] = compute.class_maps(net, fs, samples, s.layer, s.method, classes)
            titles[label] = _title(label, net, classes, compute.predictions(net, fs, samples))
        except (AtlabError, RuntimeError) as error:
            failed.append((label, error))
    if not drawn:
        raise failed[0][1]
    yield Shown(notes=[f"{label} is left out: {sentence(error)}" for label, error in failed])
    weights = tuple(compute.network_key(nets[label]) for label in drawn)
    yield _draw(s, fs, samples, drawn, titles, weights)
    if fs.kind == "audio":
        yield _sounds(s, fs, samples, drawn)


def _title(label: str, net, targets: list[int], predicted: list[int]) -> str:
    """The network, the class its map explains, and its answer where that is another."""
    names = [str(name) for name in net.card["classes"]]
    told = " / ".join(dict.fromkeys(names[t] for t in targets))
    answers = " / ".join(dict.fromkeys(names[p] for t, p in zip(targets, predicted, strict=True) if p != t))
    return f"{label}<br>{told}" + (f" (says {answers})" if answers else "")


def _draw(s: MapsState, fs, samples, drawn: dict, titles: dict, weights: tuple) -> Shown:
    key = (tuple(x.key for x in samples), tuple(titles.items()), weights, s.layer, s.method, s.target, s.align)
    shift = pairs.lag(fs, *samples) if len(samples) == 2 and s.align else 0
    scores = {titles[n]: pairs.agreement(m[0], m[1], shift) for n, m in drawn.items()} if len(samples) == 2 else None
    pictures = [compute.picture(fs, one) for one in samples]
    reference = s.reference if s.reference in drawn else next(iter(drawn))

    def maps():
        late = f", second clip {shift * 128 / fs.sample_rate:+.2f} s" if shift and fs.sample_rate else ""
        minus = f", minus the map of {reference}" if s.difference else ""
        figure = plots.class_maps(
            pictures,
            {titles[n]: m for n, m in drawn.items()},
            s.opacity,
            titles[reference] if s.difference else "",
            scores,
            f"{s.method} of {s.layer}{minus}{late}",
            s.method,
        )
        return figure.update_layout(height=120 + 210 * len(pictures), margin_t=90)  # two rows fit a laptop's screen

    def profiles():
        ground = pictures[0]
        shown = {"sound": 10 ** (ground.values / 10), **{n: m[0] for n, m in drawn.items()}}
        bands = {n: compute.by_band(z, ground.y) for n, z in shown.items()}
        names = next(iter(bands.values()))[1]
        over_time = {n: compute.by_time(z) for n, z in shown.items()}
        title = f"where relevance lies, {ground.caption}"
        return plots.map_profiles({n: b[0] for n, b in bands.items()}, names, over_time, ground.x, title)

    figures = {"maps": FIGURES.get(("maps", *key, s.opacity, s.difference and reference), maps)}
    if fs.kind == "audio":
        figures["profiles"] = FIGURES.get(("profiles", *key), profiles)
    return Shown(figures=figures)


def _sounds(s: MapsState, fs, samples, drawn: dict) -> Shown:
    """The clips, and what the map of a network selects."""
    heard = next((n for n in drawn if n == s.network), None)
    if heard is None:
        raise unknown("network to hear", s.network, drawn)
    sounds = {name: wav(one.array, fs.sample_rate) for name, one in zip(("clip", "pair"), samples, strict=False)}
    selected = compute.masked_sound(samples[0].array, drawn[heard][0], s.threshold)
    return Shown(sounds=sounds | {"selected": wav(selected, fs.sample_rate)})


def _controls() -> dict[str, widgets.Widget]:
    return {
        "study": inputs.choice("study", help="Finished studies, the latest first"),
        "data": inputs.choice("data set"),
        "clip": inputs.choice("clip", help="n and p: the next and the previous one"),
        "networks": inputs.several("networks", rows=5, width="330px"),
        "extra": inputs.text("one more", help="A model file (model.safetensors)"),
        "layer": inputs.choice("layer", help="] and [: the next and the previous one"),
        "method": inputs.choice("method", METHODS),
        "target": inputs.choice("explain class", help="true: the clip's label in each network's task"),
        "opacity": inputs.number("opacity", 0, 1, 0.05),
        "difference": inputs.check("difference to"),
        "reference": inputs.choice("reference"),
        "pair_by": inputs.choice("pair by"),
        "pair_value": inputs.choice("other clip"),
        "snr_db": inputs.number("SNR (dB)", -10, 40, 1, "Of noise as the other clip"),
        "align": inputs.check("align the two sounds"),
        "pairs": inputs.whole("pairs", 0, 40, "Of clips, to average the agreement over"),
        "network": inputs.choice("hear by", help="The network whose map selects what is played"),
        "threshold": inputs.number("map at least", 0, 0.95, 0.05, "0 plays the clip weighted by the map"),
    }


def _body(e: Explorer) -> list[widgets.Widget]:
    recorder, said = Recorder().add_class("atlab-recorder"), widgets.HTML()

    def hear(name: str, samples: np.ndarray, rate: int) -> None:
        try:
            file, said.value = uploads.keep(name, samples, rate), ""
            e.change(pair_by=uploads.OWN, pair_value=file)
        except AtlabError as error:
            said.value = f"<div role='alert'>{html.escape(sentence(error))}</div>"

    def fit(rate: str) -> None:
        """A sound is resampled to the data's rate."""
        recorder.rate = int(rate or recorder.rate)

    recorder.on_sound(hear)
    own = widgets.HBox([widgets.Label("a sound of your own as the other clip:"), recorder, said])
    e.text("rate").observe(lambda change: fit(change["new"]), "value")
    rare = inputs.folded(
        MORE,
        e.row(
            "method", "target", "opacity", "difference", "reference", "snr_db", "align", "pairs", "threshold", "extra"
        ),
        own,
    )
    chosen = e.row("study", "data", "clip", "layer", "pair_by", "pair_value", "network")
    chosen.layout = {"flex_flow": "row wrap", "flex": "1 1 auto", "align_content": "flex-start"}
    player = e.sound("maps", clip=("clip", 0, -1), pair=("other clip", 1, -1), selected=("what the map selects", 0, -1))

    def suit(kind: str) -> None:
        """Controls of sound are not offered for pictures."""
        for part in (own, *(e.controls[name] for name in ("network", "snr_db", "align", "threshold"))):
            part.layout.display = "none" if kind == "image" else None
        rare.set_title(0, MORE.replace("noise, a sound of your own, ", "") if kind == "image" else MORE)
        e.controls["pairs"].tooltip = f"Of {'pictures' if kind == 'image' else 'clips'}, to average the agreement over"

    e.on_kind(suit)
    top = widgets.HBox([e.controls["networks"], chosen])
    return [
        top,
        rare,
        player,
        e.text("pair"),
        e.text("agreement"),
        e.view("maps"),
        e.view("agreement"),
        e.view("profiles"),
    ]


PAGE = Page("Grad-CAM", MapsState, steps, _controls, _body, RESETS)
