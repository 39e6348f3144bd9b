"""One real SavedModel with a signature for every API, and one server of it, for the session."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_load_test.components.serving.embedded.process import EmbeddedServer, embedded_server

MODEL_NAME = "zoo"


def _save_zoo(folder: Path, bias: float) -> None:
    import tensorflow as tf

    class Zoo(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3))
            self.bias = tf.Variable(bias)
            self._train()

        def _train(self) -> None:
            """A few real steps, so that what is served was trained."""
            images = np.random.default_rng(0).random((32, 4), np.float32)
            for _ in range(5):
                with tf.GradientTape() as tape:
                    loss = tf.reduce_mean((tf.reduce_sum(images @ self.weights, 1) - images.sum(1)) ** 2)
                self.weights.assign_sub(0.1 * tape.gradient(loss, self.weights))

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def predict(self, x: Any) -> Any:
            return {"y": x @ self.weights + self.bias}

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 2], tf.float32, name="a"),
                tf.TensorSpec([None], tf.int64, name="b"),
            ]
        )
        def two(self, a: Any, b: Any) -> Any:
            return {"sum": tf.reduce_sum(a, 1) + tf.cast(b, tf.float32), "text": tf.strings.as_string(b)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def upper(self, text: Any) -> Any:
            return {"upper": tf.strings.upper(text), "raw_bytes": text}

        @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="scale")])
        def scalar(self, scale: Any) -> Any:
            return {"doubled": scale * 2}

        @tf.function(
            input_signature=[
                tf.TensorSpec(None, dtype, name=f"in_{dtype.name}")
                for dtype in (tf.float64, tf.int32, tf.int8, tf.uint8, tf.int16, tf.int64, tf.bool, tf.uint32)
            ]
        )
        def types(self, *tensors: Any) -> Any:
            return {f"out_{tensor.dtype.name}": tf.identity(tensor) for tensor in tensors}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float16, name="half")])
        def half(self, half: Any) -> Any:
            return {"half": half * 2}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
        def classify(self, inputs: Any) -> Any:
            features = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([4], tf.float32)})
            scores = tf.nn.softmax(features["x"] @ self.weights)
            names = tf.constant([["ant", "bee", "cat"]])
            return {"scores": scores, "classes": tf.repeat(names, tf.shape(inputs)[0], 0)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
        def regress(self, inputs: Any) -> Any:
            features = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([4], tf.float32)})
            return {"outputs": tf.reduce_sum(features["x"], 1) + self.bias}

    zoo = Zoo()
    names = ("two", "upper", "scalar", "types", "half", "classify", "regress")
    signatures = {"serving_default": zoo.predict, **{name: getattr(zoo, name) for name in names}}
    tf.saved_model.save(zoo, str(folder), signatures=signatures)


@pytest.fixture(scope="session")
def zoo_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Base path with versions 1 and 3."""
    base_path = tmp_path_factory.mktemp("models") / MODEL_NAME
    _save_zoo(base_path / "1", bias=0.0)
    _save_zoo(base_path / "3", bias=10.0)
    return base_path


@pytest.fixture(scope="session")
def zoo(zoo_path: Path) -> Iterator[EmbeddedServer]:
    """A server of all versions; version 1 is labelled stable."""
    with embedded_server(MODEL_NAME, zoo_path, versions="all", labels={"stable": 1}) as server:
        yield server


@pytest.fixture(scope="session")
def ghz() -> str:
    found = shutil.which("ghz")
    if not found:
        pytest.skip("ghz is neither on PATH nor in .tools/bin (run `make tools`)")
    return found
