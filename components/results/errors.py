"""The one exception of this room: a report that cannot be read, and why."""

from __future__ import annotations

from model_load_test.components.errors import InputError


class ResultsError(InputError):
    """A report, stream or results file that is refused.

    Its text never holds text out of the file: a report may hold tokens, headers and payloads.

    Args:
        file: Path as the user gave it, or `<stdin>`.
        position: Where in the file: a field, line or byte offset; empty for the file as a whole.
        value: The offending number, or a description of what stands there.
        remedy: What to do, as an imperative sentence without a full stop.
        code: Stable identifier in kebab-case, e.g. `malformed`.
    """

    def __init__(self, file: str, position: str, value: object, remedy: str, code: str) -> None:
        self.file = file
        self.position = position
        self.code = code
        super().__init__(f"{file}: {position}" if position else file, value, remedy)


class Description(str):
    """A value described in words; shown without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
