"""The one shape of a complaint about input: which field, which value, what to do."""

from __future__ import annotations

_SHOWN_CHARACTERS = 200


class InputError(ValueError):
    """Input that cannot be used, said so that the reader can mend it.

    Args:
        field: Name of the parameter, column, file or JSON path at fault.
        value: The offending value. It is shown shortened; never pass a secret.
        remedy: What to do about it, as an imperative sentence without a full stop.
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        self.field = field
        self.value = value
        self.remedy = remedy
        super().__init__(f"{field}: {_shortened(value)}: {remedy}")


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
