"""The anti-transfer loss as pure functions of feature maps: an aggregation of each, a similarity of both."""

from atlab.functional.aggregations import (
    AGGREGATIONS,
    clip_kernel,
    comp_mul,
    gram,
    max,
    mean,
    none,
    pairwise,
    position_gram,
    stochastic_pairwise,
    sum,
)
from atlab.functional.anti_transfer import (
    Aggregation,
    SimilarityName,
    anti_transfer_loss,
    describe,
    resolve,
    target_loss,
)
from atlab.functional.similarities import SIMILARITIES, cka, linear_cka, sigmoid_mse, squared_cosine

__all__ = [
    "AGGREGATIONS",
    "SIMILARITIES",
    "Aggregation",
    "SimilarityName",
    "anti_transfer_loss",
    "cka",
    "clip_kernel",
    "comp_mul",
    "describe",
    "gram",
    "linear_cka",
    "max",
    "mean",
    "none",
    "pairwise",
    "position_gram",
    "resolve",
    "sigmoid_mse",
    "squared_cosine",
    "stochastic_pairwise",
    "sum",
    "target_loss",
]
