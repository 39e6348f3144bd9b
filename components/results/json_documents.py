"""Strict reading of JSON that others wrote: no duplicate keys, no NaN, no surprise in an error text."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Final, TypeVar

import msgspec

from model_load_test.components.results.errors import Description, ResultsError

T = TypeVar("T")

MAX_INTEGER: Final = 1 << 62
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
"""A count or a duration in nanoseconds."""
Number = Annotated[float, msgspec.Meta(ge=0, le=1e18)]
"""A number that is not negative and no larger than any duration in nanoseconds or rate."""

_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)
_PATH: Final = re.compile(r"`(\$[^`]*)`$")


class _DuplicateKey(ValueError):
    """A JSON object holds a key twice."""


def decode(file: str, text: Any, kind: type[T], position: str = "") -> T:
    """Decodes JSON into `kind`.

    Args:
        file: For the error.
        text: Bytes or any buffer.
        kind: What msgspec decodes into.
        position: Where the text stands in the file, if it is a part of it.

    Raises:
        ResultsError: The text is no JSON, or not of that kind.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refusal(file, error, position) from None


def refusal(file: str, error: Exception, position: str = "") -> ResultsError:
    """The refusal for an exception of msgspec; its text holds no values of the file."""
    if isinstance(error, RecursionError):
        return ResultsError(
            file, position, Description("too deeply nested"), "give a generator's own report", "malformed"
        )
    if isinstance(error, msgspec.ValidationError):
        said = str(error)
        path = _PATH.search(said)
        field = path.group(1)[1:] if path else ""
        where = position + field if field.startswith("[") else ", ".join(filter(None, (position, field[1:])))
        found = Description(said.split(" - at ", maxsplit=1)[0])
        return ResultsError(file, where, found, "give the report as the tool wrote it", "wrong-type")
    said = "bad UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
    code = "truncated" if "truncated" in said else "malformed"
    remedy = "copy the whole file" if code == "truncated" else "give the report as the tool wrote it"
    return ResultsError(file, position, Description(said), remedy, code)


def refuse_duplicate_keys(file: str, text: bytes, position: str = "") -> None:
    """Refuses JSON in which some object holds a key twice.

    Raises:
        ResultsError: Without the key, which may be a secret.
    """
    try:
        json.loads(text, object_pairs_hook=_without_duplicates, parse_int=str, parse_float=str)
    except _DuplicateKey:
        raise _duplicate_key(file, position) from None
    except (ValueError, RecursionError) as error:
        found = "too deeply nested" if isinstance(error, RecursionError) else "not JSON"
        raise ResultsError(
            file, position, Description(found), "give the report as the tool wrote it", "malformed"
        ) from None


def _duplicate_key(file: str, position: str) -> ResultsError:
    """The refusal of an object with a key given twice."""
    return ResultsError(
        file,
        position,
        Description("a key given twice"),
        "give the report as the tool wrote it; which value counts cannot be known",
        "duplicate-key",
    )


def _without_duplicates(pairs: list[tuple[str, object]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise _DuplicateKey


def keys_of_first_object(head: bytes) -> set[str]:
    """The keys of the first JSON object of a text that may be cut off anywhere."""
    keys: set[str] = set()
    depth = 0
    for token in _TOKEN.finditer(head):
        first = head[token.start()]
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
            if depth <= 0:
                break
        elif depth == 1 and head[token.end() : token.end() + 32].lstrip().startswith(b":"):
            keys.add(head[token.start() + 1 : token.end() - 1].decode(errors="replace"))
    return keys
