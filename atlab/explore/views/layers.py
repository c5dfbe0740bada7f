"""The layer explorer: two networks layer by layer on clips, and what anti-transfer and transfer at each layer did in studies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import ipywidgets as widgets
import numpy as np

from atlab import functional, plots
from atlab.data import catalog
from atlab.errors import AtlabError
from atlab.explore import studies
from atlab.explore.cache import FIGURES
from atlab.explore.compute import ablation, transfer
from atlab.explore.compute import layers as compute
from atlab.explore.compute.maps import network_key
from atlab.explore.widgets import inputs
from atlab.explore.widgets.background import Step
from atlab.explore.widgets.explorer import Explorer, Shown, sentence
from atlab.system.home import find

RESETS = {
    "study": ("data", "teacher", "student", "clip"),
    "data": ("clip",),
    "clips": ("clip",),
    "transfer": ("halves",),
}


@dataclass(frozen=True)
class LayersState:
    """What the layer explorer shows; empty fields stand for the first there is.

    Attributes:
        study: folder of runs; data: another data set than the study's.
        teacher, student: the two networks, by label, run id or model file.
        part: the clips: "all", "train", "validation" or "test" of the student's split; clips: how many; seed: which.
        aggregation, similarity: of the anti-transfer similarity.
        layer: whose Gram matrices and channels are shown, for clip number `clip` of the batch; channels: how many.
        effect: study effect of anti-transfer on "train and test", "train" or "test" accuracy.
        transfer: folder of a study of transfer, `study` itself if it is one; halves: the division of its classes, if it has halves.
    """

    study: str = "runs/demo_study"
    data: str = ""
    teacher: str = ""
    student: str = ""
    part: str = "all"
    clips: int = 24
    seed: int = 0
    aggregation: str = "gram"
    similarity: str = "squared_cosine"
    layer: str = "conv5"
    clip: int = 0
    channels: int = 5
    effect: str = "train and test"
    transfer: str = ""
    halves: str = ""


def steps(s: LayersState) -> Iterator[Step | Shown]:
    """What a state shows, part by part."""
    yield Step(0, 1, f"opening {s.study}")
    yield _effect(s)
    yield _transfer(s)
    known = studies.networks(s.study)
    first = studies.first_choice(known)
    trained = [n for n in first if known[n].role != "teacher"]
    at = [n for n in trained if known[n].strategy == "at"]
    names = s.teacher or first[0], s.student or (at or trained or first)[-1]
    yield Shown(
        choices={"teacher": list(known), "student": list(known)},
        resolved=dict(zip(("teacher", "student"), names, strict=True)),
    )
    (one, teacher), (two, student) = (studies.model(s.study, name) for name in names)
    fs = studies.study_data(s.study, s.data)
    layers = studies.layers_of(teacher), studies.layers_of(student)
    shared = [layer for layer in layers[0] if layer in layers[1]]
    rows = compute.batch_rows(fs, compute.study_path(s.study, names[1]), s.part, s.clips, s.seed)
    samples = compute.clip_samples(fs, rows)
    yield Shown(
        choices={"layer": shared, "clip": [c.caption for c in samples]},
        notes=_foreign(fs, {one: teacher, two: student}),
    )
    weights = network_key(teacher), network_key(student), rows.tobytes(), fs.content_hash
    for item in compute.likeness(teacher, student, fs, samples, layers, s.aggregation, s.similarity):
        if isinstance(item, Step):
            yield item
        else:
            yield _likeness(s, item, layers, (one, two), weights, len(samples))
    yield from _one_layer(s, fs, samples[min(s.clip, len(samples) - 1)], (one, two), (teacher, student), weights)


def _effect(s: LayersState) -> Shown:
    """The study's picture, or why there is none."""
    try:
        table = ablation.students(studies.study_table(s.study))
        chosen = ("train", "test") if s.effect == "train and test" else (s.effect,)
        effects = ablation.effect_by_layer(table, chosen)
    except AtlabError as error:
        return Shown(figures={"effect": None}, notes=[sentence(error)])
    title = f"{find(s.study).name}: AT minus baseline, paired by seed (95 % t interval)"
    key = ("effect", title, tuple(effects.round(12).itertuples(index=False, name=None)))
    return Shown(figures={"effect": FIGURES.get(str(key), lambda: plots.effect_by_layer(effects, title))})


