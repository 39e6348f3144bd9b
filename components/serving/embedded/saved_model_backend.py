"""Runs a SavedModel as TF Serving does: one session, feeds and fetches by tensor name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model_load_test.components.protocols.saved_model import SERVE_TAG, read_signature_defs
from model_load_test.components.protocols.tensors import Array
from model_load_test.components.serving.embedded.failure import Code, ServingError
from model_load_test.components.serving.embedded.servables import LoadedModel


@dataclass(frozen=True)
class SessionThreads:
    """Threads of TensorFlow's session, 0 for as many as there are cores.

    One for operations, and none between request and operations, unless asked otherwise: with more,
    two servers on a small machine measure each other's scheduling.
    """

    intra_op: int = 1
    inter_op: int = -1


def load_saved_model(path: Path, threads: SessionThreads = SessionThreads()) -> LoadedModel:
    """Loads the SavedModel in `path`.

    Args:
        path: The version's folder.
        threads: Of the session.

    Raises:
        SavedModelError: The folder holds no SavedModel to serve.
        OSError: TensorFlow cannot read its variables or assets.
    """
    signature_defs = read_signature_defs(path)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # its advice against the very loader that TF Serving uses
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=threads.intra_op,
        inter_op_parallelism_threads=threads.inter_op,
        use_per_session_threads=True,
    )
    graph = tf.Graph()
    with graph.as_default():
        session = tf.compat.v1.Session(graph=graph, config=config)
        tf.compat.v1.saved_model.loader.load(session, [SERVE_TAG], str(path))
    return LoadedModel(signature_defs, _session_run(session, tf.errors.OpError))


def _session_run(session: Any, operation_error: type[Exception]) -> Any:
    from tensorflow.core.protobuf import config_pb2

    callables: dict[tuple[tuple[str, ...], tuple[str, ...]], Callable[..., Sequence[Array]]] = {}

    def prepared(feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Callable[..., Sequence[Array]]:
        # Session.run costs 150 us a call, 125 of them in Python; this way there is only the C++ of it.
        options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
        callables[feeds, fetches] = session._make_callable_from_options(options)
        return callables[feeds, fetches]

    def run(feeds: Mapping[str, Array], fetches: Sequence[str]) -> Sequence[Array]:
        key = (tuple(feeds), tuple(fetches))
        try:
            call = callables.get(key) or prepared(*key)
            return [_array(output) for output in call(*feeds.values())]
        except operation_error as error:
            raise ServingError(Code(getattr(error, "error_code", Code.UNKNOWN)), _text(error)) from None

    return run


def _array(output: Any) -> Array:
    """A fetched value as an array: a scalar string arrives as bare bytes, whose end numpy would trim."""
    return np.array(output, object) if isinstance(output, bytes) else np.asarray(output)


def _text(error: Any) -> str:
    message: str = error.message
    return message
