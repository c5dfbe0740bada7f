"""A small crossed data set and a study on it, shared by the tests of the explorers."""

from __future__ import annotations

import pytest

import atlab
from atlab import explore
from tests.explore.small_study import write_study


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """48 clips: 3 words x 4 speakers x 4 repetitions, 33 x 129 spectrograms."""
    return atlab.data.toy(tmp_path_factory.mktemp("data") / "toy", words=3, speakers=4, repetitions=4, samples=4096)


@pytest.fixture(scope="session")
def study(toy, tmp_path_factory):
    """Folder of a study of 18 runs (see `small_study`)."""
    return write_study(tmp_path_factory.mktemp("runs"), toy)


@pytest.fixture(autouse=True)
def _forget():
    yield
    explore.clear()
