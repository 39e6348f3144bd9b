"""Message classes from a protoset, without generated code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


class Protoset:
    """The messages of one protoset file."""

    def __init__(self, path: Path) -> None:
        # A pool of its own: the default one may already hold another copy of the same files.
        self._pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file:
            self._pool.Add(file)

    def message_class(self, full_name: str) -> Any:
        """The message class `full_name`, such as `tensorflow.serving.PredictRequest`.

        Raises:
            KeyError: The protoset has no such message.
        """
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(full_name))

    def enum(self, full_name: str) -> Any:
        """The descriptor of the enum `full_name`.

        Raises:
            KeyError: The protoset has no such enum.
        """
        return self._pool.FindEnumTypeByName(full_name)
