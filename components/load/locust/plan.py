"""What one Locust run is to do: written as its command line, read back from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from model_load_test.components.errors import InputError

MOST_USERS = 5_000
"""More of Locust's users in one run only cost memory and their own time slices."""


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """These requests, at these times, to this server."""

    protocol: Literal["grpc", "http"]
    target: str
    """The endpoint, as `scheme://host:port`."""
    source: str
    """gRPC: the payload set's folder. HTTP: vegeta's JSON target file."""
    report: str
    """Folder that gets a stream of rows and an account from each worker."""
    users: int
    """Users of all workers together: so many requests may be unanswered at once."""
    rate_rps: float = 0.0
    """Of all workers together."""
    requests: int = 0
    """Of all workers together; the k-th is due k/rate after the start."""
    closed_seconds: float = 0.0
    """Above 0 a closed loop: for so long each user sends again as soon as it has its answer."""
    workers: int = 1
    """Locust processes that send; from two on a master of Locust's leads them."""
    connections: int = 1
    """gRPC connections of each worker. HTTP opens, and keeps, as many as are needed."""
    timeout_seconds: float = 5.0
    locustfile: str = ""
    """A user's own locustfile, whose user classes are run at our pace instead of ours."""
    meeting: str = ""
    """Folder in which the Locusts of both arms wait for each other."""
    parties: int = 1
    """How many meet there."""
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    server_name: str = ""
    metadata_file: str = ""
    """ghz's metadata file, for gRPC: what is secret is read from it and from the target file only."""
    keep_alive: bool = True
    max_connections: int = 0
    """Most HTTP connections of each worker; 0 for as many as are needed."""


def users_for(rate_rps: float, timeout_seconds: float, requests: int) -> int:
    """As many users as can be waiting at once when no answer comes before the timeout.

    With that many there is always one free when a request is due, so that the server's slowness
    cannot slow the schedule: the loop is open up to the timeout.
    """
    waiting_at_most = round(rate_rps * timeout_seconds + 0.5) + 1
    return max(1, min(waiting_at_most, requests, MOST_USERS))


def plan_arguments(plan: Plan) -> tuple[str, ...]:
    """The plan as command-line words, `--name=value`; what has its default is left out."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(Plan)}
    return tuple(
        f"--{name.replace('_', '-')}={_word(value)}"
        for name, value in msgspec.structs.asdict(plan).items()
        if value != defaults[name]
    )


def parse_plan(arguments: Sequence[str]) -> Plan:
    """Reads what `plan_arguments` wrote.

    Raises:
        InputError: A word is not an argument, or a value not of its type.
    """
    values: dict[str, Any] = {}
    for word in arguments:
        name, separator, value = word.partition("=")
        if not (name.startswith("--") and separator):
            raise InputError("argument", word, "write --name=value")
        values[name[2:].replace("-", "_")] = value
    try:
        plan = msgspec.convert(values, Plan, strict=False)
    except msgspec.ValidationError as error:
        raise InputError("arguments", " ".join(arguments), f"mend what is named here: {error}") from None
    if not plan.closed_seconds and not (plan.rate_rps > 0 and plan.requests > 0):
        raise InputError("rate_rps", plan.rate_rps, "give a rate and a number of requests above 0")
    return plan


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
