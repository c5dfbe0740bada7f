"""Which runs are one arm: what a strategy does not read does not tell its arms apart."""

from __future__ import annotations

import pandas as pd

from atlab.analysis import arms


def test_a_strategy_of_ones_own_keeps_its_layers_and_betas_apart():
    rows = [
        {"strategy": "fading", "orthogonal": "speaker", "layers": layer, "beta": 2.0, "seed": 0}
        for layer in ("conv1", "conv5")
    ]
    table = pd.DataFrame(rows).assign(aggregation="gram", similarity="squared_cosine")
    found = arms(table)
    assert found["arm"].nunique() == 2 and found["beta"].tolist() == [2.0, 2.0]
    plain = arms(table.assign(strategy="wi"))
    assert set(plain["layers"]) == {""} and plain["beta"].tolist() == [0.0, 0.0]
