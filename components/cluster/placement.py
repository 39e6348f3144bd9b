"""Where pods may run and what they get: tolerations, node selector, affinity, resources as a user's JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from model_load_test.components.cluster.names import LABEL_LIMIT
from model_load_test.components.errors import InputError

_OPERATORS: Final = ("Equal", "Exists")
_EFFECTS: Final = ("", "NoSchedule", "PreferNoSchedule", "NoExecute")
_QUANTITY: Final = re.compile(r"\d+(\.\d+)?(m|[kMGTPE]i?|Ki|e\d+)?")
_LABEL_KEY: Final = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_AFFINITIES: Final = ("nodeAffinity", "podAffinity", "podAntiAffinity")


class Toleration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """One toleration of the Kubernetes API."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    toleration_seconds: float | None = None

    def tolerates(self, taint: Mapping[str, Any]) -> bool:
        """Whether a pod with this toleration may run in spite of the taint."""
        if self.effect not in ("", taint.get("effect", "")) or self.key not in ("", taint.get("key", "")):
            return False
        return self.operator == "Exists" or self.value == taint.get("value", "")


def parse_tolerations(value: object, field: str = "tolerations") -> tuple[Toleration, ...]:
    """Parses a list of Kubernetes tolerations.

    Raises:
        InputError: It is no such list; the error names the element and what is wrong with it.
    """
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise InputError(field, value, 'give a list, such as [{"key": "load", "operator": "Exists"}]')
    return tuple(_toleration(f"{field}[{index}]", one) for index, one in enumerate(value))


def toleration_values(tolerations: Sequence[Toleration]) -> list[dict[str, Any]]:
    """Tolerations as a pod spec has them; KFP hands over numbers as doubles, the API wants whole seconds."""
    values = []
    for one in tolerations:
        fields: dict[str, Any] = msgspec.to_builtins(one)
        if one.toleration_seconds is not None:
            fields["tolerationSeconds"] = int(one.toleration_seconds)
        values.append(fields)
    return values


def parse_node_selector(value: object, field: str = "node_selector") -> dict[str, str]:
    """Parses the labels that a node must have.

    Raises:
        InputError: It is no mapping of label names to label values.
    """
    return parse_labels(value, field)


def parse_labels(value: object, field: str) -> dict[str, str]:
    """Parses labels by name.

    Raises:
        InputError: It is no mapping of label names to label values.
    """
    if not isinstance(value, Mapping):
        raise InputError(field, value, 'give labels by name, such as {"pool": "load"}')
    for name, text in value.items():
        if not isinstance(name, str) or not _LABEL_KEY.fullmatch(name):
            raise InputError(field, name, "this is no name of a Kubernetes label")
        if not isinstance(text, str) or len(text) > LABEL_LIMIT or not _LABEL_VALUE.fullmatch(text):
            raise InputError(f"{field}[{name}]", text, 'give the label\'s value as text, such as "true"')
    return dict(value)


def parse_affinity(value: object, field: str = "affinity") -> dict[str, Any]:
    """Parses a Kubernetes affinity; what is inside the three kinds of it is for the API server to judge.

    Raises:
        InputError: It is no mapping of `nodeAffinity`, `podAffinity` and `podAntiAffinity`.
    """
    if not isinstance(value, Mapping):
        raise InputError(field, value, f"give a Kubernetes affinity with some of {', '.join(_AFFINITIES)}")
    for name, terms in value.items():
        if name not in _AFFINITIES:
            raise InputError(field, name, f"an affinity has only {', '.join(_AFFINITIES)}")
        if not isinstance(terms, Mapping):
            raise InputError(f"{field}.{name}", terms, "give its terms as the Kubernetes API has them")
    return dict(value)


def parse_resources(value: object, field: str = "resources") -> dict[str, dict[str, str]]:
    """Parses the requests and limits of a container.

    Raises:
        InputError: It is no mapping such as {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}.
    """
    example = 'give {"requests": {"cpu": "1", "memory": "512Mi"}, "limits": {"memory": "1Gi"}}'
    if not isinstance(value, Mapping):
        raise InputError(field, value, example)
    resources: dict[str, dict[str, str]] = {}
    for part, quantities in value.items():
        if part not in ("requests", "limits"):
            raise InputError(field, part, f"resources have only requests and limits; {example}")
        if not isinstance(quantities, Mapping):
            raise InputError(f"{field}.{part}", quantities, example)
        resources[part] = {
            str(name): _quantity(f"{field}.{part}.{name}", one) for name, one in quantities.items()
        }
    return resources


def _toleration(field: str, value: object) -> Toleration:
    if not isinstance(value, Mapping):
        raise InputError(field, value, 'give a toleration, such as {"key": "load", "operator": "Exists"}')
    try:
        one = msgspec.convert(dict(value), Toleration)
    except msgspec.ValidationError as error:
        raise InputError(field, dict(value), f"this is no Kubernetes toleration: {error}") from None
    if one.operator not in _OPERATORS:
        raise InputError(f"{field}.operator", one.operator, f"use {' or '.join(_OPERATORS)}")
    if one.effect not in _EFFECTS:
        raise InputError(f"{field}.effect", one.effect, f"use {', '.join(_EFFECTS[1:])}, or leave it out")
    if one.operator == "Exists" and one.value:
        raise InputError(f"{field}.value", one.value, "leave the value out, or use the operator Equal")
    if not one.key and one.operator != "Exists":
        raise InputError(f"{field}.key", one.key, "name the taint's key; only Exists may go without")
    if one.key and not _LABEL_KEY.fullmatch(one.key):
        raise InputError(f"{field}.key", one.key, "this is no name of a taint")
    if one.toleration_seconds is not None:
        if one.effect != "NoExecute":
            raise InputError(f"{field}.tolerationSeconds", one.toleration_seconds, "only NoExecute has them")
        if one.toleration_seconds != int(one.toleration_seconds):
            raise InputError(f"{field}.tolerationSeconds", one.toleration_seconds, "give whole seconds")
    return one


def _quantity(field: str, value: object) -> str:
    text = f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
    if not _QUANTITY.fullmatch(text):
        raise InputError(field, value, 'give a Kubernetes quantity, such as "500m", "2" or "1Gi"')
    return text
