"""How fast payloads are made for a 28x28 model: requests per second, by API and protocol.

Run `python tests/benchmarks/payload_generation.py`. The bar is 5 000 requests/s of one 28x28 image each;
exit code 1 below it. Beside it, in the same run, what the seed's way costs: TensorFlow's own
`make_tensor_proto` and `json.dumps` for the same requests. CPU seconds, for other work may share the machine.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from model_load_test.components.payload.make import make_payload
from model_load_test.components.protocols.tf_serving import SavedModel

REQUESTS = 10_000
LEAST_PER_SECOND = 5_000
FLOAT32 = 1

CASES = (
    ("TF Serving, gRPC", {"protocol": "grpc"}),
    ("TF Serving, REST rows", {"protocol": "http"}),
    ("Open Inference, gRPC raw", {"protocol": "grpc", "api": "oip"}),
    ("Open Inference, REST", {"protocol": "http", "api": "oip"}),
    ("Seldon, REST tensor", {"protocol": "http", "api": "seldon"}),
)


def saved_model(folder: Path) -> Path:
    """The description of a model that takes 28x28 images."""
    saved = SavedModel(saved_model_schema_version=1)
    graph = saved.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    signature = graph.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    info = signature.inputs["image"]
    info.dtype = FLOAT32
    for size in (-1, 28, 28):
        info.tensor_shape.dim.add(size=size)
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    return folder


def per_second(make: Callable[[], object]) -> float:
    """Requests made in a second of CPU time; the best of three."""
    best = 0.0
    for _ in range(3):
        started = time.process_time()
        make()
        best = max(best, REQUESTS / (time.process_time() - started))
    return best


def by_tensorflow() -> None:
    """A PredictRequest each by tensorflow-serving-api and TensorFlow's own conversion."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    random = np.random.default_rng(0)
    for _ in range(REQUESTS):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "m"
        image = random.random((1, 28, 28), np.float32)
        request.inputs["image"].CopyFrom(tf.make_tensor_proto(image))
        request.SerializeToString()


def by_json() -> None:
    """A REST body each by the standard library."""
    random = np.random.default_rng(0)
    for _ in range(REQUESTS):
        json.dumps({"instances": random.random((1, 28, 28), np.float32).tolist()}).encode()


def main() -> int:
    """Prints a line a case; 1 where one is below the bar."""
    slow = False
    with tempfile.TemporaryDirectory() as scratch:
        model = saved_model(Path(scratch))
        for name, options in CASES:
            out = Path(scratch) / "set"
            speed = per_second(
                lambda options=options, out=out: make_payload(  # type: ignore[misc]
                    model, model_name="m", out_dir=out, requests=REQUESTS, batch_sizes=[1], **options
                )
            )
            slow = slow or speed < LEAST_PER_SECOND
            print(
                f"{name:26} {speed:8.0f} requests/s, {speed / LEAST_PER_SECOND:.1f} times the bar", flush=True
            )
    for name, make in (("by TensorFlow, gRPC", by_tensorflow), ("by json.dumps, REST", by_json)):
        print(f"{name:26} {per_second(make):8.0f} requests/s", flush=True)
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
