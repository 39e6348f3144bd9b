"""Writes the protosets: what a load generator and a client need of TF Serving and Open Inference.

    python -m model_load_test.components.protocols.make_protoset

TF Serving's comes from the installed tensorflow-serving-api, which ships generated modules and no
.proto file; Open Inference's from `open_inference.proto`, by the compiler that grpcio-tools brings.
Only this module needs TensorFlow and grpcio-tools, and only to be run.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pb2

PROTOSET_PATH: Final = Path(__file__).with_name("tf_serving.protoset")
OPEN_INFERENCE_PROTOSET_PATH: Final = Path(__file__).with_name("open_inference.protoset")
OPEN_INFERENCE_PROTO_PATH: Final = Path(__file__).with_name("open_inference.proto")


def file_descriptor_set() -> descriptor_pb2.FileDescriptorSet:
    """TF Serving's services, PredictionLog and SavedModel with all they depend on, dependencies first."""
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow_serving.apis import model_service_pb2, prediction_log_pb2, prediction_service_pb2

    files = descriptor_pb2.FileDescriptorSet()
    seen: set[str] = set()

    def add(descriptor: Any) -> None:
        if descriptor.name in seen:
            return
        seen.add(descriptor.name)
        for dependency in descriptor.dependencies:
            add(dependency)
        descriptor.CopyToProto(files.file.add())

    for module in (prediction_service_pb2, model_service_pb2, prediction_log_pb2, saved_model_pb2):
        add(module.DESCRIPTOR)
    return files


def open_inference_descriptor_set() -> descriptor_pb2.FileDescriptorSet:
    """Open Inference's service, compiled from its .proto file.

    Raises:
        ImportError: grpcio-tools is not installed.
    """
    from grpc_tools import protoc  # type: ignore[import-not-found]  # installed only where this is run

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "protoset"
        folder_of_proto = OPEN_INFERENCE_PROTO_PATH.parent
        arguments = ["protoc", f"-I{folder_of_proto}", f"--descriptor_set_out={out}"]
        if protoc.main([*arguments, OPEN_INFERENCE_PROTO_PATH.name]):
            raise RuntimeError(f"{OPEN_INFERENCE_PROTO_PATH.name} does not compile")
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())


def main(path: Path = PROTOSET_PATH) -> None:
    """Writes TF Serving's protoset to `path`."""
    path.write_bytes(file_descriptor_set().SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
    made = open_inference_descriptor_set().SerializeToString(deterministic=True)
    OPEN_INFERENCE_PROTOSET_PATH.write_bytes(made)
