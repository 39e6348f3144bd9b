"""Requests from a user's own data, whatever it is: rows, records, images, recorded requests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from model_load_test.components.payload.content import (
    MAX_ROWS,
    Content,
    Row,
    first_rows,
    recorded_content,
    row_content,
)
from model_load_test.components.payload.images import IMAGE_SUFFIXES, image_content
from model_load_test.components.payload.json_rows import json_row, read_json
from model_load_test.components.payload.manifest import PayloadError
from model_load_test.components.payload.recorded import is_request, request_inputs, signature_of_request
from model_load_test.components.payload.tables import TABLE_SUFFIXES, table_columns, table_rows
from model_load_test.components.payload.tf_records import WARMUP_FILE_NAME, is_record_file, record_rows
from model_load_test.components.payload.values import Variation
from model_load_test.components.protocols import seldon
from model_load_test.components.protocols.signature import NAMELESS, Signature, TensorSpec

_AS_USUAL: Final = Variation()
_JSON_SUFFIXES: Final = (".json", ".jsonl")
_KINDS: Final = "a folder of images, TFRecord files, or .json, .jsonl, .csv or .parquet files"


def read_examples(path: Path, signature: Signature, variation: Variation = _AS_USUAL) -> Content:
    """Reads examples for `signature`.

    Args:
        path: A file, or a folder of files of one kind:
            a .jsonl file with one example a line, or a .json file with a list of them (each an object
            by input name, or for one input its value; bytes as `{"b64": ...}`);
            a .json file with the body of a recorded request, or a list (lines) of such bodies;
            a .csv or .parquet file with a column an input, or with the columns of the one input;
            a TFRecord file of tf.Examples, plain or gzip, such as TFX writes;
            a `tf_serving_warmup_requests` file, or the SavedModel's folder that has one;
            images.
        signature: What they are for.
        variation: Batch sizes, and the size of images.

    Raises:
        PayloadError: The file cannot be read, has no examples, or one does not fit the signature;
            the error tells which.
    """
    try:
        files = _files(path)
        if _is_image(files[0]):
            return image_content(files, signature, variation)
        if files[0].suffix in _JSON_SUFFIXES:
            return _json_content(path, files, signature, variation)
        rows = first_rows(itertools.chain.from_iterable(_rows(file, signature) for file in files))
    except OSError as error:
        raise PayloadError("examples", str(path), f"cannot be read ({error.strerror})") from None
    if not rows:
        raise _empty(path, signature)
    return row_content(rows, signature, variation, f"examples of {path.name}")


def signature_of_examples(path: Path) -> Signature | None:
    """The signature that the examples themselves tell, for servers that publish none.

    A recorded request of the Open Inference Protocol names its tensors; for Seldon, whose requests
    are matrices of doubles or text, the first row or the columns of a table are enough.

    Raises:
        PayloadError: The examples cannot be read.
    """
    try:
        first = _files(path)[0]
        if first.suffix in TABLE_SUFFIXES:
            columns = table_columns(first)
            return _matrix(TensorSpec("float64", (-1, len(columns))), columns)
        if first.suffix not in _JSON_SUFFIXES:
            return None
        value = read_json(first)
    except OSError as error:
        raise PayloadError("examples", str(path), f"cannot be read ({error.strerror})") from None
    example = value[0] if isinstance(value, list) and value else value
    if is_request(example):
        return signature_of_request(example)
    if not isinstance(example, list):
        return None
    try:
        found = np.array(example)
    except ValueError:
        return None
    dtype = "string" if found.dtype.kind == "U" else "float64"
    return _matrix(TensorSpec(dtype, (-1, *found.shape)), ())


def _matrix(spec: TensorSpec, columns: Sequence[str]) -> Signature:
    return Signature(NAMELESS, "", {seldon.INPUT_NAME: spec}, {}, tuple(columns))


def _files(path: Path) -> list[Path]:
    """The files to read, all of one kind."""
    if not path.is_dir():
        return [path]
    warmup = path / "assets.extra" / WARMUP_FILE_NAME
    if warmup.is_file():
        return [warmup]
    if (path / "saved_model.pb").is_file():
        raise PayloadError(
            "examples", str(path), f"this SavedModel has no assets.extra/{WARMUP_FILE_NAME}; give examples"
        )
    files = sorted(
        file for file in path.rglob("*") if file.is_file() and not file.name.startswith((".", "_"))
    )
    if not files:
        raise PayloadError("examples", str(path), f"the folder is empty; give {_KINDS}")
    kinds = {_kind(file) for file in files}
    if len(kinds) > 1 or "" in kinds:
        odd = next((file for file in files if _kind(file) in ("", *sorted(kinds)[1:])), files[0])
        raise PayloadError("examples", str(odd), f"the folder holds files of another kind too; give {_KINDS}")
    return files


def _kind(path: Path) -> str:
    if _is_image(path):
        return "image"
    if is_record_file(path):
        return "record"
    if path.suffix in (*_JSON_SUFFIXES, *TABLE_SUFFIXES):
        return path.suffix
    return ""


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _rows(path: Path, signature: Signature) -> Iterator[Row]:
    if path.suffix in TABLE_SUFFIXES:
        return table_rows(path, signature)
    if is_record_file(path):
        return record_rows(path, signature)
    raise PayloadError("examples", str(path), f"what is it? give {_KINDS}")


def _json_content(path: Path, files: Sequence[Path], signature: Signature, variation: Variation) -> Content:
    rows: list[Row] = []
    recorded: list[Row] = []
    for file in files:
        for value, place, whole in _json_values(file, signature):
            if not whole:
                rows.append(json_row(value, signature, place))
            elif (inputs := request_inputs(value, signature, place)) is not None:
                recorded.append(inputs)
            if len(rows) + len(recorded) >= MAX_ROWS:
                break
    if rows and recorded:
        raise PayloadError("examples", str(path), "it has recorded requests and single rows; give one kind")
    if recorded:
        return recorded_content(recorded, f"recorded requests of {path.name}")
    if not rows:
        raise _empty(path, signature)
    return row_content(rows, signature, variation, f"examples of {path.name}")


def _json_values(path: Path, signature: Signature) -> Iterator[tuple[Any, str, bool]]:
    """Each value of a file with its place, and whether it is a whole recorded request."""
    document = read_json(path)
    if isinstance(document, dict):
        if not is_request(document):
            raise PayloadError(
                "examples", str(path), "put the examples into a list, or one a line into a .jsonl"
            )
        yield document, path.name, True
        return
    if not isinstance(document, list):
        raise PayloadError("examples", str(path), "put the examples into a list, or one a line into a .jsonl")
    for number, value in enumerate(document):
        is_row = isinstance(value, dict) and set(value) == set(signature.inputs)
        yield value, f"{path.name}[{number}]", is_request(value) and not is_row


def _empty(path: Path, signature: Signature) -> PayloadError:
    return PayloadError("examples", str(path), f"no example for {signature.name!r} is in it; add some")
