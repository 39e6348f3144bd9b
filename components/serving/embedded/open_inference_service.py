"""The Open Inference Protocol (v2) over the inference APIs, as gRPC service and as REST API."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

import grpc
from aiohttp import web

from model_load_test.components.protocols import open_inference as oip
from model_load_test.components.protocols.client import METRICS_PATH, SERVER_KIND_KEY
from model_load_test.components.protocols.open_inference_tensors import (
    datatype_of,
    datatype_of_array,
    fill_contents,
    from_contents,
    from_json,
    from_raw,
    has_contents_field,
    raw_contents,
)
from model_load_test.components.protocols.signature import Signature, signatures_from_defs
from model_load_test.components.protocols.tensors import (
    Array,
    TensorError,
    from_tensor_proto,
    to_tensor_proto,
)
from model_load_test.components.protocols.tf_serving import DEFAULT_SIGNATURE_NAME, PredictRequest
from model_load_test.components.serving.embedded.failure import (
    HTTP_STATUS,
    Code,
    ServingError,
    invalid_argument,
)
from model_load_test.components.serving.embedded.faults import FaultInjector
from model_load_test.components.serving.embedded.grpc_service import SERVER_KIND
from model_load_test.components.serving.embedded.inference import Inference
from model_load_test.components.serving.embedded.servables import Servable
from model_load_test.components.version import __version__

SERVER_NAME: Final = "model-load-test-embedded"

_MODEL_PATH: Final = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(?:/(ready|infer))?")
_MAX_BODY_BYTES: Final = 1 << 30
_STATUS_OF_CODE: Final = {code.value[0]: code for code in grpc.StatusCode}


def open_inference_handlers(inference: Inference, injector: FaultInjector | None) -> tuple[Any, ...]:
    """The handlers of GRPCInferenceService.

    Args:
        inference: What answers.
        injector: Strikes ModelInfer; None for no faults.
    """

    def answering(answer: Callable[[Any], Any], request_class: Any) -> Any:
        async def handle(request: Any, context: Any) -> Any:
            context.set_trailing_metadata(((SERVER_KIND_KEY, SERVER_KIND),))
            try:
                return answer(request)
            except ServingError as error:
                await context.abort(_STATUS_OF_CODE[error.code], error.message)

        return _unary(handle, request_class)

    async def infer(request: Any, context: Any) -> Any:
        started_ns = time.perf_counter_ns()
        code = Code.OK
        try:
            if injector:
                await injector.suffer()
            response = _infer_message(inference, request)
        except ServingError as error:
            code = error.code
            await context.abort(_STATUS_OF_CODE[error.code], error.message)
        finally:
            inference.metrics.count_request(request.model_name, code.name)
        took_ns = time.perf_counter_ns() - started_ns
        inference.metrics.request_took(request.model_name, "ModelInfer", "GRPC", took_ns)
        return response

    def ready(request: Any) -> Any:
        return oip.ModelReadyResponse(ready=_is_ready(inference, request.name))

    def metadata(request: Any) -> Any:
        return _metadata_message(_servable(inference, request.name, request.version))

    handlers = {
        "ServerLive": answering(lambda _: oip.ServerLiveResponse(live=True), oip.ServerLiveRequest),
        "ServerReady": answering(lambda _: oip.ServerReadyResponse(ready=True), oip.ServerReadyRequest),
        "ServerMetadata": answering(
            lambda _: oip.ServerMetadataResponse(name=SERVER_NAME, version=__version__),
            oip.ServerMetadataRequest,
        ),
        "ModelReady": answering(ready, oip.ModelReadyRequest),
        "ModelMetadata": answering(metadata, oip.ModelMetadataRequest),
        "ModelInfer": _unary(infer, oip.ModelInferRequest),
    }
    return (grpc.method_handlers_generic_handler(oip.INFERENCE_SERVICE, handlers),)


def open_inference_application(inference: Inference, injector: FaultInjector | None) -> web.Application:
    """The web application of the REST API.

    Args:
        inference: What answers.
        injector: Strikes infer; None for no faults.
    """

    async def metrics_page(_request: web.Request) -> web.Response:
        return web.Response(text=inference.metrics.page(), content_type="text/plain")

    async def handle(request: web.Request) -> web.Response:
        path = request.rel_url.raw_path.rstrip("/")
        body = await request.read()
        started_ns = time.perf_counter_ns()
        found = _MODEL_PATH.fullmatch(path)
        model_name = unquote(found.group(1)) if found else ""
        infers = found is not None and found.group(3) == "infer" and request.method == "POST"
        code = Code.OK
        try:
            if infers and injector:
                await injector.suffer()
            if found and infers:
                document = _infer_document(inference, model_name, found.group(2) or "", body)
            else:
                document = _about(inference, path, found)
        except ServingError as error:
            code, document = error.code, {"error": error.message}
        if infers:
            inference.metrics.count_request(model_name, code.name)
            if code is Code.OK:
                took_ns = time.perf_counter_ns() - started_ns
                inference.metrics.request_took(model_name, "infer", "REST", took_ns)
        return web.json_response(document, status=HTTP_STATUS[code], headers={SERVER_KIND_KEY: SERVER_KIND})

    app = web.Application(client_max_size=_MAX_BODY_BYTES)
    app.router.add_get(METRICS_PATH, metrics_page)
    app.router.add_route("*", "/{path:.*}", handle)
    return app


def _about(inference: Inference, path: str, found: re.Match[str] | None) -> dict[str, Any]:
    if path == "/v2":
        return {"name": SERVER_NAME, "version": __version__, "extensions": []}
    if path in ("/v2/health/live", "/v2/health/ready"):
        return {"live": True}
    if found is None or found.group(3) == "infer":
        raise ServingError(Code.NOT_FOUND, f"no such path: {path}")
    model_name = unquote(found.group(1))
    if found.group(3) == "ready":
        if not _is_ready(inference, model_name):
            raise ServingError(Code.UNAVAILABLE, f"model {model_name} is not ready")
        return {"name": model_name, "ready": True}
    message = _metadata_message(_servable(inference, model_name, found.group(2) or ""))
    return {
        "name": message.name,
        "versions": list(message.versions),
        "platform": message.platform,
        "inputs": [_tensor_document(tensor) for tensor in message.inputs],
        "outputs": [_tensor_document(tensor) for tensor in message.outputs],
    }


def _tensor_document(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _is_ready(inference: Inference, model_name: str) -> bool:
    """Whether the model is loaded; unknown models are an error."""
    request = PredictRequest()
    request.model_spec.name = model_name
    try:
        inference.servables.find(request.model_spec)
    except ServingError:
        inference.servables.status(request)
        return False
    return True


def _servable(inference: Inference, model_name: str, version: str) -> Servable:
    request = PredictRequest()
    request.model_spec.name = model_name
    if version:
        if not version.isdecimal():
            raise invalid_argument(f"no such version: {version}")
        request.model_spec.version.value = int(version)
    return inference.servables.find(request.model_spec)


def _signature(servable: Servable) -> Signature:
    signatures = signatures_from_defs(servable.signature_defs)
    return signatures.get(DEFAULT_SIGNATURE_NAME) or next(iter(signatures.values()))


def _metadata_message(servable: Servable) -> Any:
    signature = _signature(servable)
    message = oip.ModelMetadataResponse(
        name=servable.model_name, versions=[str(servable.version)], platform="model_load_test"
    )
    for tensors, specs in ((message.inputs, signature.inputs), (message.outputs, signature.outputs)):
        for name, spec in specs.items():
            shape = (-1,) if spec.shape is None else spec.shape
            tensors.add(name=name, datatype=datatype_of(spec.dtype), shape=shape)
    return message


def _infer(inference: Inference, servable: Servable, arrays: Mapping[str, Array]) -> dict[str, Array]:
    request = PredictRequest()
    request.model_spec.name = servable.model_name
    request.model_spec.version.value = servable.version
    request.model_spec.signature_name = _signature(servable).name
    for name, array in arrays.items():
        request.inputs[name].CopyFrom(to_tensor_proto(array))
    outputs = inference.predict(request).outputs
    return {name: from_tensor_proto(outputs[name]) for name in sorted(outputs)}


def _infer_message(inference: Inference, request: Any) -> Any:
    servable = _servable(inference, request.model_name, request.model_version)
    raw = len(request.raw_input_contents) > 0
    if raw and len(request.raw_input_contents) != len(request.inputs):
        raise invalid_argument(
            f"expected {len(request.inputs)} raw_input_contents, got {len(request.raw_input_contents)}"
        )
    arrays: dict[str, Array] = {}
    for number, tensor in enumerate(request.inputs):
        shape = tuple(tensor.shape)
        try:
            if raw and tensor.HasField("contents"):
                raise invalid_argument(f"contents of {tensor.name} given beside raw_input_contents")
            arrays[tensor.name] = (
                from_raw(request.raw_input_contents[number], tensor.datatype, shape)
                if raw
                else from_contents(tensor.contents, tensor.datatype, shape)
            )
        except TensorError as error:
            raise invalid_argument(f"input {tensor.name}: {error}") from None
    response = oip.ModelInferResponse(
        model_name=servable.model_name, model_version=str(servable.version), id=request.id
    )
    outputs = _infer(inference, servable, arrays)
    raw = raw or not all(has_contents_field(datatype_of_array(array)) for array in outputs.values())
    for name, array in outputs.items():
        tensor = response.outputs.add(name=name, datatype=datatype_of_array(array), shape=array.shape)
        if raw:
            response.raw_output_contents.append(raw_contents(array))
        else:
            fill_contents(tensor.contents, array)
    return response


def _infer_document(inference: Inference, model_name: str, version: str, body: bytes) -> dict[str, Any]:
    servable = _servable(inference, model_name, version)
    try:
        document = json.loads(body)
        tensors = {str(tensor["name"]): tensor for tensor in document["inputs"]}
    except (ValueError, TypeError, KeyError) as error:
        raise invalid_argument(f"malformed request: {error!r}") from None
    arrays: dict[str, Array] = {}
    for name, tensor in tensors.items():
        try:
            arrays[name] = from_json(tensor)
        except TensorError as error:
            raise invalid_argument(f"input {name}: {error}") from None
    answer: dict[str, Any] = {"model_name": servable.model_name, "model_version": str(servable.version)}
    if "id" in document:
        answer["id"] = document["id"]
    outputs = _infer(inference, servable, arrays)
    answer["outputs"] = [
        {
            "name": name,
            "datatype": datatype_of_array(array),
            "shape": list(array.shape),
            "data": [
                value.decode(errors="replace") if isinstance(value, bytes) else value
                for value in array.ravel().tolist()
            ],
        }
        for name, array in outputs.items()
    ]
    return answer


def _unary(handle: Any, request_class: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=request_class.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )
