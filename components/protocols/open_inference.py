"""The Open Inference Protocol's messages and methods (Triton, KServe, MLServer, Seldon Core 2)."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import quote

from model_load_test.components.protocols.protoset import Protoset

PROTOSET_PATH: Final = Path(__file__).with_name("open_inference.protoset")

INFERENCE_SERVICE: Final = "inference.GRPCInferenceService"

SERVER_METADATA: Final = f"/{INFERENCE_SERVICE}/ServerMetadata"
MODEL_READY: Final = f"/{INFERENCE_SERVICE}/ModelReady"
MODEL_METADATA: Final = f"/{INFERENCE_SERVICE}/ModelMetadata"
MODEL_INFER: Final = f"/{INFERENCE_SERVICE}/ModelInfer"

JSON_LENGTH_HEADER: Final = "Inference-Header-Content-Length"
"""Of the binary tensor data extension over REST: how many bytes of the body are JSON."""

_message_class = Protoset(PROTOSET_PATH).message_class

ServerLiveRequest: Final = _message_class("inference.ServerLiveRequest")
ServerLiveResponse: Final = _message_class("inference.ServerLiveResponse")
ServerReadyRequest: Final = _message_class("inference.ServerReadyRequest")
ServerReadyResponse: Final = _message_class("inference.ServerReadyResponse")
ServerMetadataRequest: Final = _message_class("inference.ServerMetadataRequest")
ServerMetadataResponse: Final = _message_class("inference.ServerMetadataResponse")
ModelReadyRequest: Final = _message_class("inference.ModelReadyRequest")
ModelReadyResponse: Final = _message_class("inference.ModelReadyResponse")
ModelMetadataRequest: Final = _message_class("inference.ModelMetadataRequest")
ModelMetadataResponse: Final = _message_class("inference.ModelMetadataResponse")
ModelInferRequest: Final = _message_class("inference.ModelInferRequest")
ModelInferResponse: Final = _message_class("inference.ModelInferResponse")


def model_path(model_name: str) -> str:
    """The REST path of a model; `/infer` and `/ready` come behind it."""
    return f"/v2/models/{quote(model_name, safe='')}"
