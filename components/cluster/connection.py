"""The connection to a cluster: found by itself, and patient with an API server that is away."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from model_load_test.components.cluster.failures import (
    AlreadyExists,
    ClusterError,
    ClusterUnreachable,
    MissingRight,
    explained,
    status_message,
)
from model_load_test.components.cluster.kinds import EVENT, POD, Kind, kind_of
from model_load_test.components.cluster.rights import Right
from model_load_test.components.errors import InputError

FIELD_MANAGER: Final = "model-load-test"

Objects = list[dict[str, Any]]
"""Objects of the API as its JSON has them."""

_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_REQUEST_TIMEOUT_SECONDS: Final = (5.0, 30.0)
_FIRST_PAUSE_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 5.0
_WEBHOOK_PATIENCE_SECONDS: Final = 20.0
_AWAY: Final = frozenset(
    (
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    )
)
_JSON: Final = "application/json"
_APPLY: Final = "application/apply-patch+yaml"


@dataclass(frozen=True)
class Cluster:
    """One namespace of a cluster. Objects are plain dicts, as the API's JSON has them.

    A request that meets an API server that is away, or too busy, is repeated for `patience_seconds`.
    """

    client: Any
    namespace: str
    patience_seconds: float = 120.0
    rights: tuple[Right, ...] = ()
    """What the feature at work needs in all; shown when one of them is refused."""

    def needing(self, rights: Sequence[Right]) -> Cluster:
        """The same connection, knowing which rights its user needs."""
        return replace(self, rights=tuple(rights))

    def apply(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Creates the object or changes it to what the manifest says (server-side apply).

        Raises:
            ClusterError: It is refused, or the API server stays away.
        """
        kind, name = kind_of(manifest), str(manifest["metadata"]["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true", **({"dryRun": "All"} if dry_run else {})}
        applied: dict[str, Any] = self._request(
            *("PATCH", kind.path(self.namespace, name), f"apply {kind.kind} {name}"),
            query=query,
            body=manifest,
            content_type=_APPLY,
        )
        return applied

    def create(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Creates the object.

        Raises:
            AlreadyExists: There is one of that name.
            ClusterError: It is refused, or the API server stays away.
        """
        kind, name = kind_of(manifest), str(manifest["metadata"]["name"])
        path = kind.path(self.namespace)
        created: dict[str, Any] = self._request("POST", path, f"create {kind.kind} {name}", body=manifest)
        return created

    def get(self, kind: Kind, name: str) -> dict[str, Any] | None:
        """The object, or None where there is none of that name (or no such kind in the cluster).

        Raises:
            ClusterError: It may not be read, or the API server stays away.
        """
        path = kind.path(self.namespace, name)
        found: dict[str, Any] | None = self._request("GET", path, f"get {kind.kind} {name}", or_none=True)
        return found

    def list(self, kind: Kind, selector: str = "", *, fields: str = "") -> Objects:
        """The objects of a kind; none where the cluster does not know the kind.

        Args:
            kind: What to list.
            selector: Label selector.
            fields: Field selector.

        Raises:
            ClusterError: They may not be read, or the API server stays away.
        """
        query = {"labelSelector": selector, "fieldSelector": fields}
        found = self._request(
            *("GET", kind.path(self.namespace), f"list {kind.plural}"),
            query={name: value for name, value in query.items() if value},
            or_none=True,
        )
        return list(found["items"]) if found else []

    def delete(
        self, kind: Kind, name: str, *, propagation: str = "Background", grace_seconds: int | None = None
    ) -> bool:
        """Has the object deleted, and says whether there was one.

        Args:
            kind: Its kind.
            name: Its name.
            propagation: Background, Foreground or Orphan.
            grace_seconds: Instead of the object's own grace period.

        Raises:
            ClusterError: It is refused, or the API server stays away.
        """
        options: dict[str, Any] = {"propagationPolicy": propagation}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        path = kind.path(self.namespace, name)
        answer = self._request("DELETE", path, f"delete {kind.kind} {name}", body=options, or_none=True)
        return answer is not None

    def log(self, pod: str, container: str = "", *, tail_lines: int = 50, previous: bool = False) -> str:
        """The end of a container's log; empty where there is none to read (yet).

        Raises:
            MissingRight: It may not be read.
            ClusterUnreachable: The API server stays away.
        """
        query = {"tailLines": str(tail_lines), "previous": str(previous).lower()}
        if container:
            query["container"] = container
        path = f"{POD.path(self.namespace, pod)}/log"
        try:
            return self._send("GET", path, f"read the log of {pod}", query=query).decode(errors="replace")
        except (ClusterUnreachable, MissingRight):
            raise
        except ClusterError:
            return ""

    def events(self, name: str) -> Objects:
        """The events about the object of that name, oldest first.

        Raises:
            ClusterError: They may not be read, or the API server stays away.
        """
        return sorted(self.list(EVENT, fields=f"involvedObject.name={name}"), key=happened)

    def missing_rights(self) -> tuple[str, ...]:
        """Those of `rights` that we do not have, such as `create deployments.apps`."""
        return tuple(
            str(Right(one.group, one.resource, (verb,)))
            for one in self.rights
            for verb in one.verbs
            if not self._may(one, verb)
        )

    def require_rights(self) -> None:
        """Refuses to start what would stop halfway for lack of a right.

        Raises:
            MissingRight: One or more of `rights` are missing; all are named.
        """
        missing = self.missing_rights()
        if missing:
            raise MissingRight(missing, self.namespace, self.user(), self.rights)

    def user(self) -> str:
        """Who the API server takes us for; empty where it does not tell."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        try:
            answer = self._request("POST", path, "ask who we are", body=review)
        except ClusterError:
            return ""
        return str(answer.get("status", {}).get("userInfo", {}).get("username", ""))

    def _may(self, one: Right, verb: str) -> bool:
        resource, _, subresource = one.resource.partition("/")
        attributes = {
            "namespace": self.namespace,
            "group": one.group,
            "resource": resource,
            "subresource": subresource,
            "verb": verb,
        }
        answer = self._request(
            *("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "ask what we may do"),
            body={
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            },
        )
        return bool(answer["status"]["allowed"])

    def _request(self, method: str, path: str, target: str, *, or_none: bool = False, **options: Any) -> Any:
        body = self._send(method, path, target, or_none=or_none, **options)
        return json.loads(body) if body else None

    def _send(
        self,
        method: str,
        path: str,
        target: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = _JSON,
        or_none: bool = False,
    ) -> bytes:
        """Sends a request until it is answered; empty bytes for what is not found and may be."""
        started, pause_seconds, tries = time.monotonic(), _FIRST_PAUSE_SECONDS, 0
        while True:
            status, answer = self._try(method, path, query or {}, body, content_type)
            tries += 1
            if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
                return answer
            message = status_message(answer)
            if status == HTTPStatus.NOT_FOUND and or_none:
                return b""
            failure = explained(status, message, target=target, namespace=self.namespace, rights=self.rights)
            waited = time.monotonic() - started
            if status == HTTPStatus.INTERNAL_SERVER_ERROR:
                patience = min(self.patience_seconds, _WEBHOOK_PATIENCE_SECONDS)
            elif status in _AWAY or not status:
                patience = self.patience_seconds
                failure = ClusterUnreachable(
                    "cluster",
                    target,
                    f"the API server did not do it in {waited:.0f} s ({message}); try again",
                )
            elif isinstance(failure, AlreadyExists) and tries > 1 and method == "POST":
                # The first try got through; only its answer was lost.
                return self._send("GET", f"{path}/{(body or {})['metadata']['name']}", target)
            else:
                raise failure
            if waited + pause_seconds > patience:
                raise failure
            time.sleep(pause_seconds * random.uniform(0.5, 1.0))
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)

    def _try(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None,
        content_type: str,
    ) -> tuple[int, bytes]:
        """One try: the HTTP status and the body; status 0 and the reason where nothing answered."""
        import urllib3
        from kubernetes.client.exceptions import ApiException

        headers = {"Accept": _JSON}
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            response = self.client.call_api(
                quote(path),
                method,
                query_params=list(query.items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=_REQUEST_TIMEOUT_SECONDS,
                _return_http_data_only=True,
            )
            return int(response.status), bytes(response.data)
        except ApiException as error:
            text = error.body if error.body is not None else error.reason or ""
            status, said = int(error.status or 0), text if isinstance(text, bytes) else str(text).encode()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            status, said = 0, f"{type(error).__name__}: {error}".encode()
        if not status and b"CERTIFICATE_VERIFY_FAILED" in said:
            # No waiting makes a certificate trusted.
            return HTTPStatus.MISDIRECTED_REQUEST, b"its certificate is not trusted: " + said
        return status, said


def connect(namespace: str = "", *, patience_seconds: float = 120.0) -> Cluster:
    """Connects to the cluster this process runs in, or else to the kubeconfig's current one.

    Args:
        namespace: Where to work; empty for the pod's own, or the kubeconfig context's.
        patience_seconds: How long to wait for an API server that is away.

    Raises:
        InputError: There is neither, or it cannot be used.
    """
    import kubernetes

    configuration = kubernetes.client.Configuration()
    try:
        if in_pod():
            kubernetes.config.load_incluster_config(client_configuration=configuration)
            home = (_ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
        else:
            kubernetes.config.load_kube_config(client_configuration=configuration)
            _, context = kubernetes.config.list_kube_config_contexts()
            home = context["context"].get("namespace", "default")
    except (kubernetes.config.ConfigException, OSError) as error:
        raise InputError(
            "KUBECONFIG",
            os.environ.get("KUBECONFIG", ""),
            f"no cluster can be found ({error}); run in a pod, or name a kubeconfig",
        ) from None
    configuration.retries = False  # we repeat requests ourselves, and know which may be
    return Cluster(kubernetes.client.ApiClient(configuration), namespace or home, patience_seconds)


def in_pod() -> bool:
    """Whether this process runs in a pod that has a ServiceAccount's token."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (_ACCOUNT / "token").exists()


def happened(event: Mapping[str, Any]) -> str:
    """When an event happened last, as text that sorts."""
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])
