"""Writes `tf_serving.protoset` from the installed tensorflow-serving-api.

    python -m model_load_test.components.protocols.make_protoset

The package ships generated modules and no .proto file; the descriptors they carry are all a load
generator or a client needs. Only this module needs TensorFlow, and only to be run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pb2

PROTOSET_PATH: Final = Path(__file__).with_name("tf_serving.protoset")


def file_descriptor_set() -> descriptor_pb2.FileDescriptorSet:
    """The services, PredictionLog and SavedModel with all they depend on, dependencies first."""
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


def main(path: Path = PROTOSET_PATH) -> None:
    """Writes the protoset to `path`."""
    path.write_bytes(file_descriptor_set().SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
