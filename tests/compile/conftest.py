"""What `make compile` writes, made once for all tests."""

from pathlib import Path

import pytest

from model_load_test.pipelines.compiling import compile_all


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compiled")
    compile_all(folder)
    return folder
