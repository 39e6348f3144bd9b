"""What becomes of a run that found nothing to be compared with."""

from __future__ import annotations

from typing import Final

from model_load_test.components.policies import check_policy

NO_BASELINE: Final = "NO_BASELINE"


def becomes_baseline(verdict: str, on_missing_baseline: str) -> bool:
    """Whether a run of this verdict may go into the store by itself.

    Only a first run may not, and only where a person is to decide: its record stays beside its
    artifacts, and `model-load-test baseline record` makes it the first baseline.

    Raises:
        InputError: The policy is none of `pass-and-record`, `warn` and `fail`.
    """
    check_policy("on_missing_baseline", on_missing_baseline)
    return verdict != NO_BASELINE or on_missing_baseline == "pass-and-record"
