"""Seldon Core 1's prediction API over the inference APIs: one model, REST only."""

from __future__ import annotations

import json
import time
from typing import Any, Final

import numpy as np
from aiohttp import web

from model_load_test.components.protocols import seldon
from model_load_test.components.protocols.client import METRICS_PATH, SERVER_KIND_KEY
from model_load_test.components.protocols.signature import signatures_from_defs
from model_load_test.components.protocols.tensors import (
    Array,
    TensorError,
    from_tensor_proto,
    numpy_dtype,
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

_MAX_BODY_BYTES: Final = 1 << 30
_HEADERS: Final = {SERVER_KIND_KEY: SERVER_KIND}


def seldon_application(
    inference: Inference, injector: FaultInjector | None, model_name: str
) -> web.Application:
    """The web application.

    Args:
        inference: What answers.
        injector: Strikes predictions; None for no faults.
        model_name: The one model that answers; a request names none.
    """

    def servable() -> Servable:
        request = PredictRequest()
        request.model_spec.name = model_name
        return inference.servables.find(request.model_spec)

    async def ready(_request: web.Request) -> web.Response:
        try:
            servable()
        except ServingError:
            return web.Response(status=503, headers=_HEADERS)
        return web.Response(headers=_HEADERS)

    async def metadata(_request: web.Request) -> web.Response:
        return web.json_response(_metadata(servable()), headers=_HEADERS)

    async def metrics_page(_request: web.Request) -> web.Response:
        return web.Response(text=inference.metrics.page(), content_type="text/plain")

    async def predict(request: web.Request) -> web.Response:
        body = await request.read()
        started_ns = time.perf_counter_ns()
        code = Code.OK
        try:
            if injector:
                await injector.suffer()
            answer = _predict(inference, servable(), body)
        except ServingError as error:
            code = error.code
            status = {"code": HTTP_STATUS[code], "info": error.message, "status": "FAILURE"}
            answer = {"status": status}
        inference.metrics.count_request(model_name, code.name)
        if code is Code.OK:
            took_ns = time.perf_counter_ns() - started_ns
            inference.metrics.request_took(model_name, "predictions", "REST", took_ns)
        return web.json_response(answer, status=HTTP_STATUS[code], headers=_HEADERS)

    app = web.Application(client_max_size=_MAX_BODY_BYTES)
    app.router.add_get(METRICS_PATH, metrics_page)
    app.router.add_get(seldon.READY_PATH, ready)
    app.router.add_get(seldon.METADATA_PATH, metadata)
    app.router.add_post(seldon.PREDICT_PATH, predict)
    return app


def _metadata(servable: Servable) -> dict[str, Any]:
    signature = _signature_of(servable)
    (spec,) = signature.inputs.values()
    entry = {"messagetype": "tensor", "schema": {"shape": list(spec.shape or (-1,))}}
    return {"name": servable.model_name, "models": {}, "graphinputs": [entry], "graphoutputs": []}


def _signature_of(servable: Servable) -> Any:
    signature = signatures_from_defs(servable.signature_defs).get(DEFAULT_SIGNATURE_NAME)
    if signature is None or len(signature.inputs) != 1:
        raise invalid_argument("Seldon's API carries one matrix; this model has not one input")
    return signature


def _predict(inference: Inference, servable: Servable, body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
        array, _ = seldon.read_message(document)
    except (ValueError, AttributeError) as error:
        raise invalid_argument(str(error)) from None
    ((name, spec),) = _signature_of(servable).inputs.items()
    request = PredictRequest()
    request.model_spec.name = servable.model_name
    request.inputs[name].CopyFrom(to_tensor_proto(_as_wanted(array, spec.dtype)))
    response = inference.predict(request)
    outputs = {name: from_tensor_proto(tensor) for name, tensor in response.outputs.items()}
    first = outputs[min(outputs)] if "scores" not in outputs else outputs["scores"]
    as_text = first.dtype == object
    return {**seldon.message(first, (), "ndarray" if as_text else "tensor"), "meta": {}}


def _as_wanted(array: Array, dtype: str) -> Array:
    if (array.dtype == object) != (dtype == "string"):
        raise invalid_argument(f"the model takes {dtype}")
    try:
        wanted: Array = array if dtype == "string" else array.astype(numpy_dtype(dtype))
    except (TensorError, ValueError) as error:
        raise invalid_argument(str(error)) from None
    if (
        dtype != "string"
        and not np.array_equal(wanted.astype(np.float64), array)
        and wanted.dtype.kind in "iu"
    ):
        raise invalid_argument(f"the values are no {dtype}")
    return wanted
