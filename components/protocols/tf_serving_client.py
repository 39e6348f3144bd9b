"""TF Serving's status and metadata, over gRPC and REST."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

import grpc
from google.protobuf import json_format

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.connection import (
    SHOWN_ANSWER_CHARACTERS,
    ModelNotFound,
    UnexpectedAnswer,
    call_message,
    call_with_metadata,
    get,
    get_document,
    unreachable_by,
)
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.protocols.signature import Signature, signatures_from_defs
from model_load_test.components.protocols.status import VersionStatus
from model_load_test.components.protocols.tf_serving import (
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    GetModelStatusResponse,
    SignatureDefMap,
)

METRICS_PATH: Final = "/monitoring/prometheus/metrics"
"""Where TF Serving shows its metrics, if it was told to."""

_SIGNATURE_DEF: Final = "signature_def"
_ANSWERED_MODEL: Final = re.compile(r':tensorflow:serving:request_count\{model_name="([^"]+)",status="OK"\}')


def versions(endpoint: Endpoint, model_name: str, timeout_seconds: float) -> tuple[VersionStatus, ...]:
    """The states of all versions of a model, lowest version first.

    Raises:
        ServerUnreachable: Nothing answers at the endpoint in time.
        ModelNotFound: The server has no such model.
        UnexpectedAnswer: What answers is not a TF Serving server of that protocol.
    """
    if endpoint.protocol == "grpc":
        answer = _call(endpoint, GET_MODEL_STATUS, _status_request(model_name), model_name, timeout_seconds)
    else:
        document = _get_json(endpoint, model_name, _model_path(model_name), timeout_seconds)
        if "model_version_status" not in document:
            raise _not_tf_serving(endpoint, json.dumps(document))
        answer = _parsed(document, GetModelStatusResponse, endpoint)
    states = answer.DESCRIPTOR.fields_by_name["model_version_status"].message_type.enum_types_by_name["State"]
    return tuple(
        VersionStatus(
            version=one.version,
            state=states.values_by_number[one.state].name,
            error_code=_error_code_name(one),
            error_message=one.status.error_message,
        )
        for one in sorted(answer.model_version_status, key=lambda one: int(one.version))
    )


def signatures(endpoint: Endpoint, model_name: str, timeout_seconds: float) -> dict[str, Signature]:
    """The signatures of a model's latest version, by name.

    Raises:
        ServerUnreachable: Nothing answers at the endpoint in time.
        ModelNotFound: The server has no such model, or none of its versions is available.
        UnexpectedAnswer: What answers is not a TF Serving server of that protocol.
    """
    signature_defs = SignatureDefMap()
    if endpoint.protocol == "grpc":
        request = GetModelMetadataRequest()
        request.model_spec.name = model_name
        request.metadata_field.append(_SIGNATURE_DEF)
        answer = _call(endpoint, GET_MODEL_METADATA, request, model_name, timeout_seconds)
        answer.metadata[_SIGNATURE_DEF].Unpack(signature_defs)
    else:
        path = f"{_model_path(model_name)}/metadata"
        document = _get_json(endpoint, model_name, path, timeout_seconds)
        metadata = document.get("metadata")
        if not isinstance(metadata, dict) or _SIGNATURE_DEF not in metadata:
            raise _not_tf_serving(endpoint, json.dumps(document))
        signature_defs = _parsed(metadata[_SIGNATURE_DEF], SignatureDefMap, endpoint)
    return signatures_from_defs(signature_defs.signature_def)


def response_metadata(endpoint: Endpoint, model_name: str, timeout_seconds: float) -> dict[str, str]:
    """What the server sends beside its answer to a question for the status, by lower-case name.

    Raises:
        InputError: As `versions`.
    """
    if endpoint.protocol == "http":
        _, headers, _ = get(endpoint, _model_path(model_name), timeout_seconds)
        return {name.lower(): value for name, value in headers.items()}
    try:
        request = _status_request(model_name)
        return call_with_metadata(
            endpoint, GET_MODEL_STATUS, request, GetModelStatusResponse, timeout_seconds
        )[1]
    except grpc.RpcError as error:
        raise _explained(endpoint, model_name, error) from None


def speaks_tf_serving(endpoint: Endpoint, model_name: str, timeout_seconds: float) -> bool:
    """Whether what answers there is TF Serving; it need not have the model.

    Raises:
        ServerUnreachable: Nothing answers at the endpoint in time.
    """
    try:
        versions(endpoint, model_name, timeout_seconds)
    except ModelNotFound as error:
        # Others say «not found» too, TF Serving in these words of its own.
        return bool(re.search(r"Could not find any versions of model|Servable not found", error.remedy))
    except UnexpectedAnswer:
        return False
    return True


def _status_request(model_name: str) -> Any:
    request = GetModelStatusRequest()
    request.model_spec.name = model_name
    return request


_ANSWERS: Final = {
    GET_MODEL_STATUS: GetModelStatusResponse,
    GET_MODEL_METADATA: GetModelMetadataResponse,
}


def _call(endpoint: Endpoint, method: str, request: Any, model_name: str, timeout_seconds: float) -> Any:
    try:
        return call_message(endpoint, method, request, _ANSWERS[method], timeout_seconds)
    except grpc.RpcError as error:
        raise _explained(endpoint, model_name, error) from None


def _explained(endpoint: Endpoint, model_name: str, error: Any) -> InputError:
    if error.code() == grpc.StatusCode.NOT_FOUND:
        return _model_not_found(endpoint, model_name, error.details())
    said = f"{error.code().name}: {error.details()}"
    return unreachable_by(endpoint, error) or _not_tf_serving(endpoint, said)


def _error_code_name(status: Any) -> str:
    codes = status.status.DESCRIPTOR.fields_by_name["error_code"].enum_type
    known = codes.values_by_number.get(status.status.error_code)
    return known.name if known else str(status.status.error_code)


def _model_path(model_name: str) -> str:
    return f"/v1/models/{quote(model_name, safe='')}"


def _get_json(endpoint: Endpoint, model_name: str, path: str, timeout_seconds: float) -> dict[str, Any]:
    status, document, text = get_document(endpoint, path, timeout_seconds)
    if document is None:
        raise _not_tf_serving(endpoint, f"HTTP {status}: {text}")
    if status == http.client.NOT_FOUND and "error" in document:
        said = str(document["error"])
        raise _model_not_found(endpoint, model_name, said, _served_models(endpoint, timeout_seconds))
    if status != http.client.OK:
        raise _not_tf_serving(endpoint, f"HTTP {status}: {document.get('error', document)}")
    return document


def _parsed(document: dict[str, Any], message: Any, endpoint: Endpoint) -> Any:
    try:
        return json_format.ParseDict(document, message(), ignore_unknown_fields=True)
    except json_format.ParseError:
        raise _not_tf_serving(endpoint, json.dumps(document)) from None


def _model_not_found(
    endpoint: Endpoint, model_name: str, said: str, served: Sequence[str] = ()
) -> ModelNotFound:
    known = f"; it serves: {', '.join(served)}" if served else ""
    return ModelNotFound(
        "model_name", model_name, f"{endpoint} does not serve it ({said}){known}; give a name it serves"
    )


def _served_models(endpoint: Endpoint, timeout_seconds: float) -> list[str]:
    """The models that a server's metrics say it answered OK for: TF Serving has no call that lists them."""
    try:
        _, _, page = get(endpoint, METRICS_PATH, timeout_seconds)
    except InputError:
        return []
    return sorted(set(_ANSWERED_MODEL.findall(page.decode(errors="replace"))))


def _not_tf_serving(endpoint: Endpoint, said: str) -> UnexpectedAnswer:
    other = "http://HOST:8501" if endpoint.protocol == "grpc" else "grpc://HOST:8500"
    return UnexpectedAnswer(
        "endpoint",
        str(endpoint),
        f"what answers there is not TF Serving's {endpoint.protocol} port "
        f"({said[:SHOWN_ANSWER_CHARACTERS]}); if it is its other port, write it as {other}",
    )
