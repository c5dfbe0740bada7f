"""Layers: networks layer by layer on clips, and what anti-transfer and transfer at each layer did in studies."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import ipywidgets as widgets

from atlab import functional, plots
from atlab.errors import AtlabError
from atlab.explore import studies
from atlab.explore.cache import FIGURES
from atlab.explore.compute import ablation, data, transfer
from atlab.explore.compute import layers as compute
from atlab.explore.compute.maps import network_key, sample
from atlab.explore.widgets import inputs
from atlab.explore.widgets.background import Step
from atlab.explore.widgets.explorer import Explorer, Page
from atlab.explore.widgets.shown import Shown, sentence
from atlab.system.home import find

IDLE = ("baseline", "wi")  # strategies without a layer
RESETS = {
    "study": ("data", "teacher", "network", "clip", "transfer", "halves"),
    "data": ("clip",),
    "transfer": ("halves",),
}
NO_EFFECT = "To see what anti-transfer at each layer did, a study needs runs of strategy AT and baselines of the same seeds: `atlab sweep fig6_layers`."
NO_TRANSFER = "To see how well each layer transfers, choose a study of transfer: `atlab sweep transferability` and `atlab sweep transfer_matrix` make such studies."


@dataclass(frozen=True)
class LayersState:
    """What the layers page shows; empty fields stand for a choice that suits the study.

    Attributes:
        study: folder of runs; data: another data set than the study's.
        teacher, network: the orthogonal network and a student, by label, run id or model file; its arm is drawn over the baseline's.
        part: the clips: "all", "train", "validation" or "test" of the student's split; clips: how many; seed: which.
        aggregation, similarity: of the anti-transfer similarity.
        layer: whose Gram matrices and channels are shown, for a clip by its id; channels: how many.
        effect: study effect of anti-transfer on "train and test", "train" or "test" accuracy.
        transfer: folder of a study of transfer, `study` itself if it is one; halves: the division of its classes, if it has halves.
    """

    study: str = ""
    data: str = ""
    teacher: str = ""
    network: str = ""
    part: str = "all"
    clips: int = 24
    seed: int = 0
    aggregation: str = "gram"
    similarity: str = "squared_cosine"
    layer: str = ""
    clip: str = ""
    channels: int = 5
    effect: str = "train and test"
    transfer: str = ""
    halves: str = ""


def steps(s: LayersState) -> Iterator[Step | Shown]:
    """What a state shows, part by part."""
    s, offered = studies.settle(s)
    yield offered
    yield Step(0, 1, f"opening {s.study}")
    yield _effect(s)
    yield _transfer(s)
    known = studies.networks(s.study)
    first = studies.first_choice(known)
    teacher = next((n for n in reversed(first) if known[n].role == "teacher"), first[0])
    at = [n for n in first if known[n].strategy in ("at", "dual_at") and known[n].role != "teacher"]
    s = replace(s, teacher=s.teacher or teacher, network=s.network or (at or [*first])[-1])
    fs = studies.study_data(s.study, s.data)
    s = replace(s, clip=s.clip or str(fs.factors["id"].iloc[0]))
    yield Shown(
        choices={
            "teacher": list(known),
            "network": list(known),
            "data": studies.data_options(s.data),
            "clip": data.offered(fs, s.clip),
        },
        resolved={"teacher": s.teacher, "network": s.network, "clip": s.clip},
        kind=fs.kind,
    )
    (one, net), (two, student) = (studies.model(s.study, name) for name in (s.teacher, s.network))
    layers = studies.layers_of(net), studies.layers_of(student)
    shared = [layer for layer in layers[0] if layer in layers[1]]
    acted = known[two].layers if two in known and known[two].strategy not in IDLE else ()
    s = replace(
        s,
        layer=s.layer
        or next((layer for layer in acted if layer in shared), shared[len(shared) // 2] if shared else ""),
    )
    notes = _foreign(fs, {one: net, two: student})
    yield Shown(choices={"layer": shared}, resolved={"layer": s.layer}, notes=notes)
    rows = compute.batch_rows(fs, compute.study_path(s.study, s.network), s.part, s.clips, s.seed)
    samples = compute.clip_samples(fs, rows)
    arms = _arms(known, one, two)
    opened = [student, *(studies.model(s.study, label)[1] for label in arms if label != two)]
    named = [arms.get(two, two), *(arm for label, arm in arms.items() if label != two)]
    for item in compute.likeness(net, opened, fs, samples, s.aggregation, s.similarity):
        if isinstance(item, Step):
            yield item
        else:
            yield _likeness(s, item, layers, (one, two), named, acted, tuple(map(network_key, (net, *opened))))
    chosen = sample(fs, studies.row_of(fs, s.clip))
    yield from _one_layer(s, fs, chosen, (one, two), (net, student), tuple(map(network_key, (net, student))))


def _arms(known: dict, teacher: str, student: str) -> dict[str, str]:
    """The networks that are averaged, with the names of their arms: the student's and the baseline's, all seeds."""
    own = known[student].arm if student in known else ""
    chosen = [n for n in known.values() if n.role != "teacher" and n.label != teacher]
    return {n.label: n.arm for n in chosen if n.arm == own or n.strategy == "baseline"}


def _effect(s: LayersState) -> Shown:
    """The study's picture, or what would fill it."""
    try:
        table = ablation.students(studies.study_table(s.study))
        chosen = ("train", "test") if s.effect == "train and test" else (s.effect,)
        effects = ablation.effect_by_layer(table, chosen)
    except AtlabError as error:
        return Shown(texts={"effect": _missing(error, NO_EFFECT)})
    title = f"{find(s.study).name}: AT minus baseline, paired by seed (95 % t interval)"
    key = ("effect", title, tuple(effects.round(12).itertuples(index=False, name=None)))
    return Shown(figures={"effect": FIGURES.get(str(key), lambda: plots.effect_by_layer(effects, title))})


