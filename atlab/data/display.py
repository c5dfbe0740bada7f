"""A data set's summary to look at and listen to: in a notebook, and as text in a terminal."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from atlab.data.summary import Summary, summary
from atlab.labels import plain

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

BARS = "▁▂▃▄▅▆▇█"
LARGEST = (12, 10)  # rows and columns of a crossing table on the terminal


def show(fs, cross: Sequence[str] | None = None, clips: int = 10) -> None:
    """Display the summary in a notebook: tables, figures, some clips as players and spectrograms or images.

    `cross` as in `summary`; the errors are the same.
    """
    from IPython.display import HTML, Markdown, display

    from atlab import plots

    found = summary(fs, cross)
    facts = "\n".join(f"- {name}: {plain(text)}" for name, text in _facts(fs, found))
    display(Markdown(f"**{plain(fs.card['name'])}**: {plain(_title(fs, found))}\n\n{facts}"), found.factors)
    display(plots.factor_counts(found.counts, "clips of each value"))
    if found.cross is not None:
        title = f"{found.cross.index.name} and {found.cross.columns.name}: Cramer's V {found.association}"
        display(plots.crossing_table(found.cross, title))
    if len(found.counts) > 2:
        display(Markdown("Bias-corrected Cramer's V of all pairs of factors:"), found.associations.round(2))
    if found.durations is not None:
        display(plots.durations(fs.factors["duration"].to_numpy(), "duration of the recordings"))
    if len(found.published):
        display(Markdown("Counts found and published:"), found.published)
    rows = examples(fs, fs.factor_names[0], clips)
    captions = [_caption(fs, row) for row in rows]
    if fs.kind == "image":
        display(plots.image_grid(fs.read(rows), captions, "some of the images"))
        return
    display(HTML(_players(fs, rows, captions)))
    display(plots.spectrogram_grid(*spectrograms(fs, rows), captions, "some of the clips"))


def as_text(fs, cross: Sequence[str] | None = None, clips: int = 10) -> RenderableType:
    """The same for a terminal: something that `rich.print` prints. Raises the errors of `summary`."""
    from rich.console import Group
    from rich.text import Text

    found = summary(fs, cross)
    head = Text.assemble((str(fs.card["name"]), "bold"), f"  {_title(fs, found)}, in {fs.path}")
    facts = "\n".join(f"{name:10}{text}" for name, text in _facts(fs, found))
    blocks: list[RenderableType] = [head, Text(facts), Text(), _factor_text(found)]
    if found.cross is not None:
        one, other = found.cross.index.name, found.cross.columns.name
        line = f"\n{one} and {other}: Cramer's V {found.association}, {_cells(found.cross)}"
        blocks += [Text(line), *_crossing_text(found.cross)]
    if len(found.counts) > 2:
        pairs = itertools.combinations(found.associations, 2)
        strengths = ", ".join(f"{a} x {b} {found.associations.loc[a, b]:.2f}" for a, b in pairs)
        blocks.append(Text(f"\nCramer's V of all pairs: {strengths}"))
    if found.durations is not None:
        blocks.append(Text(f"\n{_histogram(fs.factors['duration'].to_numpy())}"))
    rows = examples(fs, fs.factor_names[0], clips)
    blocks.append(Text("\nsome clips"))
    blocks += [Text(f"  {fs.factors['id'].iloc[row]}: {_caption(fs, row)}") for row in rows]
    return Group(*blocks)


def examples(fs, factor: str, count: int = 10) -> list[int]:
    """Rows of clips to look at: drawn at random with a fixed seed, the classes of `factor` in turn."""
    shuffled = fs.factors[factor].sample(frac=1, random_state=0)
    turn = shuffled.groupby(shuffled).cumcount()
    return [int(row) for row in turn.sort_values(kind="stable").index[:count]]


def _title(fs, found: Summary) -> str:
    shape = " x ".join(map(str, fs.card["shape"][1:])) if "shape" in fs.card else "unknown shape"
    size = f"at {fs.sample_rate} Hz" if fs.sample_rate else f"of {shape}"
    return f"{found.clips} {fs.kind} clips {size}, {found.sources} sources"


def _facts(fs, found: Summary) -> Iterator[tuple[str, str]]:
    if found.durations is not None:
        d = found.durations
        span, middle = f"{d['shortest']:.2f} to {d['longest']:.2f} s", f"{d['5 %']:.2f} and {d['95 %']:.2f} s"
        text = f"{span}, median {d['median']:.2f} s, 90 % between {middle}, {d['total'] / 3600:.2f} h in all"
        yield "durations", text
    yield "dropped", ", ".join(f"{number} {reason}" for reason, number in found.dropped.items()) or "none"
    if len(found.published):
        wrong = found.published[found.published["difference"] != 0]
        lines = [f"{name} {row.found:,} instead of {row.published:,}" for name, row in wrong[:6].iterrows()]
        more = f" and {len(wrong) - 6} more" if len(wrong) > 6 else ""
        yield "published", ", ".join(lines) + more if lines else f"all {len(found.published)} counts found"
    yield "licence", str(fs.card.get("licence", "not stated"))
    yield "citation", str(fs.card.get("citation", "not stated"))
    yield "hash", fs.content_hash


def _caption(fs, row: int) -> str:
    clip = fs.factors.iloc[row]
    return ", ".join(f"{name} {clip[name]}" for name in fs.factor_names)


def _players(fs, rows: list[int], captions: list[str]) -> str:
    """HTML of one audio player per clip, side by side."""
    from IPython.display import Audio

    players = [
        f"<figure style='margin:0'><figcaption>{plain(caption)}</figcaption>"
        f"{Audio(wave.astype(np.float32) / 32768, rate=fs.sample_rate)._repr_html_()}</figure>"
        for wave, caption in zip(fs.read(rows), captions, strict=True)
    ]
    return f"<div style='display:flex;flex-wrap:wrap;gap:1em'>{''.join(players)}</div>"


def spectrograms(fs, rows: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Magnitudes [clips, time, frequency], at most 256 times (the loudest of each stretch); s; Hz."""
    import torch

    from atlab.data.spectrogram import Spectrogram

    front, waves = Spectrogram(sample_rate=fs.sample_rate), torch.from_numpy(fs.read(rows))
    magnitudes, times = front(waves)[:, 0].numpy(), front.times(waves.shape[1])
    starts = np.arange(0, len(times), -(-len(times) // 256))
    return np.maximum.reduceat(magnitudes, starts, axis=1), times[starts], front.frequencies


def _cells(table: pd.DataFrame) -> str:
    counts = table.to_numpy()
    empty = (counts == 0).sum()
    return f"{empty} of {counts.size} cells empty, {counts.min()} to {counts.max()} clips in a cell"


def _factor_text(found: Summary) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("factor", "classes", "clips in each", box=None, pad_edge=False, header_style="bold")
    for factor, counts in found.counts.items():
        shown = ", ".join(f"{value} {count}" for value, count in counts.head(12).items())
        more = f", and {len(counts) - 12} more" if len(counts) > 12 else ""
        table.add_row(Text(factor), str(len(counts)), Text(shown + more))
    return table


def _crossing_text(counts: pd.DataFrame) -> list[RenderableType]:
    """The crossing table; of many values the most frequent ones, and a line that says so."""
    from rich.table import Table
    from rich.text import Text

    rows, columns = (
        counts.sum(axis=axis).sort_values(ascending=False, kind="stable").index[:most]
        for axis, most in ((1, LARGEST[0]), (0, LARGEST[1]))
    )
    part = counts.loc[counts.index.isin(rows), counts.columns.isin(columns)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(Text(str(counts.index.name)))
    for value in part.columns:
        table.add_column(Text(str(value)), justify="right")
    for value, row in part.iterrows():
        table.add_row(Text(str(value)), *map(str, row))
    if part.shape == counts.shape:
        return [table]
    return [table, Text(f"(the most frequent of {counts.shape[0]} x {counts.shape[1]} values)")]


def _histogram(seconds: np.ndarray) -> str:
    """Numbers of clips by duration in 24 steps, as bars of text; one line for clips of one duration."""
    low, high = float(seconds.min()), float(seconds.max())
    if high - low < 1e-9:
        return f"duration   all {low:.2f} s"
    counts, _ = np.histogram(seconds, bins=24)
    # A bar for few clips is the lowest, none for no clip: no duration that exists is hidden.
    heights = np.ceil(counts / counts.max() * len(BARS)).astype(int)
    return f"duration   {low:.2f} s |{''.join(BARS[h - 1] if h else ' ' for h in heights)}| {high:.2f} s"


def caption(fs, row: int) -> str:
    """The clip's factors in one line, for Markdown and for figures."""
    clip = fs.factors.iloc[row]
    return ", ".join(f"{plain(name)} <b>{plain(clip[name])}</b>" for name in fs.factor_names)


def waveform(fs, row: int) -> np.ndarray:
    """The clip as float32 in [-1, 1], [T]."""
    return fs.read([row])[0].astype(np.float32) / 32768


def spectrogram_panels(
    fs, rows: Sequence[int], factors: Sequence[str]
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Arguments of `plots.spectrograms`: {caption: [time, frequency]}, seconds, Hz."""
    magnitudes, times, frequencies = spectrograms(fs, rows)
    names = [", ".join(str(fs.factors.iloc[row][f]) for f in factors) for row in rows]
    return dict(zip(names, magnitudes, strict=True)), times, frequencies
