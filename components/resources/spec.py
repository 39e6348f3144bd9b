"""Where to look for the servers' resources: parsed once, before any load is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from model_load_test.components.errors import InputError
from model_load_test.components.parameters import refuse_unknown
from model_load_test.components.protocols.access import Access
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.resources.catalogue import SERVER_PAGE
from model_load_test.components.resources.cloud_monitoring import ADDRESS, CloudMonitoring, VertexArm
from model_load_test.components.resources.http_get import parse_address
from model_load_test.components.resources.prometheus import Matchers, Prometheus, parse_matchers
from model_load_test.components.resources.sampling import EVERY_SECONDS, Look
from model_load_test.components.resources.series import ARMS, ResourceSource

SOURCES: Final = ("prometheus", "pages", "processes", "pods", "cloud_monitoring", "every_seconds")
_PROMETHEUS: Final = (
    *("url", *ARMS, "workloads", "expressions", "step_seconds"),
    *("token_file", "ca_file", "server_name"),
)
_LISTENS: Final = "listening"
_DEPLOYED: Final = "deployed"
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ResourceSpec:
    """Parsed sources; `looks` are taken while the load runs, `sources` are asked when it is over."""

    sources: tuple[ResourceSource, ...] = ()
    looks: tuple[tuple[str, Look], ...] = ()
    """Each with its name for findings."""
    every_seconds: float = EVERY_SECONDS
    prometheus: Prometheus | None = field(default=None, compare=False)
    """Of `sources`, the one that can be asked beforehand whether it is there."""

    def __bool__(self) -> bool:
        return bool(self.sources or self.looks)


def parse_resource_spec(
    values: Mapping[str, Any],
    endpoints: Mapping[Any, Endpoint],
    *,
    run_id: str = "",
    only_afterwards: bool = False,
) -> ResourceSpec:
    """Parses the parameter `resource_sources`.

    Args:
        values: By kind of source, see docs/resources.md; empty for none.
        endpoints: The arms' servers, by which their processes and pages can be found.
        run_id: The pipeline run, by which the servers that it deployed are found.
        only_afterwards: Whether the load is over, so that what only knows the present is refused.

    Raises:
        InputError: A name, an arm, an address or a pattern means nothing.
    """
    refuse_unknown("resource_sources", values, SOURCES, prefix="resource_sources.")
    if only_afterwards:
        for name in ("pages", "processes", "pods"):
            if values.get(name):
                raise InputError(
                    f"resource_sources.{name}",
                    values[name],
                    "it only knows the present; give it to run_load_test, which looks while the load runs",
                )
    every_seconds = values.get("every_seconds", EVERY_SECONDS)
    if not isinstance(every_seconds, (int, float)) or not 0.05 <= every_seconds <= 60:
        raise InputError("resource_sources.every_seconds", every_seconds, "give seconds from 0.05 to 60")
    prometheus = _prometheus(values.get("prometheus"))
    cloud = _cloud_monitoring(values.get("cloud_monitoring"))
    looks = [
        *_page_looks(values.get("pages") or {}, endpoints),
        *_process_looks(values.get("processes") or {}, endpoints),
        *_pod_looks(values.get("pods") or {}, endpoints, run_id),
    ]
    return ResourceSpec(
        sources=tuple(source for source in (prometheus, cloud) if source is not None),
        looks=tuple(looks),
        every_seconds=float(every_seconds),
        prometheus=prometheus,
    )


def _prometheus(values: object) -> Prometheus | None:
    if not values:
        return None
    name = "resource_sources.prometheus"
    given = _mapping(values, name, '{"url": "http://prometheus:9090", "candidate": {"pod": "=~digits-.*"}}')
    refuse_unknown(name, given, _PROMETHEUS, prefix=f"{name}.")
    endpoint = parse_address(str(given.get("url", "")), f"{name}.url")
    workloads = _mapping(given.get("workloads") or {}, f"{name}.workloads", '{"candidate": {...}}')
    refuse_unknown(f"{name}.workloads", workloads, ARMS, prefix=f"{name}.workloads.")
    expressions = _mapping(given.get("expressions") or {}, f"{name}.expressions", '{"my_metric": "PromQL"}')
    step_seconds = given.get("step_seconds", Prometheus.step_seconds)
    if not isinstance(step_seconds, (int, float)) or not 0.1 <= step_seconds <= 3600:
        raise InputError(f"{name}.step_seconds", step_seconds, "give seconds from 0.1 to 3600")
    return Prometheus(
        endpoint=replace(endpoint, access=_access(given, name)),
        pods=_matchers(given, name),
        workloads={arm: parse_matchers(one, f"{name}.workloads.{arm}") for arm, one in workloads.items()},
        expressions={str(key): str(text) for key, text in expressions.items()},
        step_seconds=float(step_seconds),
    )


def _matchers(given: Mapping[str, Any], name: str) -> dict[str, Matchers]:
    found = {arm: parse_matchers(given[arm], f"{name}.{arm}") for arm in ARMS if given.get(arm)}
    if not found:
        raise InputError(name, dict(given), 'say which series are the candidate\'s: {"candidate": {...}}')
    if len(found) > 1 and found["candidate"] == found["baseline"]:
        raise InputError(
            f"{name}.baseline", dict(found["baseline"]), "it matches the candidate's series; tell them apart"
        )
    return found


def _access(given: Mapping[str, Any], name: str) -> Access:
    headers = {}
    if given.get("token_file"):
        try:
            token = Path(given["token_file"]).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InputError(
                f"{name}.token_file", given["token_file"], f"it cannot be read ({error.strerror})"
            ) from None
        headers["Authorization"] = f"Bearer {token}"
    ca_file = Path(given["ca_file"]) if given.get("ca_file") else None
    return Access(ca_file=ca_file, server_name=str(given.get("server_name", "")), headers=headers)


def _cloud_monitoring(values: object) -> CloudMonitoring | None:
    if not values:
        return None
    name = "resource_sources.cloud_monitoring"
    example = '{"project": "my-project", "candidate": {"endpoint_id": "123"}}'
    given = _mapping(values, name, example)
    refuse_unknown(name, given, ("project", "address", *ARMS), prefix=f"{name}.")
    arms = {}
    for arm in ARMS:
        if given.get(arm):
            one = _mapping(given[arm], f"{name}.{arm}", '{"endpoint_id": "123"}')
            refuse_unknown(f"{name}.{arm}", one, VertexArm.__dataclass_fields__, prefix=f"{name}.{arm}.")
            if not re.fullmatch(r"[a-z0-9-]+", str(one.get("endpoint_id", ""))):
                raise InputError(
                    f"{name}.{arm}.endpoint_id",
                    one.get("endpoint_id"),
                    "give the endpoint's number, or the name it was made with",
                )
            arms[arm] = VertexArm(**{key: str(value) for key, value in one.items()})
    if not given.get("project") or not arms:
        raise InputError(name, dict(given), f"give the project and an arm's endpoint: {example}")
    address = str(given.get("address") or ADDRESS)
    return CloudMonitoring(str(given["project"]), arms, address=address)


def _page_looks(values: object, endpoints: Mapping[Any, Endpoint]) -> list[tuple[str, Look]]:
    from model_load_test.components.resources.server_page import page_look

    looks = []
    for arm, given in _by_arm(values, "pages", endpoints).items():
        texts: Sequence[Any] = [given] if isinstance(given, str) else given
        if not isinstance(texts, (list, tuple)) or not texts:
            raise InputError(f"resource_sources.pages.{arm}", given, "give an address, or one per replica")
        for text in texts:
            page = parse_address(str(text), f"resource_sources.pages.{arm}")
            looks.append((f"{page}", page_look(arm, page, SERVER_PAGE)))
    return looks


def _process_looks(values: object, endpoints: Mapping[Any, Endpoint]) -> list[tuple[str, Look]]:
    from model_load_test.components.resources.processes import listening_process, process_look

    looks = []
    for arm, given in _by_arm(values, "processes", endpoints).items():
        pid = given
        if given == _LISTENS:
            endpoint = endpoints[arm]
            pid = listening_process(endpoint.port) if endpoint.host in _LOOPBACK else None
            if pid is None:
                raise InputError(
                    f"resource_sources.processes.{arm}",
                    str(endpoint),
                    "no process of this machine is seen to listen there; give its number",
                )
        if not isinstance(pid, (int, float)) or isinstance(pid, bool) or pid != int(pid):
            raise InputError(
                f"resource_sources.processes.{arm}", given, f"give a process number, or {_LISTENS!r}"
            )
        looks.append((f"the {arm}'s process {int(pid)}", process_look(arm, int(pid))))
    return looks


def _pod_looks(values: object, endpoints: Mapping[Any, Endpoint], run_id: str) -> list[tuple[str, Look]]:
    if not values:
        return []
    from model_load_test.components.cluster.connection import connect
    from model_load_test.components.cluster.labels import ARM, PART, run_selector
    from model_load_test.components.resources.kubernetes import PATIENCE_SECONDS, pods_look

    name = "resource_sources.pods"
    if values == _DEPLOYED:
        if not run_id:
            raise InputError(name, values, "only a pipeline run knows what it deployed; give label selectors")
        values = {
            arm: f"{run_selector(run_id)},{PART}=server,{ARM}={arm}" for arm in ARMS if arm in endpoints
        }
    given = _mapping(values, name, '{"namespace": "serving", "candidate": "app=digits-new"}')
    refuse_unknown(name, given, ("namespace", *ARMS), prefix=f"{name}.")
    selectors = {arm: given[arm] for arm in ARMS if given.get(arm)}
    for arm, selector in selectors.items():
        if not isinstance(selector, str):
            raise InputError(f"{name}.{arm}", selector, "give a label selector, such as app=digits")
    if not selectors:
        raise InputError(name, dict(given), 'give a label selector of an arm\'s pods: {"candidate": "app=x"}')
    cluster = connect(str(given.get("namespace", "")), patience_seconds=PATIENCE_SECONDS)
    return [
        (f"the {arm}'s pods ({selector})", pods_look(arm, cluster, selector))
        for arm, selector in selectors.items()
    ]


def _by_arm(values: object, kind: str, endpoints: Mapping[Any, Endpoint]) -> Mapping[str, Any]:
    """What is given by arm; one text alone is given of every arm."""
    name = f"resource_sources.{kind}"
    if isinstance(values, str) and values == _LISTENS:
        return dict.fromkeys(endpoints, values)
    given = _mapping(values, name, '{"candidate": ...}')
    refuse_unknown(name, given, ARMS, prefix=f"{name}.")
    return {arm: one for arm, one in given.items() if one and arm in endpoints}


def _mapping(values: object, name: str, example: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise InputError(name, values, f"give an object, such as {example}")
    return values
