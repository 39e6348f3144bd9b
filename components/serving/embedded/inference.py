"""Predict, Classify, Regress and GetModelMetadata on messages, whatever transport brought them.

Checks, their order and their texts follow TF Serving's servables/tensorflow and TensorFlow's
cc/saved_model/util.cc, so that a client's error handling can be tried against this server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np

from model_load_test.components.protocols.tensors import (
    Array,
    TensorError,
    from_tensor_proto,
    to_tensor_proto,
)
from model_load_test.components.protocols.tf_serving import (
    CLASSIFY_METHOD_NAME,
    DEFAULT_SIGNATURE_NAME,
    REGRESS_METHOD_NAME,
    ClassificationResponse,
    DataType,
    GetModelMetadataResponse,
    MultiInferenceResponse,
    PredictResponse,
    RegressionResponse,
    SignatureDefMap,
)
from model_load_test.components.serving.embedded.batching import Batcher
from model_load_test.components.serving.embedded.failure import Code, ServingError, invalid_argument
from model_load_test.components.serving.embedded.metrics import Metrics
from model_load_test.components.serving.embedded.servables import Servable, Servables

Answer = TypeVar("Answer")

_SIGNATURE_DEF: Final = "signature_def"
_RUNTIME: Final = "TF1"
"""TF Serving's name for a plain session, which this server's SavedModel backend is too."""
_MOST_WAITING: Final = 512
"""Requests that may wait for a batch at once; the others wait for their turn to do so."""
_STRING: Final = DataType.values_by_name["DT_STRING"].number


@dataclass(frozen=True)
class Inference:
    """The inference APIs over a set of models."""

    servables: Servables
    metrics: Metrics
    batcher: Batcher | None = None
    """Computes requests together; none to compute each by itself."""
    _clients: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_MOST_WAITING, thread_name_prefix="request")
    )

    async def answered(self, answer: Callable[..., Answer], *arguments: Any) -> Answer:
        """What `answer` returns: at once, or on a thread that may wait for a batch to be computed."""
        if self.batcher is None:
            return answer(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._clients, answer, *arguments)

    def predict(self, request: Any) -> Any:
        """Answers a PredictRequest.

        Raises:
            ServingError: As TF Serving would refuse it.
        """
        servable = self._servable(request)
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE_NAME
        signature = servable.signature_defs.get(name)
        if signature is None:
            raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        feeds = _feeds(signature, request.inputs)
        aliases = _output_aliases(signature, request.output_filter)
        outputs = self._run(servable, "Predict", feeds, [signature.outputs[alias].name for alias in aliases])
        response = PredictResponse()
        _fill_model_spec(response.model_spec, servable, name)
        for alias, output in zip(aliases, outputs, strict=True):
            response.outputs[alias].CopyFrom(to_tensor_proto(output, typed_field=True))
        return response

    def classify(self, request: Any) -> Any:
        """Answers a ClassificationRequest.

        Raises:
            ServingError: As TF Serving would refuse it.
        """
        servable = self._servable(request)
        signature = _example_signature(servable, request.model_spec)
        fetches = _classification_fetches(signature)
        examples = _serialized_examples(request.input)
        feeds = {signature.inputs["inputs"].name: examples}
        outputs = self._run(servable, "Classify", feeds, list(fetches.values()))
        response = ClassificationResponse()
        _fill_model_spec(response.model_spec, servable, request.model_spec.signature_name)
        _fill_classifications(response.result, dict(zip(fetches, outputs, strict=True)), len(examples))
        return response

    def regress(self, request: Any) -> Any:
        """Answers a RegressionRequest.

        Raises:
            ServingError: As TF Serving would refuse it.
        """
        servable = self._servable(request)
        signature = _example_signature(servable, request.model_spec)
        fetch = _regression_fetch(signature)
        examples = _serialized_examples(request.input)
        feeds = {signature.inputs["inputs"].name: examples}
        (output,) = self._run(servable, "Regress", feeds, [fetch])
        response = RegressionResponse()
        _fill_model_spec(response.model_spec, servable, request.model_spec.signature_name)
        _fill_regressions(response.result, output, len(examples))
        return response

    def multi_inference(self, request: Any) -> Any:
        """Answers a MultiInferenceRequest: several classifications and regressions of the same examples.

        Raises:
            ServingError: As TF Serving would refuse it.
        """
        if not request.tasks:
            raise invalid_argument("Inference request must contain at least one task.")
        _check_tasks(request.tasks)
        response = MultiInferenceResponse()
        for task in request.tasks:
            servable = self.servables.find(task.model_spec)
            name = task.model_spec.signature_name or DEFAULT_SIGNATURE_NAME
            signature = servable.signature_defs.get(name)
            if signature is None:
                raise invalid_argument(f"Requested signature not found in model graph: {name}")
            examples = _serialized_examples(request.input)
            result = response.results.add()
            _fill_model_spec(result.model_spec, servable, task.model_spec.signature_name)
            feeds: dict[str, Array]
            if task.method_name == CLASSIFY_METHOD_NAME:
                fetches = _classification_fetches(signature)
                feeds = {signature.inputs["inputs"].name: examples}
                outputs = self._run(servable, "MultiInference", feeds, list(fetches.values()))
                _fill_classifications(
                    result.classification_result, dict(zip(fetches, outputs, strict=True)), len(examples)
                )
            else:
                fetch = _regression_fetch(signature)
                feeds = {signature.inputs["inputs"].name: examples}
                (output,) = self._run(servable, "MultiInference", feeds, [fetch])
                _fill_regressions(result.regression_result, output, len(examples))
        return response

    def model_metadata(self, request: Any) -> Any:
        """Answers a GetModelMetadataRequest.

        Raises:
            ServingError: As TF Serving would refuse it.
        """
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
        for metadata_field in request.metadata_field:
            if metadata_field != _SIGNATURE_DEF:
                raise invalid_argument(f"Metadata field {metadata_field} is not supported")
        servable = self.servables.find(request.model_spec)
        signature_defs = SignatureDefMap()
        for name, signature in servable.signature_defs.items():
            signature_defs.signature_def[name].CopyFrom(signature)
        response = GetModelMetadataResponse()
        response.model_spec.name = servable.model_name
        response.model_spec.version.value = servable.version
        response.metadata[_SIGNATURE_DEF].Pack(signature_defs)
        return response

    def _servable(self, request: Any) -> Servable:
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        return self.servables.find(request.model_spec)

    def _run(
        self, servable: Servable, api: str, feeds: Mapping[str, Array], fetches: Sequence[str]
    ) -> Sequence[Array]:
        started_ns = time.perf_counter_ns()
        if self.batcher is not None:
            outputs = self.batcher.run(servable, feeds, fetches)
        else:
            outputs = servable.run(feeds, fetches)
        self.metrics.runtime_took(servable.model_name, api, _RUNTIME, time.perf_counter_ns() - started_ns)
        return outputs


def _fill_model_spec(model_spec: Any, servable: Servable, signature_name: str) -> None:
    model_spec.name = servable.model_name
    model_spec.signature_name = signature_name or DEFAULT_SIGNATURE_NAME
    model_spec.version.value = servable.version


def _joined(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def _feeds(signature: Any, inputs: Mapping[str, Any]) -> dict[str, Array]:
    wanted, sent = signature.inputs, inputs
    if len(sent) > len(wanted) or (len(sent) < len(wanted) and not signature.defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(wanted)} "
            f"len({{{_joined(sent)}}}) != len({{{_joined(wanted)}}}). "
            f"Sent extra: {{{_joined(set(sent) - set(wanted))}}}. "
            f"Missing but required: {{{_joined(set(wanted) - set(sent))}}}."
        )
    feeds: dict[str, Array] = {}
    for position, alias in enumerate(sorted(wanted)):
        info = wanted[alias]
        if alias in sent:
            proto = sent[alias]
        elif alias in signature.defaults:
            proto = signature.defaults[alias]
        else:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {info.name}) not found in request and no "
                f"default value provided. Inputs expected to be in the request {{{_joined(sent)}}}, or "
                f"default input alias set: {_joined(signature.defaults)}"
            )
        try:
            value = from_tensor_proto(proto)
        except TensorError:
            raise invalid_argument(f"tensor parsing error: {alias}") from None
        if proto.dtype != info.dtype:
            raise invalid_argument(
                f"Expects arg[{position}] to be {data_type_text(info.dtype)} "
                f"but {data_type_text(proto.dtype)} is provided"
            )
        feeds[info.name] = value
    used = set(sent) & set(wanted)
    if len(used) != len(sent):
        raise invalid_argument(
            f"Inputs contains invalid name. Used request inputs: {_joined(used)}, "
            f"request input: {_joined(sent)}"
        )
    return feeds


def data_type_text(number: int) -> str:
    """TensorFlow's text of a data type, as its errors have it: `float`, `int64`, `string` ..."""
    named = DataType.values_by_number.get(number)
    return str(named.name).removeprefix("DT_").lower() if named else str(number)


