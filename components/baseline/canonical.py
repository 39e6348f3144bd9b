"""One spelling of a JSON value, so that equal things hash alike wherever they were written."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping

from model_load_test.components.errors import InputError


def canonical_json(value: object, field: str) -> str:
    """Spells `value` as JSON with sorted keys, no spaces, and whole numbers without a fraction.

    Args:
        value: Mappings with text keys, lists, tuples, text, finite numbers, booleans and None.
        field: Name of the value, for the error.

    Raises:
        InputError: Something in it has no JSON form, or a number is not finite.
    """
    return json.dumps(_plain(value, field), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical_hash(value: object, field: str) -> str:
    """The SHA-256 of `canonical_json`, in hexadecimal."""
    return hashlib.sha256(canonical_json(value, field).encode()).hexdigest()


def _plain(value: object, field: str) -> object:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(field, value, "use a finite number")
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {_text_key(key, field): _plain(item, f"{field}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{field}[{index}]") for index, item in enumerate(value)]
    raise InputError(field, value, "use only text, numbers, booleans, lists and mappings")


def _text_key(key: object, field: str) -> str:
    if not isinstance(key, str):
        raise InputError(field, key, "use text as the keys of a mapping")
    return key
