"""A stand-in for the API server; the real one is used by the tests in ../cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the module beside this one; tests are no package

from api_server import ApiServer, connect_to, listening_api_server

from model_load_test.components.cluster.connection import Cluster


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with listening_api_server() as server:
        yield server


@pytest.fixture
def cluster(api: ApiServer) -> Cluster:
    """A connection to it that gives up after a second."""
    return connect_to(api.port)