def _transfer(s: LayersState) -> Shown:
    """What the study of transfer says, or why it says nothing."""
    nothing = Shown(figures={"transfer": None, "causes": None}, choices={"halves": []})
    ours = studies.study_table(s.study)
    name = s.transfer or (s.study if "treatment" in ours else "")
    if not name:
        return nothing
    try:
        known = transfer.divisions(transfer.study(name))
        if not known:
            matrix, against, missing = transfer.by_tasks(name, {find(s.study).name: ours})
            notes = [f"Anti-transfer's gain is not shown beside transfer: {missing}."] if missing else []
            return Shown(figures={"transfer": matrix, "causes": against}, choices={"halves": []}, notes=notes)
        halves = s.halves or known[0]
        figures = dict(zip(("transfer", "causes"), transfer.by_halves(name, halves), strict=True))
        return Shown(figures=figures, choices={"halves": known}, resolved={"transfer": name, "halves": halves})
    except AtlabError as error:
        nothing.notes.append(sentence(error))
        return nothing


def _foreign(fs, nets: dict) -> list[str]:
    return [
        f"{label} was trained on another data set than {fs.card['name']}."
        for label, net in nets.items()
        if not studies.knows(net, fs)
    ]


def _likeness(s: LayersState, found, layers, names, weights, clips: int) -> Shown:
    key = (*weights, s.aggregation, s.similarity, names)
    own = np.array([found.cka[layers[0].index(la), layers[1].index(la)] for la in found.layers])
    title = f"{names[1]} and {names[0]}, {clips} clips (95 % t interval over clips)"
    bars = FIGURES.get(
        ("similarity", *key),
        lambda: plots.layer_similarity(
            found.layers,
            found.similarity,
            found.low,
            found.high,
            own,
            f"AT similarity ({s.aggregation}, {s.similarity})",
            title,
        ),
    )
    heat = FIGURES.get(
        ("cka", *weights, names),
        lambda: plots.cka_map(found.cka, *layers, names, f"linear CKA (unbiased), {clips} clips"),
    )
    notes = [f"No anti-transfer similarity: {problem}" for problem in found.problems]
    return Shown(figures={"similarity": bars, "cka": heat}, notes=notes)


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
                "grams": FIGURES.get(("grams", *key), lambda: plots.gram_matrices(*matrices, channels, names, title))
            }
        )
    except AtlabError as error:
        yield Shown(figures={"grams": None}, notes=[sentence(error)])
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


def layers(
    study: str = "runs/demo_study", *, state: LayersState | None = None, threaded: bool | None = None, **fields
) -> Explorer:
    """Open the layer explorer on a study, or at a `state`; further fields of `LayersState` by name."""
    controls = {
        "study": inputs.text("study", help="Folder of runs"),
        "data": inputs.text("data set", catalog.data_sets(), "The study's own if empty"),
        "teacher": inputs.choice("teacher"),
        "student": inputs.choice("student"),
        "part": inputs.choice("clips of", ("all", "train", "validation", "test"), "Part of the student's split"),
        "clips": inputs.whole("clips", 4, 64),
        "seed": inputs.whole("draw", 0, 20, "Another draw of clips"),
        "aggregation": inputs.choice("aggregation", functional.AGGREGATIONS),
        "similarity": inputs.choice("similarity", functional.SIMILARITIES),
        "layer": inputs.choice("layer"),
        "clip": inputs.whole("clip", 0, 1, "Number in the batch"),
        "channels": inputs.whole("channels", 1, 8),
        "effect": inputs.choice("effect on", ("train and test", "train", "test")),
        "transfer": inputs.text("transfer", help="Folder of a study of transfer, such as runs/transferability"),
        "halves": inputs.choice("halves", help="Division of the classes into two tasks"),
    }
    return Explorer(
        "Layer explorer", state or LayersState(study=study, **fields), steps, controls, _body, threaded, RESETS
    )


def _body(e: Explorer) -> list[widgets.Widget]:
    def to(axis: str):
        def act(point: dict) -> None:
            if point.get(axis) in e.controls["layer"].options:
                e.change(layer=point[axis])

        return act

    compared = [e.row("part", "clips", "seed", "aggregation", "similarity"), e.view("similarity"), e.view("cka")]
    one = [e.row("layer", "clip", "channels"), e.view("grams"), e.view("channels")]
    effect = [e.row("effect"), e.view("effect")]
    moved = [e.row("transfer", "halves"), e.view("transfer"), e.view("causes")]
    e.views["similarity"].on_click(to("x"))
    e.views["cka"].on_click(to("x"))
    tabs = widgets.Tab(
        [widgets.VBox(c) for c in (compared, one, effect, moved)],
        titles=["Two networks", "One layer", "Effect in the study", "Transfer"],
    )
    return [e.row("study", "data", "teacher", "student"), tabs]
