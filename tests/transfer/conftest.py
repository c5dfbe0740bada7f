"""Data that tests of transfer share."""

from __future__ import annotations

import pytest

from tests.transfer.images import images
from tests.transfer.speech import speech


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    return images(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="session")
def spoken(tmp_path_factory):
    return speech(tmp_path_factory.mktemp("data") / "speech")