def _output_aliases(signature: Any, output_filter: Sequence[str]) -> list[str]:
    seen: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {{{_joined(signature.outputs)}}}."
            )
        if alias in seen:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        seen.append(alias)
    return seen or sorted(signature.outputs)


def _example_signature(servable: Servable, model_spec: Any) -> Any:
    name = model_spec.signature_name or DEFAULT_SIGNATURE_NAME
    signature = servable.signature_defs.get(name)
    if signature is None:
        raise invalid_argument(f"No signature was found with the name: {name}")
    return signature


def _classification_fetches(signature: Any) -> dict[str, str]:
    """Tensor names of the classes and scores, by these two words; at least one of them is there."""
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid_argument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if "inputs" not in signature.inputs:
        raise invalid_argument(f"No classification inputs found in SignatureDef: {signature}")
    fetches = {
        alias: signature.outputs[alias].name for alias in ("classes", "scores") if alias in signature.outputs
    }
    if not fetches:
        raise invalid_argument(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {signature}"
        )
    return fetches


def _regression_fetch(signature: Any) -> str:
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    if "inputs" not in signature.inputs:
        raise invalid_argument(f"No regression inputs found in SignatureDef: {signature}")
    if "outputs" not in signature.outputs:
        raise invalid_argument(f"No regression outputs found in SignatureDef: {signature}")
    name: str = signature.outputs["outputs"].name
    return name