def _transfer(s: LayersState) -> Shown:
    """What the study of transfer says, or what would fill its place."""
    ours, every = studies.study_table(s.study), transfer.studies_of_transfer()
    name = s.transfer or (s.study if "treatment" in ours else "")
    offered = {"transfer": [("none", ""), *((n, n) for n in dict.fromkeys([*filter(None, [name]), *every]))]}
    if not name:
        return Shown(choices=offered | {"halves": []}, texts={"transfer": f"<p>{_code(NO_TRANSFER)}</p>"})
    try:
        known = transfer.divisions(transfer.study(name))
        if not known:
            matrix, against, missing = transfer.by_tasks(name, {find(s.study).name: ours})
            notes = [f"Anti-transfer's gain is not shown next to transfer: {missing}."] if missing else []
            figures = {"transfer": matrix} | ({"causes": against} if against else {})
            return Shown(figures=figures, choices=offered | {"halves": []}, resolved={"transfer": name}, notes=notes)
        halves = s.halves or known[0]
        figures = dict(zip(("transfer", "causes"), transfer.by_halves(name, halves), strict=True))
        return Shown(
            figures=figures, choices=offered | {"halves": known}, resolved={"transfer": name, "halves": halves}
        )
    except AtlabError as error:
        text = _missing(error, NO_TRANSFER)
        return Shown(choices=offered | {"halves": []}, notes=[sentence(error)], texts={"transfer": text})


def _missing(error: AtlabError, instead: str) -> str:
    return f"<p>{html.escape(sentence(error))}.</p><p>{_code(instead)}</p>"


def _code(text: str) -> str:
    return re.sub("`(.+?)`", r"<code>\1</code>", text)


def _foreign(fs, nets: dict) -> list[str]:
    return [
        f"{label} was trained on another data set than {fs.card['name']}."
        for label, net in nets.items()
        if not studies.knows(net, fs)
    ]


def _likeness(s: LayersState, found, layers, names, arms, acted, weights) -> Shown:
    key = (*weights, s.part, s.clips, s.seed, s.aggregation, s.similarity, names)
    ends = (-1.0 if s.similarity == "cka" else 0.0, 1.0)
    averaged = compute.over_seeds(found.layers, found.similarity, arms, ends)
    what = f"AT similarity ({s.aggregation}, {s.similarity}) to {names[0]}"
    title = f"{what}, {s.clips} clips (mean and 95 % t interval over seeds)"
    lines = FIGURES.get(("similarity", *key), lambda: plots.layer_similarity(averaged, acted, title))
    heat = FIGURES.get(
        ("cka", *key), lambda: plots.cka_map(found.cka, *layers, names, f"linear CKA (unbiased), {s.clips} clips")
    )
    notes = [f"No anti-transfer similarity: {problem}" for problem in found.problems]
    return Shown(figures={"similarity": lines, "cka": heat}, notes=notes)


