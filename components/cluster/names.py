"""Names of objects: bounded, valid, and different for different runs."""

from __future__ import annotations

import hashlib
import re
from typing import Final

NAME_LIMIT: Final = 40
"""Room for what controllers append to a name of at most 63 characters, as KServe's `-predictor-...` does."""

LABEL_LIMIT: Final = 63
_DIGEST_CHARACTERS: Final = 10


def object_name(stem: str, *identity: str, limit: int = NAME_LIMIT) -> str:
    """A name of at most `limit` characters, the same whenever `identity` is, and else another one.

    It is a DNS label that starts with a letter, as Services demand.

    Args:
        stem: What a person is to recognise, such as `mlt-candidate-digits`; shortened as needed.
        identity: What tells this object from all others: run, task, arm.
        limit: Characters it may have.
    """
    digest = hashlib.sha256("\0".join((stem, *identity)).encode()).hexdigest()[:_DIGEST_CHARACTERS]
    readable = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    if not readable[:1].isalpha():
        readable = f"n-{readable}"
    return f"{readable[: limit - _DIGEST_CHARACTERS - 1].rstrip('-')}-{digest}"


def label_value(text: str) -> str:
    """`text` as the value of a label: itself where it is valid, else shortened and told apart by a digest."""
    if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", text, re.ASCII) or not text:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", text)[: LABEL_LIMIT - _DIGEST_CHARACTERS - 1].strip("-_.")
    return f"{readable}-{digest}" if readable else digest
