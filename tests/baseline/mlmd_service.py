"""The real MetadataStoreService behind gRPC: ml-metadata's embedded C++ service with a thin front.

    python mlmd_service.py PORT DATABASE_FILE [CERTIFICATE KEY]

Prints the port once it listens. `PORT` 0 lets the system choose.
"""

import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc
from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as service
from ml_metadata.proto import metadata_store_pb2

STATUS = {code.value[0]: code for code in grpc.StatusCode}


class Front(grpc.GenericRpcHandler):
    """Hands the bytes of every call to the C++ service and its status code back."""

    def __init__(self, database: str) -> None:
        config = metadata_store_pb2.ConnectionConfig()
        config.sqlite.filename_uri = database
        config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        self._store = service.CreateMetadataStore(config.SerializeToString(), b"")
        self._lock = threading.Lock()

    def service(self, handler_call_details):
        _, name, method = handler_call_details.method.split("/")
        if name != "ml_metadata.MetadataStoreService" or not hasattr(service, method):
            return None

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            with self._lock:
                response, message, code = getattr(service, method)(self._store, request)
            if code:
                context.abort(STATUS[code], message.decode(errors="replace"))
            return response

        return grpc.unary_unary_rpc_method_handler(answer)


def main(port: str, database: str, certificate: str = "", private_key: str = "") -> None:
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Front(database),))
    address = f"127.0.0.1:{port}"
    if certificate:
        pair = (Path(private_key).read_bytes(), Path(certificate).read_bytes())
        bound = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    else:
        bound = server.add_insecure_port(address)
    server.start()
    print(bound, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
