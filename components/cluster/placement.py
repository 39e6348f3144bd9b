"""Where pods may run and what they may use, as users write it in JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from model_load_test.components.errors import InputError
from model_load_test.components.parameters import refuse_unknown

_TOLERATION_FIELDS: Final = ("key", "operator", "value", "effect", "tolerationSeconds")
_OPERATORS: Final = ("Equal", "Exists", "Lt", "Gt")
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_AFFINITY_FIELDS: Final = ("nodeAffinity", "podAffinity", "podAntiAffinity")
_LABEL: Final = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_QUANTITY: Final = re.compile(r"\d+(\.\d+)?(m|[kMGTPE]|[KMGTPE]i|[eE]\d+)?")


class PlacementError(InputError):
    """Tolerations, node selector, affinity or resources that Kubernetes would not understand."""


@dataclass(frozen=True)
class Placement:
    """Which nodes a pod may run on."""

    tolerations: tuple[Mapping[str, Any], ...] = ()
    node_selector: Mapping[str, str] | None = None
    affinity: Mapping[str, Any] | None = None

    def on(self, pod_spec: Mapping[str, Any]) -> dict[str, Any]:
        """The pod spec with these settings."""
        settings = {
            "tolerations": [dict(one) for one in self.tolerations],
            "nodeSelector": dict(self.node_selector or {}),
            "affinity": dict(self.affinity or {}),
        }
        return {**pod_spec, **{name: value for name, value in settings.items() if value}}


def parse_placement(
    tolerations: object = (), node_selector: object = None, affinity: object = None
) -> Placement:
    """Parses the three, as they come from JSON or from KFP.

    Raises:
        PlacementError: One of them is not what Kubernetes expects.
    """
    return Placement(
        parse_tolerations(tolerations), parse_node_selector(node_selector), parse_affinity(affinity)
    )


def parse_tolerations(given: object) -> tuple[dict[str, Any], ...]:
    """Parses a list of Kubernetes tolerations.

    Raises:
        PlacementError: It is not one; the error names the entry and the field.
    """
    example = (
        'give a list such as [{"key": "pool", "operator": "Equal", "value": "load", "effect": "NoSchedule"}]'
    )
    if given is None:
        return ()
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes)):
        raise PlacementError("tolerations", given, example)
    return tuple(_toleration(f"tolerations[{number}]", one, example) for number, one in enumerate(given))


def parse_node_selector(given: object) -> dict[str, str]:
    """Parses a node selector: label names to values.

    Raises:
        PlacementError: It is none.
    """
    if not given:
        return {}
    if not isinstance(given, Mapping):
        raise PlacementError("node_selector", given, 'give labels such as {"pool": "load"}')
    for name, value in given.items():
        if not isinstance(name, str) or not _LABEL.fullmatch(name):
            raise PlacementError("node_selector", name, "this is no name of a label")
        if not isinstance(value, str) or (value and not _LABEL_VALUE.fullmatch(value)):
            raise PlacementError(f"node_selector.{name}", value, "write the label's value as text, in quotes")
    return dict(given)


def parse_affinity(given: object) -> dict[str, Any]:
    """Parses a Kubernetes affinity; its insides are left to the API server.

    Raises:
        PlacementError: It is none.
    """
    if not given:
        return {}
    if not isinstance(given, Mapping):
        raise PlacementError("affinity", given, f"give an object with {', '.join(_AFFINITY_FIELDS)}")
    refuse_unknown("affinity", given, _AFFINITY_FIELDS, PlacementError, prefix="affinity.")
    return {str(name): _whole(value) for name, value in given.items()}


def parse_resources(given: object, field: str = "resources") -> dict[str, dict[str, str]]:
    """Parses a container's resources: `requests` and `limits`, quantities by resource.

    Raises:
        PlacementError: They are none.
    """
    if not given:
        return {}
    example = 'give {"requests": {"cpu": "2"}, "limits": {"memory": "4Gi"}}'
    if not isinstance(given, Mapping):
        raise PlacementError(field, given, example)
    parsed: dict[str, dict[str, str]] = {}
    for part, quantities in given.items():
        if part not in ("requests", "limits") or not isinstance(quantities, Mapping):
            raise PlacementError(f"{field}.{part}", quantities, example)
        parsed[part] = {
            str(name): _quantity(f"{field}.{part}.{name}", value) for name, value in quantities.items()
        }
    return parsed


def _toleration(field: str, given: object, example: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise PlacementError(field, given, example)
    refuse_unknown("toleration", given, _TOLERATION_FIELDS, PlacementError, prefix=f"{field}.")
    for name in ("key", "operator", "value", "effect"):
        if not isinstance(given.get(name, ""), str):
            raise PlacementError(f"{field}.{name}", given[name], "write it as text, in quotes")
    operator = given.get("operator") or "Equal"
    if operator not in _OPERATORS:
        raise PlacementError(f"{field}.operator", operator, "use Equal or Exists")
    if given.get("effect") and given["effect"] not in _EFFECTS:
        raise PlacementError(f"{field}.effect", given["effect"], f"use one of {', '.join(_EFFECTS)}")
    if not given.get("key") and operator != "Exists":
        raise PlacementError(f"{field}.key", given.get("key", ""), "name the taint, or use operator Exists")
    if operator == "Exists" and given.get("value"):
        raise PlacementError(f"{field}.value", given["value"], "leave it out, or use operator Equal")
    seconds = given.get("tolerationSeconds")
    if seconds is not None and given.get("effect") != "NoExecute":
        raise PlacementError(f"{field}.tolerationSeconds", seconds, "it goes with effect NoExecute alone")
    return {str(name): _whole(value) for name, value in given.items() if value not in (None, "")}


def _quantity(field: str, value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, bool) or not _QUANTITY.fullmatch(text):
        raise PlacementError(field, value, 'write a quantity such as "500m", "2" or "4Gi"')
    return text


def _whole(value: Any) -> Any:
    """The same with whole numbers as integers: KFP's structs hold doubles only."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {name: _whole(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_whole(one) for one in value]
    return value
