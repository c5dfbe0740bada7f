"""The sizes that the paper prints for its eq. 4, compared with what the equation gives."""

from __future__ import annotations

import pandas as pd

from atlab.cost import at_memory, vgg16


def printed_figures(batch: int = 13) -> pd.DataFrame:
    """The sizes that section 5.7 prints, and what eq. 4 gives for them, in MB (10^6 bytes).

    Columns: what, printed, one_clip (the case that the section names), formula (this batch), code (this batch, with the
    authors' one Gram matrix of (batch size x channels)² entries). Figures of layers are #G_l + #F_l, without the 2.

    >>> printed_figures()[["what", "printed", "one_clip", "formula"]].round(1).values.tolist()
    [['E_t', 1150, 58.9, 58.9], ['conv1', 62, 4.2, 54.3], ['conv13', 714, 1.2, 15.1]]
    """
    network = vgg16()
    e_t = at_memory(network, "conv1").teacher / 1e6
    rows: list[dict] = [{"what": "E_t", "printed": 1150, "one_clip": e_t, "formula": e_t, "code": e_t}]
    for layer, printed in (("conv1", 62), ("conv13", 714)):
        row: dict = {"what": layer, "printed": printed}
        for name, given in (
            ("one_clip", {"batch": 1}),
            ("formula", {"batch": batch}),
            ("code", {"batch": batch, "published": True}),
        ):
            memory = at_memory(network, layer, **given)
            row[name] = (memory.grams + memory.features) / 2 / 1e6
        rows.append(row)
    return pd.DataFrame(rows)


def printed_sentence(figures: pd.DataFrame) -> str:
    """What `printed_figures` shows, in words (Markdown).

    >>> printed_sentence(printed_figures()).splitlines()[0]
    'The printed sizes do not follow from eq. 4 for one clip:'
    """
    e_t, *layers = figures.itertuples()
    lines = [f"- {e_t.what}: {e_t.printed} MB printed, {e_t.printed / e_t.formula:.1f} times the size of the weights."]
    lines += [
        f"- {row.what}: {row.printed} MB printed, {row.printed / row.one_clip:.1f} times eq. 4 for one clip, "
        f"{row.printed / row.formula:.1f} times eq. 4 for the batch, {row.printed / row.code:.1f} times the code's."
        for row in layers
    ]
    return "\n".join(
        [
            "The printed sizes do not follow from eq. 4 for one clip:",
            "",
            *lines,
            "",
            f"By eq. 4 the last layer takes {figures['formula'].iloc[2] / figures['formula'].iloc[1]:.2f} times the first layer's memory; "
            f"as printed {figures['printed'].iloc[2] / figures['printed'].iloc[1]:.1f} times, with the code's Gram matrix "
            f"{figures['code'].iloc[2] / figures['code'].iloc[1]:.1f} times.",
        ]
    )


def first_and_last(batch: int = 13) -> dict[str, float]:
    """`printed_figures` as numbers in MB: eq. 4 for one clip (conv1, conv13), the code's for a batch (conv1_code, conv13_code).

    >>> {name: round(value, 1) for name, value in first_and_last().items()}
    {'conv1': 4.2, 'conv1_code': 56.9, 'conv13': 1.2, 'conv13_code': 178.7}
    """
    figures = printed_figures(batch).set_index("what")
    columns = {"": "one_clip", "_code": "code"}
    return {
        f"{layer}{end}": float(figures.loc[layer, column])
        for layer in ("conv1", "conv13")
        for end, column in columns.items()
    }
