"""The sub-DAGs, and the command line."""
