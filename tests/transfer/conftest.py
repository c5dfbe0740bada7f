"""Embedded speech that several tests of transfer share."""

from __future__ import annotations

import pytest

from atlab.data import FactorSet, synthetic_speech


@pytest.fixture(scope="session")
def spoken(tmp_path_factory) -> FactorSet:
    """160 clips: ten words of four speakers in two emotions, twice."""
    out = tmp_path_factory.mktemp("spoken") / "set"
    return synthetic_speech(out, speakers=4, emotions=2, repetitions=2, workers=1)
