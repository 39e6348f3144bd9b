"""TF Serving's REST bodies: JSON to request messages, answers to JSON.

Rules, texts and layout follow TF Serving's util/json_tensor.cc.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from model_load_test.components.protocols.tf_serving import Example
from model_load_test.components.serving.embedded.failure import Code, ServingError, invalid_argument
from model_load_test.components.serving.embedded.inference import data_type_text

BodyFormat = Literal["row", "columnar"]

_DEBUG_CHARACTERS: Final = 256

_FLOAT, _DOUBLE, _INT32, _UINT8, _INT16, _INT8, _STRING = 1, 2, 3, 4, 5, 6, 7
_INT64, _BOOL, _UINT32, _UINT64 = 9, 10, 22, 23
_INT_RANGE: Final = {
    _INT32: (-(2**31), 2**31 - 1),
    _UINT8: (-(2**31), 2**31 - 1),
    _INT16: (-(2**31), 2**31 - 1),
    _INT8: (-(2**31), 2**31 - 1),
    _INT64: (-(2**63), 2**63 - 1),
    _UINT32: (0, 2**32 - 1),
    _UINT64: (0, 2**64 - 1),
}
"""What rapidjson's IsInt, IsInt64, IsUint and IsUint64 let through; small types are cut afterwards."""
_FIELD: Final = {
    _FLOAT: "float_val",
    _DOUBLE: "double_val",
    _INT32: "int_val",
    _UINT8: "int_val",
    _INT16: "int_val",
    _INT8: "int_val",
    _STRING: "string_val",
    _INT64: "int64_val",
    _BOOL: "bool_val",
    _UINT32: "uint32_val",
    _UINT64: "uint64_val",
}

_PARSE_ERRORS: Final = {
    "Expecting value": "Invalid value.",
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
    "Invalid control character at": "Invalid encoding in string.",
    "Illegal trailing comma before end of object": "Missing a name for object member.",
    "Illegal trailing comma before end of array": "Invalid value.",
}


def parse_object(body: bytes) -> dict[str, Any]:
    """Parses a request body, which must be a JSON object; what follows it is not looked at.

    Raises:
        ServingError: It is not.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise invalid_argument(f"JSON Parse error: Invalid value. at offset: {error.start}") from None
    start = len(text) - len(text.lstrip(" \t\r\n"))
    if start == len(text):
        raise invalid_argument(_parse_error("The document is empty", None))
    try:
        document, _ = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        said = _PARSE_ERRORS.get(error.msg) or _missing_comma(text[: error.pos])
        raise invalid_argument(_parse_error(said, len(text[: error.pos].encode()))) from None
    except RecursionError:
        raise invalid_argument("JSON Parse error: nested too deeply") from None
    if not isinstance(document, dict):
        raise _format_error(document, "Is not object")
    return document


def _first_value_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs)) if len({name for name, _ in pairs}) < len(pairs) else dict(pairs)


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_first_value_wins)


def _parse_error(said: str, offset: int | None) -> str:
    return f"JSON Parse error: {said}" + ("" if offset is None else f" at offset: {offset}")


def _missing_comma(text: str) -> str:
    """Python says only that a comma is missing; TF Serving says in what."""
    open_brackets: list[str] = []
    in_string = escaped = False
    for character in text:
        if in_string:
            in_string = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            in_string = True
        elif character in "[{":
            open_brackets.append(character)
        elif character in "]}":
            open_brackets.pop()
    if open_brackets and open_brackets[-1] == "[":
        return "Missing a comma or ] after an array element."
    return "Missing a comma or } after an object member."


def signature_name_of(document: Mapping[str, Any]) -> str:
    """The body's `signature_name`, empty where it has none.

    Raises:
        ServingError: It is not a string.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise _format_error(document, "not formatted correctly. 'signature_name' key must be a string value.")
    return name


def fill_predict_inputs(
    document: Mapping[str, Any], tensor_infos: Mapping[str, Any], inputs: Any
) -> BodyFormat:
    """Fills a PredictRequest's inputs from a body.

    Args:
        document: The parsed body.
        tensor_infos: The signature's inputs, TensorInfo messages by name.
        inputs: The request's map of inputs.

    Returns:
        The body's format, in which the answer is to be.

    Raises:
        ServingError: The body does not fit the signature.
    """
    both = "instances" in document and "inputs" in document
    if both:
        raise _format_error(
            document,
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        )
    if "instances" in document:
        instances = document["instances"]
        if not isinstance(instances, list):
            raise _format_error(document, "Expecting 'instances' to be an list/array")
        if not instances:
            raise _format_error(document, "No values in 'instances' array")
        _fill_from_instances(instances, tensor_infos, inputs)
        return "row"
    if "inputs" in document:
        _fill_from_columns(document["inputs"], tensor_infos, inputs)
        return "columnar"
    raise invalid_argument("Missing 'inputs' or 'instances' key")


