"""What the published code does with results: means over batches, swapped names, a choice among layers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from atlab.stats import expected_best_of


def batch_means(right: np.ndarray, batch: int = 13) -> dict[str, float]:
    """Accuracy over clips and, as published, the unweighted mean over batches: right answers [N] in test order.

    >>> batch_means(np.arange(27) < 26)
    {'clips': 0.963, 'batches': 0.6667}
    """
    parts = [right[start : start + batch] for start in range(0, len(right), batch)]
    means = [float(part.mean()) for part in parts]
    return {"clips": round(float(right.mean()), 4), "batches": round(float(np.mean(means)), 4)}


def precision_recall(true: np.ndarray, predicted: np.ndarray, positive: int) -> dict[str, float]:
    """Precision and recall of one class, and what the published code gives under these names: the other one."""
    hits = np.sum((true == positive) & (predicted == positive))
    precision, recall = float(hits / np.sum(predicted == positive)), float(hits / np.sum(true == positive))
    return {"precision": precision, "recall": recall, "published_precision": recall, "published_recall": precision}


def selection(
    seed_sd: float, clips: int, accuracy: float = 0.7, counts=tuple(range(1, 14)), trials: int = 20_000, seed: int = 0
) -> pd.DataFrame:
    """What choosing the best of k runs by validation accuracy gains in test accuracy where no run is truly better.

    Every run's true accuracy is normal around `accuracy` with the spread of seeds; validation and test accuracy are counts
    over `clips` clips each. Columns: tries, simulated and expected gain over a single run (shares of clips).
    """
    rng = np.random.default_rng(seed)
    most = max(counts)
    runs = np.clip(rng.normal(accuracy, seed_sd, (trials, most)), 0, 1)
    validation, test = (rng.binomial(clips, runs) / clips for _ in range(2))
    counting = (accuracy * (1 - accuracy) - seed_sd**2) / clips
    rows = []
    for k in counts:
        best = validation[:, :k].argmax(1)
        expected = expected_best_of(k, seed_sd**2 / np.sqrt(seed_sd**2 + counting))
        rows.append(
            {"tries": k, "simulated": float(test[np.arange(trials), best].mean() - accuracy), "expected": expected}
        )
    return pd.DataFrame(rows)
