"""Under which name the runs of one model, load and infrastructure are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec

from model_load_test.components.baseline.canonical import canonical_hash
from model_load_test.components.errors import InputError

NAME_PREFIX: Final = "mlt1"
"""First part of every name; its number changes when the making of names does."""

_SPEC_VERSION: Final = 1
_PART_CHARACTERS: Final = 96
_HASH_CHARACTERS: Final = 32


class BaselineKey(msgspec.Struct, frozen=True, kw_only=True):
    """What two runs must share to be compared. The namespace keeps tenants of one store apart."""

    namespace: str
    model_name: str
    load_spec_hash: str
    fingerprint_hash: str

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            if not getattr(self, field).strip():
                raise InputError(f"key.{field}", getattr(self, field), "give a text that is not blank")

    @property
    def name(self) -> str:
        """`mlt1/<namespace>/<model>/<hash>`, safe as a path and at most 255 characters.

        Namespace and model are there for a person and may be shortened; the hash holds them whole.
        """
        return "/".join((NAME_PREFIX, _safe(self.namespace), _safe(self.model_name), self.digest))

    @property
    def digest(self) -> str:
        """The hash at the end of the name: 32 hexadecimal digits that stand for the whole key."""
        return canonical_hash(msgspec.to_builtins(self), "key")[:_HASH_CHARACTERS]


def load_spec_hash(spec: Mapping[str, Any]) -> str:
    """Hashes a load spec given as JSON values; 200 and 200.0 are the same rate.

    Raises:
        InputError: A value has no JSON form or is not finite.
    """
    return canonical_hash({"version": _SPEC_VERSION, "load_spec": spec}, "load_spec")


def _safe(part: str) -> str:
    quoted = quote(part, safe="")[:_PART_CHARACTERS]
    # "." and ".." would be folders of their own in a file store.
    return quoted.replace(".", "%2E") if set(quoted) == {"."} else quoted
