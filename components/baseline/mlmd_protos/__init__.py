"""ML Metadata's messages, so that a pod needs only grpcio and protobuf to reach the service.

Generated from `ml_metadata/proto/metadata_store.proto` and `metadata_store_service.proto` of
google/ml-metadata 1.17 (Apache-2.0, Copyright Google LLC) with grpcio-tools 1.62.3:

    python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. ml_metadata/proto/metadata_store*.proto

and the import of one by the other pointed here. That compiler's output runs on protobuf 4.25 and
6. The descriptors equal those inside the `ml-metadata` wheel byte for byte, so that both can be
imported into one process.
"""
