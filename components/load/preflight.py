"""Before any load: everything is in range, the targets answer and serve the model that is meant."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, get_args

from model_load_test.components.load.connection import (
    ConnectionOptions,
    parse_connection_options,
    refuse_longer_than_token,
    refuse_unfit,
)
from model_load_test.components.load.counters import MetricsPage, parse_metrics_page
from model_load_test.components.load.generators import find_generator
from model_load_test.components.load.run import LoadTest
from model_load_test.components.load.safety import Limits, parse_limits, refuse_load, refuse_target
from model_load_test.components.load.schedule import Arm
from model_load_test.components.load.spec import LoadSpec, LoadSpecError, parse_load_spec
from model_load_test.components.parameters import refuse_unknown
from model_load_test.components.payload.manifest import PayloadManifest, read_manifest
from model_load_test.components.payload.trial import try_payload
from model_load_test.components.protocols.client import (
    ModelNotReady,
    declared_server_kind,
    model_metadata,
    model_status,
)
from model_load_test.components.protocols.endpoint import Endpoint, parse_endpoint
from model_load_test.components.protocols.signature import NAMELESS, Signature, find_signature
from model_load_test.components.protocols.tf_serving import DEFAULT_SIGNATURE_NAME

_LEAST_TRIAL_TIMEOUT_SECONDS: Final = 10.0
"""For a request of the trial, which may be the first that a server ever answers."""


def prepare(
    *,
    candidate_endpoint: str,
    baseline_endpoint: str,
    model_name: str,
    signature_name: str,
    payload_path: Path,
    mode: str,
    spec_values: Mapping[str, Any],
    work_path: Path,
    connection: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
    metrics: Mapping[str, str] | None = None,
    locustfile: str = "",
    tried: bool = False,
) -> LoadTest:
    """Parses and checks everything a load test needs; sends each request once, and no load.

    Args:
        candidate_endpoint: Where the candidate's server listens.
        baseline_endpoint: Where the baseline's does; empty for none.
        model_name: The model both must serve.
        signature_name: The signature both must have, with the same inputs, or one of the payload's mix;
            empty for the payload's own.
        payload_path: The requests to send.
        mode: A mode of the load spec, or `auto`: duet with a baseline, else single.
        spec_values: The other fields of the load spec.
        work_path: Scratch folder for the run.
        connection: Certificates and tokens as files, as `parse_connection_options` takes them.
        limits: Where the load may go and how far, as `parse_limits` takes them.
        metrics: By arm, where its server shows its metrics, as `http://HOST:PORT/PATH`; empty for
            the usual place of TF Serving's and Triton's.
        locustfile: A locustfile to run in place of our own users, with tool `locust`.
        tried: Whether each request has been sent once already, so that this need not be done again.

    Raises:
        InputError: Something is missing, out of range or does not fit together; the error names
            the field, the value and the remedy.
    """
    allowed = parse_limits(limits or {})
    options = parse_connection_options(connection or {})
    endpoints = _endpoints(candidate_endpoint, baseline_endpoint, options, allowed)
    manifest = read_manifest(payload_path)
    protocol = endpoints["candidate"].protocol
    spec = parse_load_spec(
        {
            **spec_values,
            "protocol": protocol,
            "mode": _mode(mode, endpoints),
            "encrypted": endpoints["candidate"].secure,
            "payload_hash": manifest.hash,
            **_locustfile_facts(locustfile),
        }
    )
    refuse_load(spec, allowed)
    refuse_longer_than_token(options, spec)
    _refuse_other_payload(spec, manifest, model_name, signature_name)
    find_generator(spec.tool)
    loaded = {
        arm: endpoint for arm, endpoint in endpoints.items() if arm == "candidate" or spec.mode != "single"
    }
    _refuse_other_models(loaded, manifest)
    server_kind = _server_kind(loaded, manifest)
    for endpoint in loaded.values() if not tried else ():
        try_payload(payload_path, endpoint, max(spec.timeout_seconds, _LEAST_TRIAL_TIMEOUT_SECONDS))
    return LoadTest(
        spec=spec,
        endpoints=loaded,
        payload_path=payload_path,
        work_path=work_path,
        server_kind=server_kind,
        connection=options,
        limits=allowed,
        metrics=_pages(metrics or {}, endpoints, allowed),
        locustfile=Path(locustfile) if locustfile else None,
    )


def _endpoints(
    candidate: str, baseline: str, options: ConnectionOptions, limits: Limits
) -> dict[Arm, Endpoint]:
    endpoints: dict[Arm, Endpoint] = {"candidate": parse_endpoint(candidate, "candidate_endpoint")}
    if baseline:
        endpoints["baseline"] = parse_endpoint(baseline, "baseline_endpoint")
        if endpoints["baseline"] == endpoints["candidate"]:
            raise LoadSpecError(
                "baseline_endpoint", baseline, "this is the candidate's endpoint; name the other server"
            )
        if endpoints["baseline"].scheme != endpoints["candidate"].scheme:
            raise LoadSpecError(
                "baseline_endpoint",
                baseline,
                f"use the candidate's protocol, {endpoints['candidate'].scheme}: encryption costs time too",
            )
    for arm, endpoint in endpoints.items():
        refuse_target(endpoint, limits, f"{arm}_endpoint")
        refuse_unfit(options, endpoint, f"{arm}_endpoint")
    access = options.access()
    return {arm: replace(endpoint, access=access) for arm, endpoint in endpoints.items()}


def _locustfile_facts(locustfile: str) -> dict[str, str]:
    if not locustfile:
        return {}
    try:
        content = Path(locustfile).read_bytes()
        compile(content, locustfile, "exec")
    except OSError as error:
        raise LoadSpecError("locustfile", locustfile, f"it cannot be read ({error.strerror})") from None
    except (SyntaxError, ValueError) as error:
        raise LoadSpecError("locustfile", locustfile, f"it is no Python module ({error})") from None
    return {"locustfile_hash": hashlib.sha256(content).hexdigest()}


def _pages(
    metrics: Mapping[str, str], endpoints: Mapping[Arm, Endpoint], limits: Limits
) -> dict[Arm, MetricsPage]:
    refuse_unknown("metrics", metrics, get_args(Arm), LoadSpecError, prefix="metrics.")
    pages: dict[Arm, MetricsPage] = {}
    for arm in endpoints:
        if metrics.get(arm):
            pages[arm] = parse_metrics_page(metrics[arm], f"metrics.{arm}")
            refuse_target(pages[arm].endpoint, limits, f"metrics.{arm}")
    return pages


def _mode(mode: str, endpoints: Mapping[Arm, Endpoint]) -> str:
    has_baseline = "baseline" in endpoints
    if mode == "auto":
        return "duet" if has_baseline else "single"
    if mode in ("duet", "interleaved") and not has_baseline:
        raise LoadSpecError("mode", mode, "it needs two servers; give a baseline_endpoint or use mode single")
    return mode


def _refuse_other_payload(
    spec: LoadSpec, manifest: PayloadManifest, model_name: str, signature_name: str
) -> None:
    for field, wanted, made_for in (
        ("protocol", spec.protocol, manifest.protocol),
        ("model_name", model_name, manifest.model_name),
    ):
        if wanted != made_for:
            raise LoadSpecError(field, wanted, f"the payload was made for {made_for!r}; make it anew")
    names = [signature.name for signature in manifest.signatures]
    nameless = names == [NAMELESS] and signature_name == DEFAULT_SIGNATURE_NAME
    if signature_name and signature_name not in names and not nameless:
        raise LoadSpecError(
            "signature_name",
            signature_name,
            f"the payload was made for {manifest.signature_name!r}; make it anew",
        )


def _refuse_other_models(endpoints: Mapping[Arm, Endpoint], manifest: PayloadManifest) -> None:
    published: dict[Arm, Mapping[str, Signature]] = {}
    for arm, endpoint in endpoints.items():
        versions = model_status(endpoint, manifest.model_name, api=manifest.api)
        if not any(version.state == "AVAILABLE" for version in versions):
            states = ", ".join(f"{version.version} {version.state}".strip() for version in versions)
            raise ModelNotReady(
                "model_name",
                manifest.model_name,
                f"{endpoint} has no AVAILABLE version of it ({states})",
            )
        published[arm] = model_metadata(endpoint, manifest.model_name, api=manifest.api)
    # Vertex AI publishes no signatures; the trial tells.
    for name in (signature.name for signature in manifest.signatures if manifest.api != "vertex"):
        found = {
            arm: find_signature(signatures, name, manifest.model_name)
            for arm, signatures in published.items()
        }
        candidate, baseline = found["candidate"], found.get("baseline", found["candidate"])
        # Servers other than TF Serving may publish no inputs; then only the trial tells.
        both_publish = bool(candidate.inputs and baseline.inputs)
        if both_publish and dict(candidate.inputs) != dict(baseline.inputs):
            called = f"signature {name!r}" if name else "model"
            raise LoadSpecError(
                "baseline_endpoint",
                str(endpoints["baseline"]),
                f"its {called} takes {_shown(baseline)} and the candidate's {_shown(candidate)}; compare "
                "servers that can be sent the same requests",
            )


def _server_kind(endpoints: Mapping[Arm, Endpoint], manifest: PayloadManifest) -> str:
    kinds = {
        arm: declared_server_kind(endpoint, manifest.model_name, api=manifest.api)
        for arm, endpoint in endpoints.items()
    }
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{arm}: {kind or 'a model server'}" for arm, kind in kinds.items())
        raise LoadSpecError("baseline_endpoint", told, "compare servers of one kind only")
    return kinds["candidate"]


def _shown(signature: Signature) -> str:
    return ", ".join(f"{name} {spec}" for name, spec in signature.inputs.items())
