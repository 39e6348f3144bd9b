"""The image that every component runs in: one place, its tag the package's version."""

from __future__ import annotations

import os

from model_load_test.components.version import __version__

REPOSITORY = "ghcr.io/model-load-test/load-test"


def load_test_image() -> str:
    """The image reference put into compiled pipelines.

    `MODEL_LOAD_TEST_IMAGE`, read when a pipeline is compiled, names another one, such as a copy in
    a private registry.
    """
    return os.environ.get("MODEL_LOAD_TEST_IMAGE") or f"{REPOSITORY}:{__version__}"
