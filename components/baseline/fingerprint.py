"""What makes two runs comparable: the machine, the server, the generator."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

import msgspec

from model_load_test.components.baseline.canonical import canonical_hash, canonical_json
from model_load_test.components.baseline.nodes import NodeFacts, node_facts
from model_load_test.components.errors import InputError
from model_load_test.components.load.host import cpu_model, usable_cores

SCHEMA_VERSION: Final = 1

ServerKind = Literal["embedded", "tf-serving", "triton", "kserve", "seldon", "vertex", "unknown"]


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """The circumstances of a run. Empty text or 0 means that a fact could not be found out."""

    server_kind: ServerKind
    """An embedded server is never compared with a real one."""
    server_image: str = ""
    """Image reference with its digest; a tag alone may change its content."""
    server_flags: tuple[str, ...] = ()
    """The server's command-line flags, sorted: their order means nothing."""
    replicas: int = 1
    node_type: str = ""
    """Machine type of the node, such as `n2-standard-8`; on a laptop system and architecture."""
    cpu_model: str = ""
    cpu_cores: int = 0
    """Cores the process may use: the pod's limit where there is one."""
    accelerator: str = ""
    """Model and count of the accelerators, such as `2 x NVIDIA L4`."""
    generator: str = ""
    """Name of the load generator."""
    generator_version: str = ""
    schema_version: int = SCHEMA_VERSION


_WORDS: Final = {
    "server_kind": "server kind",
    "server_image": "server image",
    "server_flags": "server flags",
    "replicas": "replicas",
    "node_type": "node type",
    "cpu_model": "CPU",
    "cpu_cores": "CPU cores",
    "accelerator": "accelerator",
    "generator": "generator",
    "generator_version": "generator version",
    "schema_version": "fingerprint version",
}


def fingerprint_json(fingerprint: Fingerprint) -> str:
    """The fingerprint's one spelling as JSON."""
    return canonical_json(msgspec.to_builtins(fingerprint), "fingerprint")


def fingerprint_hash(fingerprint: Fingerprint) -> str:
    """The SHA-256 of `fingerprint_json`, in hexadecimal."""
    return canonical_hash(msgspec.to_builtins(fingerprint), "fingerprint")


def fingerprint_text(fingerprint: Fingerprint) -> dict[str, str]:
    """The fingerprint as text by field, as `results.RunMetadata` and the report hold it."""
    return {name: _shown(value) for name, value in msgspec.to_builtins(fingerprint).items()}


def parse_fingerprint(text: str | bytes | Mapping[str, Any]) -> Fingerprint:
    """Reads `fingerprint_json`, or the same as a mapping, or `fingerprint_text`.

    Raises:
        InputError: It is not a fingerprint, or one of a later version.
    """
    try:
        if isinstance(text, Mapping):
            fingerprint = msgspec.convert(_with_list_of_flags(text), Fingerprint, strict=False)
        else:
            fingerprint = msgspec.json.decode(text, type=Fingerprint)
    except (msgspec.MsgspecError, ValueError) as error:
        raise InputError("fingerprint", text, f"give the JSON of a fingerprint: {error}") from error
    if fingerprint.schema_version > SCHEMA_VERSION:
        raise InputError(
            "fingerprint.schema_version",
            fingerprint.schema_version,
            f"this release reads versions up to {SCHEMA_VERSION}; upgrade model-load-test",
        )
    return fingerprint


def explain_difference(one: Fingerprint, other: Fingerprint) -> list[str]:
    """Says in words where two fingerprints differ, `one` before `other`; empty when they are equal."""
    left, right = fingerprint_text(one), fingerprint_text(other)
    return [
        f"{words} {left[name] or 'unknown'} against {right[name] or 'unknown'}"
        for name, words in _WORDS.items()
        if left[name] != right[name]
    ]


