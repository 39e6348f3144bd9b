"""What the Kubernetes API refuses, in words that tell what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from model_load_test.components.cluster.rights import Right, role_document
from model_load_test.components.errors import InputError


class ClusterError(InputError):
    """The cluster does not do what was asked."""


class ClusterUnreachable(ClusterError):
    """The API server did not answer for as long as we were told to be patient."""


class MissingRight(ClusterError):
    """The ServiceAccount may not do it; the error has the Role to apply."""

    def __init__(self, verbs: Sequence[str], namespace: str, user: str, rights: Sequence[Right]) -> None:
        self.verbs = tuple(verbs)
        self.role = role_document(namespace, rights, user)
        super().__init__(
            "namespace",
            namespace,
            f"{user or 'we'} may not {'; '.join(verbs)} there; have this applied:\n{self.role}",
        )


class QuotaExceeded(ClusterError):
    """A ResourceQuota of the namespace is used up."""


class Rejected(ClusterError):
    """The API server, a policy or a webhook refuses the object as it is."""


class AlreadyExists(ClusterError):
    """There is an object of that name."""


_FORBIDDEN: Final = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)"'
    r'(?: in API group "(?P<group>[^"]*)")?(?: in the namespace "(?P<namespace>[^"]*)")?'
)
_QUOTA: Final = re.compile(r"exceeded quota: .*")


def status_message(body: bytes | str | None) -> str:
    """The message of a Status object, or what else the body says."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else body or ""
    try:
        document: Any = json.loads(text)
    except ValueError:
        return text.strip()
    return str(document.get("message", text)) if isinstance(document, dict) else text


def explained(
    status: int, message: str, *, target: str, namespace: str, rights: Sequence[Right] = ()
) -> ClusterError:
    """The error for an answer of the API server.

    Args:
        status: HTTP status.
        message: The API server's message.
        target: What was asked, such as `create Deployment mlt-candidate`.
        namespace: Where.
        rights: What the feature needs in all, for the Role to apply.
    """
    forbidden = _FORBIDDEN.search(message)
    if status == HTTPStatus.FORBIDDEN and forbidden:
        refused = Right(forbidden["group"] or "", forbidden["resource"], (forbidden["verb"],))
        return MissingRight((str(refused),), namespace, forbidden["user"], rights or (refused,))
    quota = _QUOTA.search(message)
    if quota:
        return QuotaExceeded(
            "namespace",
            namespace,
            f"cannot {target}: {quota[0]}; free resources, ask for less or raise the quota",
        )
    if status == HTTPStatus.CONFLICT:
        return AlreadyExists("name", target, f"cannot do so ({message}); give the run another id")
    if status == HTTPStatus.NOT_FOUND:
        return ClusterError(
            "namespace",
            namespace,
            f"cannot {target}: {message}; create the namespace or install what is missing",
        )
    if status == HTTPStatus.UNAUTHORIZED:
        return ClusterError("cluster", target, "the API server does not know us; renew token or kubeconfig")
    return Rejected("cluster", target, f"refused with HTTP {status}: {message}")
