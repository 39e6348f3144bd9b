"""The gate between two model servers that are already up."""
