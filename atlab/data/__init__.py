"""Data sets as FactorSets: written, split, mixed with noise, turned into spectrograms and batches."""

from atlab.data import splits
from atlab.data.build import BrokenInput, Clip, build
from atlab.data.factorset import FactorSet
from atlab.data.frontend import Spectrogram, frontend, input_statistics
from atlab.data.loaders import Batch, Batches, InMemory
from atlab.data.splits import Split
from atlab.data.toy import toy

__all__ = [
    "Batch", "Batches", "BrokenInput", "Clip", "FactorSet", "InMemory", "Spectrogram", "Split",
    "build", "frontend", "input_statistics", "splits", "toy",
]  # fmt: skip