def _one_layer(s: LayersState, fs, sample, names: tuple[str, str], nets: tuple, weights) -> Iterator[Step | Shown]:
    """Gram matrices and channel maps of the chosen layer and clip."""
    yield Step(0, 1, f"reading {s.layer}")
    teacher, student = (compute.layer_features(net, fs, sample, s.layer) for net in nets)
    key = (*weights, s.layer, sample.key, names)
    try:
        *matrices, cosine, channels = compute.grams(teacher, student)
        title = f"Gram matrices of {s.layer}, {sample.caption}: cosine {cosine:.3f}, squared {cosine**2:.3f}"
        if len(channels) < len(teacher):
            title += f" ({len(channels)} of {len(teacher)} channels)"
        yield Shown(
            figures={
                "grams": FIGURES.get(
                    ("grams", *key),
                    lambda: plots.gram_matrices(*matrices, channels, names, title).update_annotations(font_size=11),
                )
            }
        )
    except AtlabError as error:
        yield Shown(notes=[sentence(error)])
    numbers = compute.strongest(teacher, s.channels)
    own = numbers if len(student) == len(teacher) else compute.strongest(student, s.channels)
    rows = {
        f"teacher: {names[0]}": (numbers.tolist(), teacher[numbers]),
        f"student: {names[1]}": (own.tolist(), student[own]),
    }
    if fs.kind == "audio":
        extent, axes = ((len(sample.array) / fs.sample_rate, fs.sample_rate / 2), ("time (s)", "frequency (Hz)"))
    else:
        extent, axes = sample.array.shape[1:], ("row (px)", "column (px)")
    title = f"the teacher's strongest channels at {s.layer}, {sample.caption}"
    yield Shown(
        figures={
            "channels": FIGURES.get(
                ("channels", *key, s.channels), lambda: plots.channel_maps(rows, extent, axes, title)
            )
        }
    )


def _controls() -> dict[str, widgets.Widget]:
    return {
        "study": inputs.choice("study", help="Finished studies, the latest first"),
        "data": inputs.choice("data set"),
        "teacher": inputs.choice("teacher"),
        "network": inputs.choice("student"),
        "part": inputs.choice("clips of", ("all", "train", "validation", "test"), "Part of the student's split"),
        "clips": inputs.whole("clips", 4, 64),
        "seed": inputs.whole("draw", 0, 20, "Another draw of clips"),
        "aggregation": inputs.choice("aggregation", functional.AGGREGATIONS),
        "similarity": inputs.choice("similarity", functional.SIMILARITIES),
        "layer": inputs.choice("layer", help="] and [: the next and the previous one"),
        "clip": inputs.choice("clip", help="n and p: the next and the previous one"),
        "channels": inputs.whole("channels", 1, 8),
        "effect": inputs.choice("effect on", ("train and test", "train", "test")),
        "transfer": inputs.choice("transfer", [("none", "")], help="A study of transfer"),
        "halves": inputs.choice("halves", help="Division of the classes into two tasks"),
    }


def _body(e: Explorer) -> list[widgets.Widget]:
    def open_layer(point: dict) -> None:
        if point.get("x") in e.controls["layer"].options:
            e.change(layer=point["x"])

    def look(point: dict) -> None:
        """See the maps of the network that was trained with anti-transfer at the layer that was clicked."""
        layer = point.get("customdata")
        trained = [n for n in studies.networks(e.state.study).values() if n.layers == (layer,) and n.strategy == "at"]
        if trained:
            best = max(trained, key=lambda n: n.validation)
            e.go("grad-cam", study=e.state.study, network=best.label, layer=layer)

    rare = inputs.folded(
        "more: clips, aggregation, similarity", e.row("part", "clips", "seed", "aggregation", "similarity")
    )
    compared = [e.view("similarity"), e.view("cka"), rare]
    one = [e.row("layer", "clip", "channels"), e.view("grams"), e.view("channels")]
    hint = widgets.Label("A click on a layer opens its best network in Grad-CAM.")
    effect = [widgets.Box([e.controls["effect"], hint]), e.text("effect"), e.view("effect")]
    moved = [e.row("transfer", "halves"), e.text("transfer"), e.view("transfer"), e.view("causes")]
    e.views["similarity"].on_click(open_layer)
    e.views["cka"].on_click(open_layer)
    e.views["effect"].on_click(look)
    tabs = widgets.Tab(
        [widgets.VBox(c) for c in (compared, one, effect, moved)],
        titles=["Baseline and AT by layer", "One layer", "Effect in the study", "Transfer"],
    )
    return [e.row("study", "data", "teacher", "network"), tabs]


PAGE = Page("Layers", LayersState, steps, _controls, _body, RESETS)
