"""What is said of a stream whose last line is cut."""

from __future__ import annotations

from pathlib import Path

from model_load_test.components.results.checks import Check


def truncated(file: str, line: int) -> Check:
    """The check for a stream that ends within a line."""
    return Check(
        code="truncated",
        detail=(
            f"{Path(file).name} ends within line {line}: its last request is lost and others may be. "
            "Repeat the run, or copy the whole file"
        ),
        consequence="INVALID",
        numbers={"line": float(line)},
    )
