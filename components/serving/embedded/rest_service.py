"""The REST API of TF Serving over the inference APIs (http_rest_api_handler.cc, http_rest_api_util.cc)."""

from __future__ import annotations

import re
import time
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from aiohttp import web
from google.protobuf import json_format

from model_load_test.components.protocols import tf_serving
from model_load_test.components.protocols.client import METRICS_PATH, SERVER_KIND_KEY
from model_load_test.components.protocols.tf_serving import DEFAULT_SIGNATURE_NAME
from model_load_test.components.serving.embedded.failure import (
    HTTP_STATUS,
    Code,
    ServingError,
    invalid_argument,
)
from model_load_test.components.serving.embedded.faults import FaultInjector
from model_load_test.components.serving.embedded.grpc_service import SERVER_KIND
from model_load_test.components.serving.embedded.inference import Inference
from model_load_test.components.serving.embedded.json_tensors import (
    classification_json,
    error_json,
    fill_examples,
    fill_predict_inputs,
    parse_object,
    predict_json,
    regression_json,
    signature_name_of,
)
from model_load_test.components.serving.embedded.own_process import process_page

_INFERENCE_PATH: Final = re.compile(
    r"/v1/models/([^/:]+)(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?:(classify|regress|predict)",
    re.IGNORECASE | re.ASCII,
)
_STATUS_PATH: Final = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?(?:/(metadata))?",
    re.IGNORECASE | re.ASCII,
)
_LARGEST_VERSION: Final = 2**63 - 1
_MAX_BODY_BYTES: Final = 1 << 30


class _Target(NamedTuple):
    """What a path asks for."""

    model_name: str
    version: int | None
    label: str | None
    method: str
    """predict, classify, regress or metadata, as written; empty for the status."""


def application(inference: Inference, injector: FaultInjector | None) -> web.Application:
    """The web application.

    Args:
        inference: What answers.
        injector: Strikes predict, classify and regress; None for no faults.
    """
    api = _RestApi(inference, injector)
    app = web.Application(client_max_size=_MAX_BODY_BYTES)
    app.router.add_get(METRICS_PATH, api.metrics_page)
    app.router.add_route("*", "/{path:.*}", api.handle)
    return app


class _RestApi:
    def __init__(self, inference: Inference, injector: FaultInjector | None) -> None:
        self._inference = inference
        self._injector = injector

    async def metrics_page(self, _request: web.Request) -> web.Response:
        text = self._inference.metrics.page() + process_page()
        return web.Response(text=text, content_type="text/plain")

    async def handle(self, request: web.Request) -> web.Response:
        started_ns = time.perf_counter_ns()
        path = request.rel_url.raw_path
        if not path.startswith("/v1/"):
            return web.Response(status=404, text="Not Found")
        body = await request.read()
        code, target = Code.OK, None
        try:
            target = _target(request.method, path)
            if self._injector and request.method == "POST":
                await self._injector.suffer()
            answer = await self._inference.answered(self._answer, target, request.method, path, body)
        except ServingError as error:
            code, answer = error.code, error_json(error.message)
        model_name, method = (target.model_name, target.method) if target else ("", "")
        self._inference.metrics.count_request(model_name, code.name)
        if code is Code.OK:
            took_ns = time.perf_counter_ns() - started_ns
            api = method if request.method == "POST" else ""
            self._inference.metrics.request_took(model_name, api, "REST", took_ns)
        return web.Response(
            status=HTTP_STATUS[code],
            body=answer,
            content_type="application/json",
            headers={SERVER_KIND_KEY: SERVER_KIND},
        )

    def _answer(self, target: _Target | None, http_method: str, path: str, body: bytes) -> bytes:
        if target is not None:
            answers = {
                ("POST", "predict"): self._predict,
                ("POST", "classify"): self._classify,
                ("POST", "regress"): self._regress,
            }
            if http_method == "GET":
                return self._metadata(target) if target.method == "metadata" else self._status(target)
            if (http_method, target.method) in answers:
                return answers[http_method, target.method](target, body)
        raise invalid_argument(f"Malformed request: {http_method} {path}")

    def _predict(self, target: _Target, body: bytes) -> bytes:
        request = tf_serving.PredictRequest()
        _fill_model_spec(request.model_spec, target)
        document = parse_object(body)
        request.model_spec.signature_name = signature_name_of(document)
        servable = self._inference.servables.find(request.model_spec)
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE_NAME
        signature = servable.signature_defs.get(name)
        if signature is None:
            raise invalid_argument(f'Serving signature name: "{name}" not found in signature def')
        if not signature.inputs:
            asked = request.model_spec.signature_name or "DEFAULT"
            raise invalid_argument(f"Failed to get input map for signature: {asked}")
        body_format = fill_predict_inputs(document, signature.inputs, request.inputs)
        return predict_json(self._inference.predict(request).outputs, body_format)

    def _classify(self, target: _Target, body: bytes) -> bytes:
        request = tf_serving.ClassificationRequest()
        _fill_examples_request(request, target, body)
        return classification_json(self._inference.classify(request).result)

    def _regress(self, target: _Target, body: bytes) -> bytes:
        request = tf_serving.RegressionRequest()
        _fill_examples_request(request, target, body)
        return regression_json(self._inference.regress(request).result)

    def _status(self, target: _Target) -> bytes:
        _require_model_name(target)
        request = tf_serving.GetModelStatusRequest()
        _fill_model_spec(request.model_spec, target)
        return _message_json(self._inference.servables.status(request)).encode()

    def _metadata(self, target: _Target) -> bytes:
        _require_model_name(target)
        request = tf_serving.GetModelMetadataRequest(metadata_field=["signature_def"])
        _fill_model_spec(request.model_spec, target)
        response = self._inference.model_metadata(request)
        signature_defs = tf_serving.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signature_defs)
        return (
            f'{{\n"model_spec":{_message_json(response.model_spec)},\n'
            f'"metadata": {{"signature_def": {_message_json(signature_defs)}}}\n}}\n'
        ).encode()


def _target(http_method: str, path: str) -> _Target | None:
    pattern = {"POST": _INFERENCE_PATH, "GET": _STATUS_PATH}.get(http_method)
    found = pattern.fullmatch(path) if pattern else None
    if found is None:
        return None
    name, version, label, method = found.groups()
    if version and int(version) > _LARGEST_VERSION:
        raise invalid_argument(f"Failed to convert version: {version} to numeric.")
    return _Target(
        model_name=unquote(name or ""),
        version=int(version) if version else None,
        label=unquote(label) if label else None,
        method=method or "",
    )


def _require_model_name(target: _Target) -> None:
    if not target.model_name:
        raise invalid_argument("Missing model name in request.")


def _fill_model_spec(model_spec: Any, target: _Target) -> None:
    model_spec.name = target.model_name
    if target.version is not None:
        model_spec.version.value = target.version
    if target.label is not None:
        model_spec.version_label = target.label


def _fill_examples_request(request: Any, target: _Target, body: bytes) -> None:
    _fill_model_spec(request.model_spec, target)
    document = parse_object(body)
    request.model_spec.signature_name = signature_name_of(document)
    fill_examples(document, request.input)


def _message_json(message: Any) -> str:
    return json_format.MessageToJson(
        message, preserving_proto_field_name=True, indent=1, always_print_fields_with_no_presence=True
    )
