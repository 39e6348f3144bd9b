"""What a ServiceAccount must be allowed to do, and the Role to apply when it is not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from model_load_test.components.cluster.kinds import Kind

_SERVICE_ACCOUNT: Final = re.compile(r"system:serviceaccount:([^:]+):([^:]+)")


@dataclass(frozen=True)
class Right:
    """Verbs on one resource of a namespace."""

    group: str
    resource: str
    verbs: tuple[str, ...]

    def __str__(self) -> str:
        return f"{', '.join(self.verbs)} {self.resource}{'.' + self.group if self.group else ''}"


def right(kind: Kind, *verbs: str, part: str = "") -> Right:
    """The right to do `verbs` with objects of a kind, or with a part of them such as `log`."""
    return Right(kind.group, f"{kind.plural}/{part}" if part else kind.plural, verbs)


def role_document(namespace: str, rights: Sequence[Right], user: str) -> str:
    """A Role with `rights` and its binding, as YAML to apply.

    Args:
        namespace: Where the rights are needed.
        rights: All a feature needs, not only what was refused first.
        user: Who was refused, as the API server names it.
    """
    name = "model-load-test"
    rules: list[dict[str, Any]] = [
        {"apiGroups": [one.group], "resources": [one.resource], "verbs": list(one.verbs)} for one in rights
    ]
    account = _SERVICE_ACCOUNT.fullmatch(user)
    subject = (
        {"kind": "ServiceAccount", "namespace": account[1], "name": account[2]}
        if account
        else {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user or "USER"}
    )
    metadata = {"name": name, "namespace": namespace}
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": metadata,
        "rules": rules,
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "subjects": [subject],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
    }
    return yaml.safe_dump_all([role, binding], sort_keys=False)
