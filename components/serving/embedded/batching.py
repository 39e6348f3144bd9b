"""Requests of several clients computed together, as TF Serving's batching session does it.

Batches open, close and are refused as in TensorFlow's shared_batch_scheduler.h; texts and names of
the parameters are TF Serving's (batching_session.cc, session_bundle_config.proto).
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.tensors import Array
from model_load_test.components.serving.embedded.failure import Code, ServingError, invalid_argument
from model_load_test.components.serving.embedded.metrics import Metrics
from model_load_test.components.serving.embedded.servables import Servable

_POOL_NAME: Final = "model_server_batch_threads"
_MICROSECOND: Final = 1e-6
_FIELDS: Final = descriptor_pb2.FieldDescriptorProto


@dataclass(frozen=True)
class BatchingParameters:
    """How batches are made; the defaults are TF Serving's."""

    max_batch_size: int = 1000
    """Most examples (rows) in one batch."""
    batch_timeout_micros: int = 0
    """How long the first request of a batch waits for others, if a thread is free; 0 for not at all."""
    max_enqueued_batches: int = 10
    """Batches that may wait; a request that needs one more is refused as UNAVAILABLE."""
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Batches that are computed at once."""
    allowed_batch_sizes: tuple[int, ...] = ()
    """Batches are filled up to the next of these; empty for whatever there is."""
    pad_variable_length_inputs: bool = False
    """Whether requests of different shapes may share a batch."""

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "give 1 or more")
        if self.batch_timeout_micros < 0:
            raise InputError("batch_timeout_micros", self.batch_timeout_micros, "give 0 or more")
        sizes = self.allowed_batch_sizes
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != self.max_batch_size):
            raise InputError(
                "allowed_batch_sizes", list(sizes), "give rising sizes, the last of them max_batch_size"
            )


def read_batching_parameters(path: Path) -> BatchingParameters:
    """Reads a batching parameters file, TF Serving's BatchingParameters in text form.

    Raises:
        InputError: It cannot be read, or its numbers are out of range.
    """
    try:
        message = text_format.Parse(path.read_text(encoding="utf-8"), _message_class()())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise InputError("batching_parameters_file", str(path), f"cannot be read: {error}") from None
    values: dict[str, Any] = {
        name: getattr(message, name).value for name in _WRAPPED if message.HasField(name)
    }
    return BatchingParameters(
        **values,
        allowed_batch_sizes=tuple(message.allowed_batch_sizes),
        pad_variable_length_inputs=message.pad_variable_length_inputs,
    )


_WRAPPED: Final = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")


def _message_class() -> Any:
    """BatchingParameters, of which this server knows what it honours; another field is an error."""
    file = descriptor_pb2.FileDescriptorProto(
        name="batching_parameters.proto", package="tensorflow.serving", syntax="proto3"
    )
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    message = file.message_type.add(name="BatchingParameters")
    for number, name in enumerate(_WRAPPED, start=1):
        message.field.add(
            name=name,
            number=number,
            type=_FIELDS.TYPE_MESSAGE,
            type_name=".google.protobuf.Int64Value",
            label=_FIELDS.LABEL_OPTIONAL,
        )
    message.field.add(
        name="allowed_batch_sizes", number=6, type=_FIELDS.TYPE_INT64, label=_FIELDS.LABEL_REPEATED
    )
    message.field.add(
        name="pad_variable_length_inputs", number=7, type=_FIELDS.TYPE_BOOL, label=_FIELDS.LABEL_OPTIONAL
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("tensorflow.serving.BatchingParameters")
    )


_Key = tuple[str, int, tuple[str, ...], tuple[str, ...]]
"""Model, version, inputs and outputs: what shares a queue."""


@dataclass
class _Task:
    """One request's share of a batch."""

    feeds: Mapping[str, Array]
    size: int
    submitted_ns: int
    answer: Future[Sequence[Array]] = field(default_factory=Future)


@dataclass
class _Batch:
    """Requests for the same tensors of the same model."""

    key: _Key
    servable: Servable
    fetches: tuple[str, ...]
    opened_at: float
    tasks: list[_Task] = field(default_factory=list)
    size: int = 0
    closed: bool = False