def _fill_from_instances(instances: list[Any], tensor_infos: Mapping[str, Any], inputs: Any) -> None:
    if not isinstance(instances[0], dict) and len(tensor_infos) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map"
        )
    as_objects = _is_plain_object(instances[0])
    names = sorted(tensor_infos)
    values: dict[str, list[Any]] = {}
    shapes: dict[str, list[int]] = {}
    for position, instance in enumerate(instances):
        if as_objects:
            if not _is_plain_object(instance):
                raise invalid_argument(f"Expecting object but got list at item {position} of input list")
            for name, item in instance.items():
                try:
                    _add_instance(item, name, tensor_infos, values, shapes)
                except ServingError as error:
                    raise invalid_argument(
                        f"Failed to process element: {position} key: {name} of 'instances' list. "
                        f"Error: {_status_text(error)}"
                    ) from None
            if sorted(instance) != names:
                raise invalid_argument(
                    f"Failed to process element: {position} of 'instances' list. "
                    f"JSON object: {_debug_text(instance)} keys must be equal to: {','.join(names)}"
                )
        else:
            if _is_plain_object(instance):
                raise invalid_argument(
                    f"Expecting value/list but got object at item {position} of input list"
                )
            try:
                _add_instance(instance, names[0], tensor_infos, values, shapes)
            except ServingError as error:
                raise invalid_argument(
                    f"Failed to process element: {position} of 'instances' list. Error: {_status_text(error)}"
                ) from None
    for name, shape in shapes.items():
        _fill_tensor(inputs[name], tensor_infos[name].dtype, [len(instances), *shape], values[name])


def _add_instance(
    item: Any,
    name: str,
    tensor_infos: Mapping[str, Any],
    values: dict[str, list[Any]],
    shapes: dict[str, list[int]],
) -> None:
    if name not in tensor_infos:
        raise invalid_argument(f"JSON object: does not have named input: {name}")
    shape = _dense_shape(item)
    found: list[Any] = []
    _collect(item, 0, tensor_infos[name].dtype, shape, found)
    if name not in shapes:
        shapes[name], values[name] = shape, found
        return
    size = math.prod(shapes[name])
    if size != len(found):
        raise invalid_argument(f"Expecting tensor size: {size} but got: {len(found)}")
    if shapes[name] != shape:
        raise invalid_argument(f"Expecting shape {_shape_text(shapes[name])} but got: {_shape_text(shape)}")
    values[name].extend(found)


def _fill_from_columns(columns: Any, tensor_infos: Mapping[str, Any], inputs: Any) -> None:
    if not _is_plain_object(columns):
        if len(tensor_infos) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple "
                "input tensors required as per tensorinfo_map"
            )
        columns = dict.fromkeys(tensor_infos, columns)
    for name in sorted(tensor_infos):
        if name not in columns:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
        shape = _dense_shape(columns[name])
        found: list[Any] = []
        _collect(columns[name], 0, tensor_infos[name].dtype, shape, found)
        _fill_tensor(inputs[name], tensor_infos[name].dtype, shape, found)


def _fill_tensor(tensor: Any, dtype: int, shape: Sequence[int], values: list[Any]) -> None:
    tensor.dtype = dtype
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    if values:
        getattr(tensor, _FIELD[dtype]).extend(values)


def _dense_shape(value: Any) -> list[int]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _collect(value: Any, level: int, dtype: int, shape: Sequence[int], found: list[Any]) -> None:
    """Appends the leaves of `value`, checked and converted for `dtype`."""
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid_argument(
                f"JSON Value: {_debug_text(value)} found at incorrect level: {level + 1} "
                f"in the JSON DOM. Expected at level: {len(shape)}"
            )
        found.append(_leaf(value, dtype))
        return
    if level >= len(shape):
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} "
            f"expected size: {shape[level]}"
        )
    if level + 1 == len(shape) and _need_no_conversion(value, dtype):
        found.extend(value)
        return
    for item in value:
        _collect(item, level + 1, dtype, shape, found)


def _need_no_conversion(values: list[Any], dtype: int) -> bool:
    """Whether a list of leaves can be taken as it is: nearly all can, and asking so is quick."""
    kinds = set(map(type, values))
    if dtype in (_FLOAT, _DOUBLE):
        return kinds == {float}
    if dtype in _INT_RANGE:
        low, high = _INT_RANGE[dtype]
        return kinds == {int} and low <= min(values) and max(values) <= high
    return dtype == _BOOL and kinds == {bool}


