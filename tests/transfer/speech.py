"""A small set of embedded speech with its phones, for every test of acoustic models."""

from __future__ import annotations

from pathlib import Path

from atlab.data import FactorSet, synthetic_speech
from atlab.transfer.phones import transcripts


def speech(folder: Path) -> FactorSet:
    """All ten digits by ten speakers in two emotions, once: 200 clips."""
    fs = synthetic_speech(folder, speakers=10, emotions=2, repetitions=1, workers=1)
    transcripts.phones(fs, workers=1)
    return fs
