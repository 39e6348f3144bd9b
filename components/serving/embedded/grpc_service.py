"""The gRPC services of TF Serving over the inference APIs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from model_load_test.components.protocols import tf_serving
from model_load_test.components.protocols.client import SERVER_KIND_KEY
from model_load_test.components.serving.embedded.failure import Code, ServingError
from model_load_test.components.serving.embedded.faults import FaultInjector
from model_load_test.components.serving.embedded.inference import Inference

SERVER_KIND = "embedded"
"""Told to whoever asks for a model's status: reports name it, baselines never cross it."""

_STATUS_OF_CODE = {code.value[0]: code for code in grpc.StatusCode}


def generic_handlers(inference: Inference, injector: FaultInjector | None) -> tuple[Any, ...]:
    """The handlers of PredictionService and ModelService.

    Args:
        inference: What answers.
        injector: Strikes Predict, Classify, Regress and MultiInference; None for no faults.
    """

    def measured(api: str, answer: Callable[[Any], Any], request_class: Any) -> Any:
        async def handle(request: Any, context: Any) -> Any:
            started_ns = time.perf_counter_ns()
            model_name = _model_name(request)
            code = Code.OK
            try:
                if injector:
                    await injector.suffer()
                response = await inference.answered(answer, request)
            except ServingError as error:
                code = error.code
                await context.abort(_STATUS_OF_CODE[error.code], error.message)
            finally:
                inference.metrics.count_request(model_name, code.name)
            inference.metrics.request_took(model_name, api, "GRPC", time.perf_counter_ns() - started_ns)
            return response

        return _unary(handle, request_class)

    def plain(answer: Callable[[Any], Any], request_class: Any) -> Any:
        async def handle(request: Any, context: Any) -> Any:
            context.set_trailing_metadata(((SERVER_KIND_KEY, SERVER_KIND),))
            try:
                return answer(request)
            except ServingError as error:
                await context.abort(_STATUS_OF_CODE[error.code], error.message)

        return _unary(handle, request_class)

    prediction = {
        "Predict": measured("Predict", inference.predict, tf_serving.PredictRequest),
        "Classify": measured("Classify", inference.classify, tf_serving.ClassificationRequest),
        "Regress": measured("Regress", inference.regress, tf_serving.RegressionRequest),
        "MultiInference": measured(
            "MultiInference", inference.multi_inference, tf_serving.MultiInferenceRequest
        ),
        "GetModelMetadata": plain(inference.model_metadata, tf_serving.GetModelMetadataRequest),
    }
    model = {"GetModelStatus": plain(inference.servables.status, tf_serving.GetModelStatusRequest)}
    return (
        grpc.method_handlers_generic_handler(tf_serving.PREDICTION_SERVICE, prediction),
        grpc.method_handlers_generic_handler(tf_serving.MODEL_SERVICE, model),
    )


def _unary(handle: Callable[[Any, Any], Awaitable[Any]], request_class: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=request_class.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )


def _model_name(request: Any) -> str:
    if hasattr(request, "tasks"):
        return request.tasks[0].model_spec.name if request.tasks else ""
    name: str = request.model_spec.name
    return name