class Batcher:
    """Collects requests into batches and computes them on threads of its own."""

    def __init__(
        self,
        parameters: BatchingParameters,
        metrics: Metrics,
        before_batch: Callable[[], None] = lambda: None,
    ) -> None:
        """Starts the batch threads.

        Args:
            parameters: How batches are made.
            metrics: Told of queuing and batch sizes, under TF Serving's names.
            before_batch: Called before each batch is computed: injected slowness.
        """
        self._parameters = parameters
        self._metrics = metrics
        self._before_batch = before_batch
        self._changed = threading.Condition()
        self._waiting: list[_Batch] = []
        self._open: dict[_Key, _Batch] = {}
        self._enqueued: Counter[_Key] = Counter()
        for number in range(parameters.num_batch_threads):
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True).start()

    def run(self, servable: Servable, feeds: Mapping[str, Array], fetches: Sequence[str]) -> Sequence[Array]:
        """Computes tensors together with those of other requests; blocks until they are there.

        Raises:
            ServingError: The request cannot be batched, the queue is full, or the model refuses.
        """
        task = _Task(feeds, _size(feeds), time.perf_counter_ns())
        limit = self._parameters.max_batch_size
        if task.size > limit:
            raise invalid_argument(f"Task size {task.size} is larger than maximum input batch size {limit}")
        with self._changed:
            self._enqueue(task, servable, tuple(fetches))
        return task.answer.result()

    def _enqueue(self, task: _Task, servable: Servable, fetches: tuple[str, ...]) -> None:
        key = (servable.model_name, servable.version, tuple(sorted(task.feeds)), fetches)
        batch = self._open.get(key)
        if batch is not None and batch.size + task.size > self._parameters.max_batch_size:
            batch.closed = True
            del self._open[key]
            batch = None
        if batch is None:
            most = self._parameters.max_enqueued_batches
            if self._enqueued[key] >= most:
                raise ServingError(
                    Code.UNAVAILABLE,
                    "The batch scheduling queue to which this task was submitted is full; "
                    f"currently {self._enqueued[key]} batches enqueued and max_enqueued_batches is {most}",
                )
            batch = self._open[key] = _Batch(key, servable, fetches, time.monotonic())
            self._waiting.append(batch)
            self._enqueued[key] += 1
        batch.tasks.append(task)
        batch.size += task.size
        if batch.size == self._parameters.max_batch_size:
            batch.closed = True
            del self._open[key]
        self._changed.notify()

    def _work(self) -> None:
        while True:
            batch = self._next()
            try:
                self._compute(batch)
            except Exception as error:  # noqa: BLE001 -- whatever went wrong is each request's answer
                for task in batch.tasks:
                    if not task.answer.done():
                        task.answer.set_exception(error)

    def _next(self) -> _Batch:
        """The oldest batch that is full or has waited long enough."""
        timeout = self._parameters.batch_timeout_micros * _MICROSECOND
        with self._changed:
            while True:
                now = time.monotonic()
                for batch in self._waiting:
                    if batch.closed or now >= batch.opened_at + timeout:
                        return self._taken(batch)
                first = min((batch.opened_at for batch in self._waiting), default=None)
                self._changed.wait(None if first is None else first + timeout - now)

    def _taken(self, batch: _Batch) -> _Batch:
        self._waiting.remove(batch)
        self._enqueued[batch.key] -= 1
        if self._open.get(batch.key) is batch:
            del self._open[batch.key]
        return batch

    def _compute(self, batch: _Batch) -> None:
        begun_ns = time.perf_counter_ns()
        for task in batch.tasks:
            self._metrics.queued(_POOL_NAME, begun_ns - task.submitted_ns)
        padded = self._padded_size(batch.size)
        self._metrics.batch_processed(padded, padded - batch.size)
        feeds = {
            name: _joined(name, batch.tasks, padded - batch.size, self._parameters.pad_variable_length_inputs)
            for name in batch.tasks[0].feeds
        }
        self._before_batch()
        outputs = batch.servable.run(feeds, batch.fetches)
        for name, output in zip(batch.fetches, outputs, strict=True):
            if output.ndim < 1 or len(output) != padded:
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    f"Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
                    f"sizes of the input tensors; the output is {name}",
                )
        start = 0
        for task in batch.tasks:
            task.answer.set_result([output[start : start + task.size] for output in outputs])
            start += task.size

    def _padded_size(self, size: int) -> int:
        return next((allowed for allowed in self._parameters.allowed_batch_sizes if allowed >= size), size)


def _size(feeds: Mapping[str, Array]) -> int:
    sizes = {value.shape[0] if value.ndim else None for value in feeds.values()}
    if not sizes or None in sizes:
        raise invalid_argument("Batching session Run() input tensors must have at least one dimension.")
    if len(sizes) > 1:
        raise invalid_argument("Batching session Run() input tensors must have equal 0th-dimension size.")
    return int(next(iter(sizes)) or 0)


def _joined(name: str, tasks: Sequence[_Task], padding: int, variable: bool) -> Array:
    """One input of all tasks, filled up by repeating the first row."""
    parts = [task.feeds[name] for task in tasks]
    if variable:
        parts = _same_shape(parts)
    if len({part.shape[1:] for part in parts}) > 1:
        raise invalid_argument(
            f"Tensors with name '{name}' from different tasks have different shapes and padding is turned "
            "off. Set pad_variable_length_inputs to true, or ensure that all tensors with the same name have "
            "equal dimensions starting with the first dim."
        )
    if padding and len(parts[0]):
        parts.append(np.repeat(parts[0][:1], padding, axis=0))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _same_shape(parts: Sequence[Array]) -> list[Array]:
    """Every tensor filled up to the largest size of each dimension but the first."""
    if len({part.ndim for part in parts}) > 1 or len({part.shape[1:] for part in parts}) == 1:
        return list(parts)
    largest = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    filled = []
    for part in parts:
        missing = [(0, 0), *((0, most - size) for most, size in zip(largest, part.shape[1:], strict=True))]
        empty = b"" if part.dtype == object else part.dtype.type()
        filled.append(np.pad(part, missing, constant_values=empty))
    return filled
