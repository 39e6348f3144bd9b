"""What becomes of a run that found nothing to be compared with."""

from __future__ import annotations

from typing import Final, Literal, cast, get_args

from model_load_test.components.errors import InputError

OnMissingBaseline = Literal["pass-and-record", "warn", "fail"]
"""`pass-and-record`: the pipeline goes on, and the run is the first baseline. `warn`: it goes on, but a
person decides what the first baseline is. `fail`: it stops, and a person decides."""

NO_BASELINE: Final = "NO_BASELINE"


def check_policy(policy: str) -> OnMissingBaseline:
    """The policy as one of the three.

    Raises:
        InputError: It is none of them.
    """
    if policy not in get_args(OnMissingBaseline):
        raise InputError(
            "on_missing_baseline", policy, f"use one of {', '.join(get_args(OnMissingBaseline))}"
        )
    return cast(OnMissingBaseline, policy)


def becomes_baseline(verdict: str, policy: OnMissingBaseline) -> bool:
    """Whether a run of this verdict may go into the store by itself.

    Only a first run may not, and only where a person is to decide: its record stays beside its
    artifacts, and `model-load-test baseline record` makes it the first baseline.
    """
    return verdict != NO_BASELINE or policy == "pass-and-record"
