"""KServe's own server with models that send back what they understood of each input.

python kserve_server.py HTTP_PORT GRPC_PORT '{"model": [{"name": ..., "datatype": ..., "shape": ...}], ...}'
"""

import json
import sys

from kserve import InferOutput, InferResponse, Model, ModelServer
from kserve.errors import InvalidInput


class Echo(Model):
    def __init__(self, name, inputs):
        super().__init__(name)
        self.inputs = inputs
        self.ready = True

    def get_input_types(self):
        return self.inputs

    async def predict(self, payload, headers=None, response_headers=None):
        outputs = [self.understood(tensor) for tensor in payload.inputs]
        return InferResponse(payload.id or "", self.name, outputs)

    def understood(self, tensor):
        if tensor.name == "forbidden":
            raise InvalidInput("this input is forbidden")
        values = tensor.as_numpy()
        name, datatype, shape = tensor.name, tensor.datatype, list(values.shape)
        if datatype == "BYTES":
            texts = [value.encode() if isinstance(value, str) else value for value in values.ravel()]
            return InferOutput(name + "_hex", shape, datatype, [text.hex() for text in texts])
        return InferOutput(name, shape, datatype, values.ravel().tolist())


if __name__ == "__main__":
    http_port, grpc_port, models = sys.argv[1:]
    server = ModelServer(http_port=int(http_port), grpc_port=int(grpc_port), workers=1)
    server.start([Echo(name, inputs or []) for name, inputs in json.loads(models).items()])
