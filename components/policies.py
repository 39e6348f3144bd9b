"""What becomes of a run whose verdict leaves that open: the words that users write."""

from __future__ import annotations

from typing import Final, Literal, get_args

from model_load_test.components.errors import InputError

OnInconclusive = Literal["fail", "warn", "pass"]
"""`fail`: the pipeline stops. `warn`: it goes on, and the log says so. `pass`: it goes on."""

OnMissingBaseline = Literal["pass-and-record", "warn", "fail"]
"""`pass-and-record`: the pipeline goes on, and the run is the first baseline. `warn`: it goes on, but a
person decides what the first baseline is. `fail`: it stops, and a person decides."""

CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "on_inconclusive": get_args(OnInconclusive),
    "on_missing_baseline": get_args(OnMissingBaseline),
}
"""The words of each policy, by its name."""


def check_policy(name: str, value: object, error: type[InputError] = InputError) -> None:
    """Refuses what is no word of this policy.

    Raises:
        InputError: Of the kind `error`; it names the words there are.
    """
    if value not in CHOICES[name]:
        raise error(name, value, f"choose one of {', '.join(CHOICES[name])}")
