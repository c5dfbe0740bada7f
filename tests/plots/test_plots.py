"""Figures carry the numbers that they were given, with axis names and units."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from atlab import plots


def titles(figure, axis: str) -> set:
    return {figure.layout[key].title.text for key in figure.layout if key.startswith(axis)}


def test_learning_curves_keep_target_and_anti_transfer_apart():
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [2.0, 1.0], "validation_loss": [2.1, 1.5]})
    assert len(plots.learning_curves({"baseline": history}).data) == 2
    with_at = history.assign(train_at=[0.5, 0.1], validation_at=[0.4, 0.2])
    figure = plots.learning_curves({"baseline": history, "AT": with_at})
    assert [list(t.y) for t in figure.data][-4:] == [[2.0, 1.0], [2.1, 1.5], [0.5, 0.1], [0.4, 0.2]]
    assert titles(figure, "xaxis") == {"epoch"} and "loss (nats)" in titles(figure, "yaxis")


def test_accuracy_by_strategy_shows_every_seed_and_the_interval():
    table = pd.DataFrame(
        {
            "strategy": ["baseline", "at"] * 3,
            "seed": [0, 0, 1, 1, 2, 2],
            "test_accuracy": [0.5, 0.6, 0.4, 0.7, 0.6, 0.5],
        }
    )
    figure = plots.accuracy_by_strategy(table, ["test_accuracy"])
    points, mean = figure.data[0], figure.data[1]
    assert list(points.y) == [0.5, 0.4, 0.6] and figure.layout.xaxis.ticktext == ("baseline", "AT")
    assert mean.y[0] == pytest.approx(0.5) and mean.error_y.array[0] == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-3)


def test_confusion_matrix_is_rows_of_true_classes():
    figure = plots.confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), ["a", "b"])
    assert figure.data[0].z.tolist() == [[0.5, 0.5], [0, 1]]
    assert (titles(figure, "xaxis"), titles(figure, "yaxis")) == ({"predicted"}, {"true"})


def test_spectrograms_are_in_decibel_with_hertz_and_seconds():
    magnitude = np.array([[1.0, 0.1], [10.0, 0.0]])
    figure = plots.spectrogram(magnitude, np.array([0, 0.008]), np.array([0, 62.5]))
    assert figure.data[0].z.tolist() == [[-20, 0], [-40, -80]]
    assert titles(figure, "xaxis") == {"time (s)"} and "frequency (Hz)" in titles(figure, "yaxis")


def test_crossing_table_counts():
    counts = pd.crosstab(pd.Series(["a", "a", "b"], name="word"), pd.Series(["x", "y", "x"], name="speaker"))
    figure = plots.crossing_table(counts)
    assert figure.data[0].z.tolist() == [[1, 1], [1, 0]] and titles(figure, "xaxis") == {"speaker"}