def _serialized_examples(inputs: Any) -> Array:
    """The request's examples, each serialized; a context comes before each of them."""
    kind = inputs.WhichOneof("kind")
    context = b""
    if kind == "example_list":
        examples = inputs.example_list.examples
    elif kind == "example_list_with_context":
        examples = inputs.example_list_with_context.examples
        context = inputs.example_list_with_context.context.SerializeToString()
    else:
        examples = []
    if not examples:
        raise invalid_argument("Input is empty.")
    serialized = np.empty(len(examples), object)
    serialized[:] = [context + example.SerializeToString() for example in examples]
    return serialized


def _fill_classifications(result: Any, outputs: Mapping[str, Array], examples: int) -> None:
    for alias, wanted in (("classes", np.dtype(object)), ("scores", np.dtype(np.float32))):
        output = outputs.get(alias)
        if output is None:
            continue
        if output.ndim != 2:
            raise invalid_argument(
                f"Expected Tensor shape: [batch_size num_classes] but got {_shape_text(output)}"
            )
        if output.dtype != wanted:
            kind = "DT_STRING" if alias == "classes" else "DT_FLOAT"
            raise invalid_argument(f"Expected {alias} Tensor of {kind}. Got: {_data_type_name(output)}")
        if len(output) != examples:
            raise invalid_argument(f"Expected {alias} output batch size of {examples}. Got: {len(output)}")
    classes, scores = outputs.get("classes"), outputs.get("scores")
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise invalid_argument(
            "Tensors class and score should match in dim_size(1). "
            f"Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    columns = next(iter(outputs.values())).shape[1]
    for row in range(examples):
        classification = result.classifications.add()
        for column in range(columns):
            one = classification.classes.add()
            if classes is not None:
                one.label = classes[row, column].decode(errors="replace")
            if scores is not None:
                one.score = float(scores[row, column])


def _fill_regressions(result: Any, output: Array, examples: int) -> None:
    if not (output.ndim == 1 or (output.ndim == 2 and output.shape[1] == 1)):
        raise invalid_argument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] "
            f"but got {_shape_text(output)}"
        )
    if len(output) != examples:
        raise invalid_argument(
            f"Input batch size did not match output batch size: {examples} vs. {len(output)}"
        )
    if output.dtype != np.float32:
        raise invalid_argument(f"Expected output Tensor of DT_FLOAT.  Got: {_data_type_name(output)}")
    for value in output.ravel().tolist():
        result.regressions.add().value = value


def _shape_text(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _data_type_name(array: Array) -> str:
    name: str = DataType.values_by_number[to_tensor_proto(array[:0]).dtype].name
    return name


def _check_tasks(tasks: Sequence[Any]) -> None:
    model_name = tasks[0].model_spec.name
    signature_names: set[str] = set()
    for task in tasks:
        if not task.model_spec.name:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if task.model_spec.name != model_name:
            raise invalid_argument(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE_NAME
        if name in signature_names:
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
        signature_names.add(name)
        if task.method_name not in (CLASSIFY_METHOD_NAME, REGRESS_METHOD_NAME):
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
