"""TensorFlow Serving's messages and methods, built from its protoset: no TensorFlow needed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from model_load_test.components.protocols.protoset import Protoset

PROTOSET_PATH: Final = Path(__file__).with_name("tf_serving.protoset")

PREDICTION_SERVICE: Final = "tensorflow.serving.PredictionService"
MODEL_SERVICE: Final = "tensorflow.serving.ModelService"

PREDICT: Final = f"/{PREDICTION_SERVICE}/Predict"
CLASSIFY: Final = f"/{PREDICTION_SERVICE}/Classify"
REGRESS: Final = f"/{PREDICTION_SERVICE}/Regress"
MULTI_INFERENCE: Final = f"/{PREDICTION_SERVICE}/MultiInference"
GET_MODEL_METADATA: Final = f"/{PREDICTION_SERVICE}/GetModelMetadata"
GET_MODEL_STATUS: Final = f"/{MODEL_SERVICE}/GetModelStatus"
HANDLE_RELOAD_CONFIG: Final = f"/{MODEL_SERVICE}/HandleReloadConfigRequest"

PREDICT_METHOD_NAME: Final = "tensorflow/serving/predict"
CLASSIFY_METHOD_NAME: Final = "tensorflow/serving/classify"
REGRESS_METHOD_NAME: Final = "tensorflow/serving/regress"
DEFAULT_SIGNATURE_NAME: Final = "serving_default"


_PROTOSET: Final = Protoset(PROTOSET_PATH)
message_class: Final = _PROTOSET.message_class

PredictRequest: Final = message_class("tensorflow.serving.PredictRequest")
PredictResponse: Final = message_class("tensorflow.serving.PredictResponse")
ClassificationRequest: Final = message_class("tensorflow.serving.ClassificationRequest")
ClassificationResponse: Final = message_class("tensorflow.serving.ClassificationResponse")
RegressionRequest: Final = message_class("tensorflow.serving.RegressionRequest")
RegressionResponse: Final = message_class("tensorflow.serving.RegressionResponse")
MultiInferenceRequest: Final = message_class("tensorflow.serving.MultiInferenceRequest")
MultiInferenceResponse: Final = message_class("tensorflow.serving.MultiInferenceResponse")
GetModelMetadataRequest: Final = message_class("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse: Final = message_class("tensorflow.serving.GetModelMetadataResponse")
GetModelStatusRequest: Final = message_class("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse: Final = message_class("tensorflow.serving.GetModelStatusResponse")
ModelServerConfig: Final = message_class("tensorflow.serving.ModelServerConfig")
PredictionLog: Final = message_class("tensorflow.serving.PredictionLog")
SignatureDefMap: Final = message_class("tensorflow.serving.SignatureDefMap")
SavedModel: Final = message_class("tensorflow.SavedModel")
SignatureDef: Final = message_class("tensorflow.SignatureDef")
TensorProto: Final = message_class("tensorflow.TensorProto")
Example: Final = message_class("tensorflow.Example")

DataType: Final = _PROTOSET.enum("tensorflow.DataType")
