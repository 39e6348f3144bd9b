"""How the generators of a load Job are to run: how many, where, with what; parsed and checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast, get_args

import msgspec

from model_load_test.components.cluster.placement import Placement, parse_placement, parse_resources
from model_load_test.components.errors import InputError
from model_load_test.components.load.schedule import LEAD_SECONDS, TAIL_SECONDS
from model_load_test.components.load.spec import LoadSpec
from model_load_test.components.parameters import refuse_unknown

Keeping = Literal["required", "preferred", "off"]

MOST_GENERATORS: Final = 256
FIELDS: Final = (
    "generators",
    "image",
    "namespace",
    "service_account",
    "tolerations",
    "node_selector",
    "affinity",
    "resources",
    "avoid",
    "keep_off_servers",
    "spread",
    "secrets",
    "pod",
    "annotations",
    "start_timeout_seconds",
    "ttl_seconds",
)
"""What `parse_job_spec` takes."""
SEGMENT_GRACE_SECONDS: Final = 60.0
"""Beyond load and timeout a segment may take so long: agreeing on the start, reports, sending the rows."""

_DEFAULT_RESOURCES: Final = {
    "requests": {"cpu": "1", "memory": "512Mi"},
    "limits": {"memory": "1Gi"},
}
"""No CPU limit: a throttled generator would measure its own throttling."""


@dataclass(frozen=True)
class JobSpec:
    """One load Job. Every generator offers its share of the load spec's rate."""

    generators: int = 2
    image: str = ""
    namespace: str = ""
    """Empty for the namespace of the task itself."""
    service_account: str = ""
    """Of the generators, which get no token of it; empty for the namespace's default."""
    placement: Placement = field(default_factory=Placement)
    """Tolerations, node selector and affinity; the anti-affinity to the servers is added."""
    resources: Mapping[str, Mapping[str, str]] | None = None
    avoid: tuple[Mapping[str, str], ...] = ()
    """Labels of pods whose nodes generators keep off, beside the servers found behind the endpoints."""
    keep_off_servers: Keeping = "required"
    spread: Keeping = "preferred"
    """One generator a node, as far as there are nodes."""
    secrets: Mapping[str, str] | None = None
    """Secrets to mount, by folder: for certificates and tokens that the connection needs."""
    pod: Mapping[str, Any] | None = None
    """Further fields of the generators' pod spec, such as priorityClassName or imagePullSecrets."""
    annotations: Mapping[str, str] | None = None
    start_timeout_seconds: float = 60.0
    """How long all generators may take to be ready, scheduling and images included."""
    ttl_seconds: int = 300
    """After which a Job that nobody removed removes itself."""


def parse_job_spec(values: Mapping[str, Any]) -> JobSpec:
    """Parses and checks the values of a user; what is not given takes its default.

    Raises:
        InputError: A field is unknown, of the wrong type or out of range.
    """
    refuse_unknown("load Job", values, FIELDS)
    get = values.get
    return JobSpec(
        generators=_whole("generators", get("generators", 2), 1, MOST_GENERATORS),
        image=_text("image", get("image", "")),
        namespace=_text("namespace", get("namespace", "")),
        service_account=_text("service_account", get("service_account", "")),
        placement=parse_placement(get("tolerations"), get("node_selector"), get("affinity")),
        resources=parse_resources(get("resources") or _DEFAULT_RESOURCES),
        avoid=tuple(_texts(f"avoid[{i}]", one) for i, one in enumerate(_list("avoid", get("avoid") or []))),
        keep_off_servers=_keeping("keep_off_servers", get("keep_off_servers") or "required"),
        spread=_keeping("spread", get("spread") or "preferred"),
        secrets=_secrets(get("secrets") or {}),
        pod=_pod(get("pod") or {}),
        annotations=_texts("annotations", get("annotations") or {}),
        start_timeout_seconds=_number("start_timeout_seconds", get("start_timeout_seconds", 60.0), 1, 3600),
        ttl_seconds=_whole("ttl_seconds", get("ttl_seconds", 300), 0, 86_400),
    )


def share_of(spec: LoadSpec, index: int, generators: int) -> LoadSpec:
    """What one generator offers of a load, so that together they offer all of it.

    Rates, users and, in a closed loop, requests at once are divided; connections and Locust's workers
    are each generator's own.

    Raises:
        InputError: A generator would have nothing to offer.
    """
    whole = spec.tool == "ghz"
    rates = tuple(_share("generators", rate, index, generators, whole=whole) for rate in spec.block_rates_rps)
    concurrency = _share("generators", spec.concurrency, index, generators, whole=True)
    rate_rps = sum(rates) / len(rates) if rates else spec.rate_rps
    if not rates and not spec.concurrency:
        rate_rps = _share("generators", spec.rate_rps, index, generators, whole=whole)
    users = _share("generators", spec.users, index, generators, whole=True)
    return msgspec.structs.replace(
        spec,
        rate_rps=rate_rps,
        block_rates_rps=rates,
        concurrency=round(concurrency),
        users=round(users),
    )


def _share(field: str, amount: float, index: int, generators: int, *, whole: bool) -> float:
    if not amount:
        return 0.0
    if not whole:
        return amount / generators
    each, more = divmod(round(amount), generators)
    if not each:
        raise InputError(field, generators, f"{amount:g} cannot be divided among so many; use fewer")
    return float(each + (index < more))


def longest_seconds(spec: LoadSpec) -> float:
    """The longest a run by `spec` may take: every look, each segment as slow as it may be."""
    segments = spec.max_pairs * (2 if spec.mode == "interleaved" else 1)
    overhead = LEAD_SECONDS + TAIL_SECONDS + spec.timeout_seconds + SEGMENT_GRACE_SECONDS
    return segments * (spec.block_seconds + overhead) + spec.warmup_seconds + overhead


def _whole(field: str, value: object, low: int, high: int) -> int:
    return int(_number(field, value, low, high, whole=True))


def _number(field: str, value: object, low: float, high: float, *, whole: bool = False) -> float:
    wanted = f"give a {'whole ' if whole else ''}number from {low} to {high}"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InputError(field, value, wanted)
    if whole and not float(value).is_integer():
        raise InputError(field, value, wanted)
    return float(value)


def _text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise InputError(field, value, "give text")
    return value


def _list(field: str, value: object) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise InputError(field, value, "give a list")
    return list(value)


def _texts(field: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        raise InputError(field, value, "give texts by name")
    return dict(value)


def _keeping(field: str, value: object) -> Keeping:
    if value not in get_args(Keeping):
        raise InputError(field, value, f"choose one of {', '.join(get_args(Keeping))}")
    return cast(Keeping, value)


def _secrets(value: object) -> dict[str, str]:
    mounts = _texts("secrets", value)
    for folder in mounts:
        if not folder.startswith("/"):
            raise InputError(
                "secrets", folder, 'name a folder from the root, as {"/secrets/tls": "my-secret"}'
            )
    return mounts


_OURS: Final = ("containers", "initContainers", "nodeSelector", "tolerations", "affinity", "restartPolicy")


def _pod(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError("pod", value, "give fields of a Kubernetes pod spec by name")
    for name in value:
        if name in _OURS:
            raise InputError("pod", name, "the load Job sets this field; use its own parameter")
    return dict(value)
