"""Data: factors and their crossing, clips with noise at any ratio, splits and their leaks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace

import ipywidgets as widgets

from atlab import plots
from atlab.data import catalog
from atlab.data.noise import KINDS
from atlab.data.splits import SPLITS
from atlab.data.summary import cramers_v, crossing
from atlab.errors import AtlabError
from atlab.explore import studies
from atlab.explore.cache import FIGURES
from atlab.explore.compute import data as compute
from atlab.explore.widgets import inputs
from atlab.explore.widgets.background import Step
from atlab.explore.widgets.explorer import Explorer, Page
from atlab.explore.widgets.shown import Shown
from atlab.explore.widgets.table import table_html
from atlab.labels import natural, plain

SPLIT = ("split", "target", "split_by", "pairing", "seed", "clips")
RESETS = {
    "study": ("data", "down", "across", "filter_by", "filter_value", "clip", *SPLIT),
    "data": ("down", "across", "filter_by", "filter_value", "clip", *SPLIT),
    "filter_by": ("filter_value", "clip"),
    "filter_value": ("clip",),
}


@dataclass(frozen=True)
class DataState:
    """What the data page shows; empty fields stand for the first there is.

    Attributes:
        study: folder of runs; data: a data set's folder or name, the study's if empty.
        down, across: the factors of the crossing table.
        filter_by, filter_value: only clips with this value of a factor are counted and offered.
        clip: its id; noise: "none" or a kind in `atlab.data.noise.KINDS`; snr_db: signal-to-noise ratio.
        split, target, split_by, pairing, seed, clips: see `atlab.experiment.Settings`; the study's own where they are empty or -1.
    """

    study: str = ""
    data: str = ""
    down: str = ""
    across: str = ""
    filter_by: str = ""
    filter_value: str = ""
    clip: str = ""
    noise: str = "none"
    snr_db: float = 10.0
    split: str = ""
    target: str = ""
    split_by: str = ""
    pairing: float = -1.0
    seed: int = -1
    clips: int = -1


def steps(s: DataState) -> Iterator[Step | Shown]:
    """What a state shows, part by part."""
    yield Shown(choices={"data": studies.data_options(s.data), "study": studies.finished()})
    if not s.data:
        s, offered = studies.settle(s)
        yield offered
    yield Step(0, 3, f"opening {s.data or s.study}" + "; it is rendered first" * (not catalog.is_there(s.data)))
    fs = studies.study_data(s.study, s.data)
    names = fs.factor_names
    down, across = s.down or names[0], s.across or names[min(1, len(names) - 1)]
    begin = compute.split_settings(fs, None if s.data else studies.settings_of(s.study))
    chosen = _chosen(s, begin)
    values = [] if not s.filter_by else sorted(map(str, fs.classes(s.filter_by)), key=natural)
    filter_value = s.filter_value or next(iter(values), "")
    yield Shown(
        choices={
            "filter_by": [("every clip", ""), *((n, n) for n in names)],
            "filter_value": values,
            **dict.fromkeys(("down", "across", "target", "split_by"), names),
        },
        resolved={
            **{"down": down, "across": across, "filter_value": filter_value},
            **{"split": chosen.kind, "target": chosen.target, "split_by": chosen.by},
            **{"pairing": chosen.pairing, "seed": chosen.seed, "clips": chosen.clips},
        },
    )
    rows = compute.matching(fs, s.filter_by, filter_value)
    clip = s.clip or str(fs.factors["id"].iloc[rows[0]])
    yield Shown(
        choices={"clip": compute.offered(fs, clip, rows)},
        resolved={"clip": clip},
        texts={"facts": _facts(fs, rows)},
        kind=fs.kind,
    )
    yield Step(1, 3, "counting")
    key = (fs.content_hash, s.filter_by, filter_value)
    yield Shown(
        figures={
            "counts": FIGURES.get(
                ("counts", *key), lambda: plots.factor_counts(compute.counts(fs, rows), f"{len(rows)} clips by factor")
            ),
            "crossing": FIGURES.get(("crossing", fs.content_hash, down, across), lambda: _crossing(fs, down, across)),
        }
    )
    yield _clip(fs, studies.row_of(fs, clip), s)
    yield Step(2, 3, "splitting")
    yield _split(fs, chosen, begin, bool(s.data))


def _chosen(s: DataState, begin: compute.SplitSettings) -> compute.SplitSettings:
    """What the split is made of, the study's own settings where the state leaves them open."""
    chosen = replace(
        begin,
        kind=s.split or begin.kind,
        target=s.target or begin.target,
        by=s.split_by or begin.by,
        pairing=begin.pairing if s.pairing < 0 else s.pairing,
        seed=begin.seed if s.seed < 0 else s.seed,
        clips=begin.clips if s.clips < 0 else s.clips,
    )
    same = (chosen.kind, chosen.by) == (begin.kind, begin.by)
    return chosen if same else replace(chosen, held_out=())


def _crossing(fs, down: str, across: str):
    strength = cramers_v(fs.labels(down), fs.labels(across))
    table = crossing(fs, down, across)
    table = table.loc[sorted(table.index, key=natural), sorted(table.columns, key=natural)]
    return plots.crossing_table(table, f"{down} and {across}: Cramer's V {strength}")


