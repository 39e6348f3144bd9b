"""What a configuration costs: by the hour, and by the million requests."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from model_load_test.components.parameters import refuse_unknown
from model_load_test.components.serving.spec import ServingSpec
from model_load_test.components.sweep.parameters import GPU, MACHINE_TYPE, SweepError

_PRICES: Final = ("cpu", "memory_gib", "gpu", "replica", "machines")
_SUFFIXES: Final[Mapping[str, float]] = {
    "": 1.0,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
}
_SECONDS_PER_HOUR: Final = 3600
_MILLION: Final = 1_000_000


def check_prices(prices: Mapping[str, Any]) -> None:
    """Refuses prices that are none.

    Raises:
        SweepError: A price is unknown, negative or no number.
    """
    refuse_unknown("prices", prices, _PRICES, SweepError, prefix="prices.")
    machines = prices.get("machines", {})
    if not isinstance(machines, Mapping):
        raise SweepError(
            "prices.machines", machines, 'give prices by machine type, as {"n2-standard-4": 0.19}'
        )
    named = {f"prices.{name}": value for name, value in prices.items() if name != "machines"}
    named |= {f"prices.machines.{name}": value for name, value in machines.items()}
    for field, value in named.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            raise SweepError(field, value, "give a price per hour, 0 or more")


def cost_per_hour(spec: ServingSpec, prices: Mapping[str, Any]) -> float | None:
    """What all replicas cost by the hour; None where the prices do not tell.

    A machine that has a price is paid whole, one for each replica; else what the server's container
    requests is paid, or its limits where it requests nothing. `replica` is added in either case.
    """
    if not prices:
        return None
    each = float(prices.get("replica", 0.0))
    known = "replica" in prices
    machine = spec.node_selector.get(MACHINE_TYPE, "")
    if machine in prices.get("machines", {}):
        each += prices["machines"][machine]
        known = True
    else:
        amounts = {**spec.resources.get("limits", {}), **spec.resources.get("requests", {})}
        for resource, price, unit in (
            ("cpu", "cpu", 1.0),
            ("memory", "memory_gib", 2.0**30),
            (GPU, "gpu", 1.0),
        ):
            if price in prices and resource in amounts:
                each += prices[price] * quantity(str(amounts[resource])) / unit
                known = True
    return each * spec.replicas if known else None


def cost_per_million(hourly: float | None, achieved_rps: float | None) -> float | None:
    """What a million requests cost at a rate that was achieved."""
    if hourly is None or not achieved_rps:
        return None
    return hourly * _MILLION / (_SECONDS_PER_HOUR * achieved_rps)


def quantity(text: str) -> float:
    """A Kubernetes quantity such as `500m` or `2Gi` as a number.

    Raises:
        SweepError: It is none.
    """
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z]*)", text)
    if parts is None or parts[2] not in _SUFFIXES:
        raise SweepError("resources", text, "give a Kubernetes quantity, such as 2, 500m or 2Gi")
    return float(parts[1]) * _SUFFIXES[parts[2]]