def _leaf(value: Any, dtype: int) -> Any:
    if dtype == _STRING:
        if isinstance(value, dict):
            return _decoded_base64(value)
        if not isinstance(value, str):
            raise _type_error(value, dtype)
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, dict):
        raise _type_error(value, dtype)
    if dtype == _BOOL:
        if not isinstance(value, bool):
            raise _type_error(value, dtype)
        return value
    if dtype in (_FLOAT, _DOUBLE):
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise _type_error(value, dtype)
        return _as_float(value)
    if dtype in _INT_RANGE:
        low, high = _INT_RANGE[dtype]
        if type(value) is not int or not low <= value <= high:
            raise _type_error(value, dtype)
        return value
    raise ServingError(
        Code.UNIMPLEMENTED,
        f"Conversion of JSON Value: {_debug_text(value)} to type: {data_type_text(dtype)}",
    )


def _as_float(value: float) -> float:
    """As a double; what a float has no room for becomes infinite when it is put into the message."""
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_plain_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _decoded_base64(value: Mapping[str, Any]) -> bytes:
    if not _is_base64(value):
        raise invalid_argument(f"JSON Value: {_debug_text(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid_argument("Unable to base64 decode") from None


def fill_examples(document: Mapping[str, Any], inputs: Any) -> None:
    """Fills the Input of a classification or regression request from a body.

    Raises:
        ServingError: The body has no examples, or one has a value of no feature type.
    """
    context = document.get("context")
    target = inputs.example_list
    if context is not None:
        target = inputs.example_list_with_context
        target.context.CopyFrom(_example(context))
    if "examples" not in document:
        raise _format_error(document, "When method is classify, key 'examples' is expected and was not found")
    examples = document["examples"]
    if not isinstance(examples, list):
        raise _format_error(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise _format_error(document, "'examples' value is an empty array")
    for example in examples:
        target.examples.append(_example(example))


def _example(value: Any) -> Any:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {_json_type(value)}")
    example = Example()
    for name, content in value.items():
        feature = example.features.feature[name]
        for item in content if isinstance(content, list) else [content]:
            _add_to_feature(item, name, feature)
    return example


def _add_to_feature(value: Any, name: str, feature: Any) -> None:
    if value is None or isinstance(value, list) or _is_plain_object(value):
        raise invalid_argument(f"Feature: {name} has element with unexpected JSON type: {_json_type(value)}")
    if isinstance(value, dict):
        _feature_values(feature, "bytes_list", name).append(_decoded_base64(value))
    elif isinstance(value, str):
        _feature_values(feature, "bytes_list", name).append(value.encode("utf-8", "surrogatepass"))
    elif isinstance(value, float):
        _feature_values(feature, "float_list", name).append(value)
    else:
        values = _feature_values(feature, "int64_list", name)
        if value > _INT_RANGE[_INT64][1]:
            raise invalid_argument(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        values.append(int(value))


def _feature_values(feature: Any, kind: str, name: str) -> Any:
    has = feature.WhichOneof("kind")
    if has not in (None, kind):
        expected = has.removesuffix("_list")
        raise invalid_argument(f"Unexpected element type in feature: {name} expecting type: {expected}")
    return getattr(feature, kind).value


def predict_json(outputs: Mapping[str, Any], body_format: BodyFormat) -> bytes:
    """The answer to a prediction: `predictions` for a row body, `outputs` for a columnar one.

    Raises:
        ServingError: An output has no place in JSON, or in rows.
    """
    if not outputs:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    texts = {name: _leaf_texts(name, tensor) for name, tensor in sorted(outputs.items())}
    shapes = {name: [size.size for size in outputs[name].tensor_shape.dim] for name in texts}
    if body_format == "row":
        return _row_json(texts, shapes)
    if len(texts) == 1:
        ((name, leaves),) = texts.items()
        return f'{{\n    "outputs": {_nested(leaves, shapes[name], 1)}\n}}'.encode(*_UTF8)
    members = ",\n".join(
        f"        {_quoted(name)}: {_nested(leaves, shapes[name], 2)}" for name, leaves in texts.items()
    )
    return f'{{\n    "outputs": {{\n{members}\n    }}\n}}'.encode(*_UTF8)


_UTF8: Final = ("utf-8", "surrogateescape")


def _row_json(texts: Mapping[str, list[str]], shapes: Mapping[str, list[int]]) -> bytes:
    batch_size = -1
    for name, shape in shapes.items():
        if not shape:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        if batch_size >= 0 and shape[0] != batch_size:
            raise invalid_argument(
                f"Tensor name: {name} has inconsistent batch size: {shape[0]} expecting: {batch_size}"
            )
        batch_size = shape[0]
    rows = []
    for row in range(batch_size):
        members = []
        for name, leaves in texts.items():
            size = math.prod(shapes[name][1:])
            text = _on_one_line(leaves[row * size : (row + 1) * size], shapes[name][1:])
            members.append(text if len(texts) == 1 else f"            {_quoted(name)}: {text}")
        rows.append(members[0] if len(texts) == 1 else "{\n" + ",\n".join(members) + "\n        }")
    separator = ", " if len(texts) == 1 else ",\n        "
    opening = "" if len(texts) == 1 else "\n        "
    return f'{{\n    "predictions": [{opening}{separator.join(rows)}\n    ]\n}}'.encode(*_UTF8)


def _nested(leaves: Sequence[str], shape: Sequence[int], depth: int) -> str:
    """Nested lists over several lines, indented by `depth` fours."""
    if not shape:
        return leaves[0]
    if shape[0] == 0:
        return "[]"
    inner, outer = " " * (4 * depth + 4), " " * (4 * depth)
    size = math.prod(shape[1:])
    items = (
        _nested(leaves[item * size : (item + 1) * size], shape[1:], depth + 1) for item in range(shape[0])
    )
    return f"[\n{inner}" + f",\n{inner}".join(items) + f"\n{outer}]"


def _on_one_line(leaves: Sequence[str], shape: Sequence[int]) -> str:
    if not shape:
        return leaves[0]
    size = math.prod(shape[1:])
    items = (_on_one_line(leaves[item * size : (item + 1) * size], shape[1:]) for item in range(shape[0]))
    return "[" + ", ".join(items) + "]"


def _leaf_texts(name: str, tensor: Any) -> list[str]:
    dtype: int = tensor.dtype
    if dtype not in _FIELD:
        raise invalid_argument(f"Failed to write JSON value for tensor type: {data_type_text(dtype)}")
    values = getattr(tensor, _FIELD[dtype])
    if dtype == _FLOAT:
        return [_float_text(value) for value in values]
    if dtype == _DOUBLE:
        return [_double_text(value) for value in values]
    if dtype == _BOOL:
        return ["true" if value else "false" for value in values]
    if dtype == _STRING:
        as_bytes = name.endswith("_bytes")
        return [_base64_text(value) if as_bytes else _quoted(value.decode(*_UTF8)) for value in values]
    return [str(value) for value in values]


def _base64_text(value: bytes) -> str:
    return f'{{"b64": "{base64.b64encode(value).decode()}"}}'


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


_FLOAT_BITS: Final = struct.Struct("<f")


def _float_text(value: float) -> str:
    short = f"{value:g}"
    try:
        exact = _FLOAT_BITS.unpack(_FLOAT_BITS.pack(float(short)))[0] == value
    except OverflowError:
        exact = False
    return _decimal(value, short if exact else f"{value:.9g}")


def _double_text(value: float) -> str:
    short = f"{value:g}"
    return _decimal(value, short if float(short) == value else f"{value:.17g}")


def _decimal(value: float, text: str) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return text if "." in text or "e" in text else f"{text}.0"


def classification_json(result: Any) -> bytes:
    """The answer to a classification: per example, pairs of label and score.

    Raises:
        ServingError: There is no result.
    """
    if not result.classifications:
        raise invalid_argument("Cannot convert empty ClassificationResults to JSON")
    examples = (
        "[" + ", ".join(f"[{_quoted(c.label)}, {_float_text(c.score)}]" for c in one.classes) + "]"
        for one in result.classifications
    )
    return f'{{\n    "results": [{", ".join(examples)}\n    ]\n}}'.encode()


def regression_json(result: Any) -> bytes:
    """The answer to a regression: one value per example.

    Raises:
        ServingError: There is no result.
    """
    if not result.regressions:
        raise invalid_argument("Cannot convert empty RegressionResults to JSON")
    values = ", ".join(_float_text(one.value) for one in result.regressions)
    return f'{{\n    "results": [{values}]\n}}'.encode()


def error_json(message: str) -> bytes:
    """The body of every refusal."""
    return f'{{\n    "error": {_quoted(message)}\n}}'.encode("utf-8", "replace")


def _format_error(value: Any, said: str) -> ServingError:
    return invalid_argument(f"JSON Value: {_debug_text(value)} {said}")


def _type_error(value: Any, dtype: int) -> ServingError:
    return invalid_argument(
        f"JSON Value: {_debug_text(value)} Type: {_json_type(value)} "
        f"is not of expected type: {data_type_text(dtype)}"
    )


def _debug_text(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=4 if isinstance(value, dict) else None)
    return text[:_DEBUG_CHARACTERS]


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    names: list[tuple[type, str]] = [(dict, "Object"), (list, "Array"), (str, "String")]
    for kind, name in names:
        if isinstance(value, kind):
            return name
    return "Null" if value is None else "Number"


def _shape_text(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _status_text(error: ServingError) -> str:
    return f"{error.code.name}: {error.message}"