def explain_spec_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Says in words where two load specs differ, `one` before `other`; empty when they are equal."""
    return [
        f"{name.replace('_', ' ')} {_spec_value(one, name)} against {_spec_value(other, name)}"
        for name in sorted(set(one) | set(other))
        if _spec_value(one, name) != _spec_value(other, name)
    ]


def collect_fingerprint(
    server_kind: str,
    *,
    server_image: str = "",
    server_flags: Sequence[str] = (),
    replicas: int = 1,
    generator: str = "",
    generator_version: str = "",
    environment: Mapping[str, str] | None = None,
) -> Fingerprint:
    """Collects what can be known here.

    On a laptop from the system; in a pod also from the labels of its node, where the pod may read them
    (`nodes.node_facts`); on Vertex from its metadata server. The environment may say what the process
    cannot see for itself, and goes before all else:

    - `MODEL_LOAD_TEST_NODE_TYPE`: machine type of the node (its label `node.kubernetes.io/instance-type`),
    - `MODEL_LOAD_TEST_NODE_NAME`: the node whose labels to read (`fieldRef: spec.nodeName`); without it
      the pod asks for itself first, under `KFP_POD_NAME` or its host name,
    - `MODEL_LOAD_TEST_CPU_LIMIT`: the pod's CPU limit (`resourceFieldRef: limits.cpu`, whole cores),
    - `MODEL_LOAD_TEST_ACCELERATOR`, `MODEL_LOAD_TEST_SERVER_IMAGE`.

    Args:
        server_kind: What answered the requests, one of `ServerKind`.
        server_image: Image reference with digest; the environment's when empty.
        server_flags: The server's flags, in any order.
        replicas: Server replicas behind the endpoint.
        generator: Name of the load generator.
        generator_version: Its version.
        environment: Instead of the process's own, for tests.

    Raises:
        InputError: The server kind is unknown, or `MODEL_LOAD_TEST_CPU_LIMIT` is not a positive whole
            number.
    """
    if server_kind not in get_args(ServerKind):
        raise InputError("server_kind", server_kind, f"use one of {', '.join(get_args(ServerKind))}")
    known = os.environ if environment is None else environment
    node_type = known.get("MODEL_LOAD_TEST_NODE_TYPE", "")
    accelerator = known.get("MODEL_LOAD_TEST_ACCELERATOR", "") or _accelerators()
    node = NodeFacts() if node_type else node_facts(known)
    return Fingerprint(
        server_kind=cast(ServerKind, server_kind),
        server_image=server_image or known.get("MODEL_LOAD_TEST_SERVER_IMAGE", ""),
        server_flags=tuple(sorted(server_flags)),
        replicas=replicas,
        node_type=node_type or node.node_type or f"{platform.system()}-{platform.machine()}",
        cpu_model=cpu_model(),
        cpu_cores=_cpu_cores(known.get("MODEL_LOAD_TEST_CPU_LIMIT", "")),
        accelerator=accelerator or node.accelerator,
        generator=generator,
        generator_version=generator_version,
    )


def _shown(value: object) -> str:
    return shlex.join(value) if isinstance(value, (list, tuple)) else str(value)


def _with_list_of_flags(fields: Mapping[str, Any]) -> dict[str, Any]:
    flags = fields.get("server_flags", ())
    return {**fields, "server_flags": shlex.split(flags) if isinstance(flags, str) else flags}


def _spec_value(spec: Mapping[str, Any], name: str) -> str:
    return canonical_json(spec[name], name) if name in spec else "nothing"


def _cpu_cores(limit: str) -> int:
    if limit:
        if not limit.isdecimal() or int(limit) == 0:
            raise InputError("MODEL_LOAD_TEST_CPU_LIMIT", limit, "use a whole number of cores from 1")
        return int(limit)
    return usable_cores()


def _accelerators() -> str:
    # The driver's own files: nvidia-smi need not be in the image.
    models = [
        line.partition(":")[2].strip()
        for card in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        for line in card.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.startswith("Model:")
    ]
    return " + ".join(f"{models.count(model)} x {model}" for model in sorted(set(models)))
