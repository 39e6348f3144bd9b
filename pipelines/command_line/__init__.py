"""The `model-load-test` command."""
