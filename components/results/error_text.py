"""Error texts with few distinct values and without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

REDACTED: Final = "<redacted>"
_LONGEST_READ: Final = 1_000
_LONGEST_KEPT: Final = 200
_SHORTEST_SECRET: Final = 4


def _without_opaque(word: re.Match[str]) -> str:
    """Long words of digits and letters are tokens, base64 or identifiers of one request."""
    text = word.group()
    mixed = any(map(str.isdigit, text)) and any(map(str.isalpha, text))
    return REDACTED if mixed else text


# In this order: what an earlier pattern replaces, a later one no longer sees.
_REPLACEMENTS: Final = (
    (re.compile(r"[\x00-\x1f\x7f-\x9f\s]+"), " "),
    (re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s\"'<>\\]+"), "<url>"),
    (
        re.compile(
            r"(?i)\b(authorization|proxy-authorization|cookie|set-cookie|x-api-key|api[-_ ]?key|"
            r"access[-_ ]?key|password|passwd|secret|token|credentials?)"
            r"(\"?'?\s*[:=]\s*)(?:(?:bearer|basic)\s+)?\S+"
        ),
        rf"\1\2{REDACTED}",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s+\S+"), rf"\1 {REDACTED}"),
    (re.compile(r"\[[0-9a-fA-F:]*:[0-9a-fA-F:.]*(?:%\w+)?\](?::\d+)?"), "<address>"),
    (re.compile(r"\{.*\}|\[.*\]"), REDACTED),
    (re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?"), "<address>"),
    (re.compile(r"\blookup \S+?( on \S+?)?(?=:?(\s|$))"), "lookup <host>"),
    (re.compile(r"\b[A-Za-z0-9][\w.-]*:\d{2,5}\b"), "<address>"),
    (re.compile(r"<address>->(?:<address>)"), "<address>"),
    (re.compile(r"[\w+/=.-]{16,}"), _without_opaque),
    (re.compile(r"\b\d{4,}\b"), "<number>"),
)


def normalise(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without addresses, ports, URLs, request identifiers and what looks like a secret.

    Args:
        text: As the tool wrote it.
        secrets: Texts known to be secret, such as the metadata values that ghz echoes.
    """
    for secret in secrets:  # before the text is cut, or half a secret would be none
        text = text.replace(secret, REDACTED)
    text = text[:_LONGEST_READ]
    for pattern, replacement in _REPLACEMENTS:
        text = pattern.sub(replacement, text)
    return text.strip()[:_LONGEST_KEPT]


def secrets_in(value: object) -> frozenset[str]:
    """Every text inside a value of JSON kinds that is long enough to be told apart."""
    if isinstance(value, str):
        words = {value, *value.split()}
        return frozenset(word for word in words if len(word) >= _SHORTEST_SECRET)
    if isinstance(value, dict):
        return frozenset[str]().union(*map(secrets_in, value.values()))
    if isinstance(value, (list, tuple)):
        return frozenset[str]().union(*map(secrets_in, value))
    return frozenset()
