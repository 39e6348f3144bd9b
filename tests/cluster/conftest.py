"""Tests on a Kubernetes cluster: see cluster_fixtures.py for when they run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the modules beside this one; tests are no package

from cluster_fixtures import (
    compiled_pipelines,
    deploy_server,
    disposable_cluster,
    images,
    kube,
    mark_as_cluster_tests,
    namespace,
)

__all__ = ["compiled_pipelines", "deploy_server", "disposable_cluster", "images", "kube", "namespace"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_as_cluster_tests(items, Path(__file__).parent)
