"""What the tests of the results room share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for made_reports; tests are no package


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a report to a file and returns its path; JSON values are encoded."""

    def write_report(content: Any, name: str = "report") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return write_report
