"""Sends back what it understood of each input, after `sleep_ms`; refuses what is called forbidden."""

import json
import sys
import time

sys.path.insert(0, "SITE_PACKAGES")  # the backend's interpreter knows no environment

import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"]).get("parameters", {})
        self.sleep_seconds = float(parameters.get("sleep_ms", {}).get("string_value", 0)) / 1e3

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        time.sleep(self.sleep_seconds)
        outputs = []
        for tensor in request.inputs():
            if tensor.name() == "forbidden":
                return triton.InferenceResponse(error=triton.TritonError("this input is forbidden"))
            values = tensor.as_numpy()
            if values.dtype == np.object_:
                texts = np.array([value.hex().encode() for value in values.ravel()], np.object_)
                outputs.append(triton.Tensor(tensor.name() + "_hex", texts.reshape(values.shape)))
            else:
                outputs.append(triton.Tensor(tensor.name(), values))
        return triton.InferenceResponse(outputs)
