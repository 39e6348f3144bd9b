"""Records of requests that vegeta never sent."""

from __future__ import annotations

from typing import Final

from model_load_test.components.results.checks import Check

NO_TARGETS: Final = "no targets to attack"
"""What vegeta records when a lazy target file runs out."""


def phantom_check(count: int) -> tuple[Check, ...]:
    """What is said of the records that were left out; nothing for none."""
    if not count:
        return ()
    detail = (
        f"vegeta ran out of targets and recorded {count} requests it never sent; they are left out. "
        "Give it more targets, or a shorter duration"
    )
    numbers = {"phantoms": float(count)}
    return (Check(code="phantom-records", detail=detail, consequence="WARNING", numbers=numbers),)
