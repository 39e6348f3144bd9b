"""A gRPC front that speaks TLS and wants a token; run in a pod, before a model server.

python3 -c SCRIPT SERVER:PORT, with tls.crt and tls.key in /certificates and TOKEN in the environment.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

CERTIFICATES = Path("/certificates")


class Forward(grpc.GenericRpcHandler):
    """Passes each call on as bytes, if it brings the token."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def service(self, details: Any) -> Any:
        """The handler of one call."""
        call = self._channel.unary_unary(details.method)

        def handle(request: bytes, context: Any) -> bytes:
            if (
                dict(context.invocation_metadata()).get("authorization")
                != f"Bearer {os.environ['TOKEN'].strip()}"
            ):
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
            try:
                answer: bytes
                answer, known = call.with_call(request, timeout=20)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
            context.set_trailing_metadata(tuple(known.trailing_metadata() or ()))
            return answer

        return grpc.unary_unary_rpc_method_handler(handle)


def main() -> None:
    """Serves until it is killed."""
    pair = ((CERTIFICATES / "tls.key").read_bytes(), (CERTIFICATES / "tls.crt").read_bytes())
    handler = Forward(grpc.insecure_channel(sys.argv[1]))
    server = grpc.server(ThreadPoolExecutor(16), handlers=[handler])
    server.add_secure_port("0.0.0.0:8443", grpc.ssl_server_credentials([pair]))
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
