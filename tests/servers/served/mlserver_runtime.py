"""Sends back what it understood of each input; refuses what is called forbidden."""

from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec, StringCodec
from mlserver.errors import MLServerError
from mlserver.types import InferenceResponse


class Echo(MLModel):
    async def load(self):
        return True

    async def predict(self, payload):
        outputs = []
        for tensor in payload.inputs:
            if tensor.name == "forbidden":
                raise MLServerError("this input is forbidden", 400)
            if tensor.datatype == "BYTES":
                encoded = getattr(tensor.parameters, "content_type", None) == "base64"
                values = Base64Codec.decode_input(tensor) if encoded else list(tensor.data)
                values = [value if isinstance(value, bytes) else value.encode() for value in values]
                out = StringCodec.encode_output(tensor.name + "_hex", [value.hex() for value in values])
            else:
                out = NumpyCodec.encode_output(tensor.name, NumpyCodec.decode_input(tensor))
            outputs.append(out)
        return InferenceResponse(model_name=self.name, outputs=outputs)
