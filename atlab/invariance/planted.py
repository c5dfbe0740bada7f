"""Networks whose dependence on a speaker is built in, to learn reading the card and to test every measure.

Clips of 8 words by 6 speakers; features are drawn, and the prediction is a fixed function of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from atlab.invariance import removal, use
from atlab.invariance.probes import presence
from atlab.stats import accuracy as intervals

WORDS, SPEAKERS, SIZE = 8, 6, 24
SLOPE = 2.0  # of the word's scores


@dataclass(frozen=True)
class Planted:
    """Features [N, 24] and how the prediction reads them: scores = SLOPE * (features @ reads)."""

    features: np.ndarray
    factors: pd.DataFrame
    reads: np.ndarray

    def probabilities(self, features: np.ndarray | None = None) -> np.ndarray:
        """Predicted [N, words], of these features or of changed ones."""
        scores = SLOPE * ((self.features if features is None else features) @ self.reads)
        scores = np.exp(scores - scores.max(1, keepdims=True))
        return scores / scores.sum(1, keepdims=True)


def networks(clips: int = 12, strength: float = 3.0, seed: int = 0) -> dict[str, Planted]:
    """Five networks by name, on the same clips (`clips` of every word by every speaker).

    Feature numbers 0 to 7 hold the word, 8 to 13 the speaker where it is linear, 14 to 19 where it is not, the rest noise.

    >>> {name: network.features.shape for name, network in networks(2).items()}["free"]
    (96, 24)
    """
    rng = np.random.default_rng(seed)
    word, speaker = (part.repeat(clips) for part in np.divmod(np.arange(WORDS * SPEAKERS), SPEAKERS))
    factors = pd.DataFrame({"word": word, "speaker": speaker})
    noise = rng.standard_normal((len(word), SIZE))
    noise[:, :WORDS] += 3 * np.eye(WORDS)[word]
    linear, bent = noise.copy(), noise.copy()
    linear[:, WORDS : WORDS + SPEAKERS] += strength * np.eye(SPEAKERS)[speaker]
    bent[:, 14:20] *= 1 + strength * np.eye(SPEAKERS)[speaker]  # all means stay 0, sizes tell
    reads = np.zeros((SIZE, WORDS))
    reads[:WORDS] = np.eye(WORDS)
    uses = np.zeros((SIZE, WORDS))
    uses[WORDS : WORDS + SPEAKERS] = np.eye(SPEAKERS, WORDS)
    return {
        "free": Planted(noise, factors, reads),
        "linear, unused": Planted(linear, factors, reads),
        "non-linear, unused": Planted(bent, factors, reads),
        "used a little": Planted(linear, factors, reads + 0.6 * uses),
        "used much": Planted(linear, factors, reads + 1.2 * uses),
    }


def card(of: dict[str, Planted], seed: int = 0) -> pd.DataFrame:
    """Every measure of every network: a row per network; columns as in the tutorial that reads them."""
    rows = {}
    for name, network in of.items():
        labels = network.factors["speaker"]
        table = presence.presence(
            {"features": network.features}, {"speaker": labels}, probes=("linear", "mlp"), seed=seed, progress=False
        )
        linear, mlp = (table[table["probe"] == kind].iloc[0] for kind in ("linear", "mlp"))
        codes, p = network.factors["word"].to_numpy(), network.probabilities()
        accuracy = intervals.accuracy(p.argmax(1) == codes)
        pairs = use.pairs(network.factors, "speaker", ["word"])
        excess = use.consistency(p, codes, pairs).set_index(["measure", "kind"]).loc[("change", "excess")]
        centre, change = (
            part.numpy()
            for part in removal.leace(torch.from_numpy(network.features), torch.from_numpy(labels.to_numpy().copy()))
        )
        without = network.probabilities(network.features - (network.features - centre) @ change)
        rows[name] = {
            "accuracy": accuracy.mean,
            "linear": linear["balanced_accuracy"],
            "low": linear["low"],
            "high": linear["high"],
            "chance": linear["chance"],
            "mlp": mlp["balanced_accuracy"],
            "control": linear["control"],
            "bits": linear["bits"],
            "excess": excess["value"],
            "excess_low": excess["low"],
            "excess_high": excess["high"],
            "erased": float(np.mean(without.argmax(1) == codes)),
        }
    return pd.DataFrame(rows).T.rename_axis("network")


def figure(table: pd.DataFrame):
    """Presence (linear and perceptron) against use, a point per network -> Figure."""
    import plotly.graph_objects as go

    from atlab.plots.style import COLOURS, LAYOUT

    fig, sides = go.Figure(), np.where(table["excess"] > table["excess"].max() / 2, "middle left", "middle right")
    for column, label, colour, symbol in (
        ("linear", "linear probe", COLOURS[0], "circle"),
        ("mlp", "perceptron", COLOURS[1], "diamond"),
    ):
        fig.add_trace(
            go.Scatter(
                x=table["excess"],
                y=table[column],
                text=table.index,
                mode="markers+text" if column == "mlp" else "markers",
                name=label,
                textposition=sides,
                marker={"size": 11, "color": colour, "symbol": symbol},
            )
        )
    fig.add_hline(y=float(table["chance"].iloc[0]), line={"dash": "dot", "color": "grey"}, annotation_text="chance")
    fig.update_xaxes(title_text="use: change of log-probability beyond repetitions (nats)").update_yaxes(
        title_text="presence: balanced accuracy"
    )
    return fig.update_layout(title="What is held and what is used", height=440, width=760, **LAYOUT)