def _facts(fs, rows) -> str:
    card = fs.card
    rate = f", {fs.sample_rate} Hz" if fs.sample_rate else ""
    facts = [
        f"{len(fs)} {'pictures' if fs.kind == 'image' else f'{fs.kind} clips'}{rate}, {len(rows)} match",
        f"licence: {card.get('licence', 'not stated')}",
        f"content hash {fs.content_hash[:12]}",
    ]
    return f"<b>{plain(card['name'])}</b>: {plain(' · '.join(facts))}"


def _clip(fs, row: int, s: DataState) -> Shown:
    """Spectrogram and player of the clip, and of the clip with noise next to it."""
    caption = ", ".join(f"{name} {fs.factors[name].iloc[row]}" for name in fs.factor_names)
    key = (fs.content_hash, row, s.noise, s.snr_db if s.noise != "none" else 0)
    if fs.kind == "image":
        figure = FIGURES.get(
            ("picture", *key), lambda: plots.image_grid(fs.read([row]), [caption], str(fs.factors["id"].iloc[row]))
        )
        notes = ["Noise is mixed into sound: this data set holds images."] if s.noise != "none" else []
        return Shown(figures={"clip": figure}, notes=notes)
    name = str(fs.factors["id"].iloc[row])
    waves = {"clip": fs.read([row])[0]}
    if s.noise != "none":
        waves[f"with {s.noise} at {s.snr_db:g} dB SNR"] = compute.with_noise(
            waves["clip"], s.noise, s.snr_db, fs.sample_rate, name
        )

    def figure():
        magnitudes, times, frequencies = compute.spectrogram(fs, list(waves.values()))
        return plots.spectrograms(dict(zip(waves, magnitudes, strict=True)), times, frequencies, f"{name}: {caption}")

    sounds = [compute.wav(wave, fs.sample_rate) for wave in waves.values()]
    return Shown(
        figures={"clip": FIGURES.get(("clip", *key), figure)},
        sounds=dict(zip(("clean", "noisy"), sounds, strict=False)),
    )


def _split(fs, s: compute.SplitSettings, own: compute.SplitSettings, elsewhere: bool) -> Shown:
    """The parts and leaks of a split, and whether it is the study's `own` (`elsewhere`: the data is not the study's)."""
    if s.target == s.by:
        raise AtlabError(f"target and split by are both {s.target!r}: they must differ")
    split = compute.split_of(fs, *astuple(s))
    table = compute.leaks(fs, split, s.target, s.by)
    title = f"{s.kind} split of {fs.card['name']}"
    figure = FIGURES.get(("split", fs.content_hash, s), lambda: plots.split_parts(table, s.target, s.by, title))
    said = f"The split of the study's first student: {own}." if s == own else f"Not the study's split, which is: {own}."
    told = "" if elsewhere else f"<p>{plain(said)}</p>"
    return Shown(figures={"split": figure}, texts={"split": told + table_html(table.round(2))})


def _controls() -> dict[str, widgets.Widget]:
    return {
        "study": inputs.choice("study", help="Finished studies, the latest first"),
        "data": inputs.choice("data set", help="One that is not there yet is rendered first"),
        "down": inputs.choice("rows"),
        "across": inputs.choice("columns"),
        "filter_by": inputs.choice("only clips by", [("every clip", "")]),
        "filter_value": inputs.choice("its value"),
        "clip": inputs.choice("clip", help="n and p: the next and the previous one"),
        "noise": inputs.choice("noise", ("none", *KINDS)),
        "snr_db": inputs.number("SNR (dB)", -10, 40, 1, "Signal-to-noise ratio of the active part"),
        "split": inputs.choice("split", SPLITS),
        "target": inputs.choice("target"),
        "split_by": inputs.choice("split by"),
        "pairing": inputs.number(
            "pairing", 0, 1, 0.05, "Share of training clips whose factors are paired (confounded)"
        ),
        "seed": inputs.whole("seed", 0, 20),
        "clips": inputs.count("training clips", "At most; 0 for all"),
    }


def _body(e: Explorer) -> list[widgets.Widget]:
    before = inputs.button("◀ previous", "previous", lambda: e.browse("clip", -1), width="120px")
    after = inputs.button("next ▶", "next", lambda: e.browse("clip", 1), width="120px")
    factors = widgets.VBox([e.row("down", "across"), e.view("crossing"), e.view("counts")])
    player = e.sound("clip", clean=("clip", 0, 0), noisy=("with noise", 0, 1))
    mixed = e.row("noise", "snr_db")
    clip = widgets.VBox([widgets.Box([e.controls["clip"], before, after]), mixed, player, e.view("clip")])
    split = widgets.VBox([e.row(*SPLIT), e.text("split"), e.view("split")])
    tabs = widgets.Tab([factors, clip, split], titles=["Factors", "Clip and noise", "Split and leaks"])

    def suit(kind: str) -> None:
        mixed.layout.display = "none" if kind == "image" else None
        tabs.set_title(1, "Picture" if kind == "image" else "Clip and noise")
        e.controls["filter_by"].description = "only those by" if kind == "image" else "only clips by"

    e.on_kind(suit)
    return [e.row("study", "data", "filter_by", "filter_value"), e.text("facts"), tabs]


PAGE = Page("Data", DataState, steps, _controls, _body, RESETS)
