"""Serving parameters tried one configuration at a time, each beside the reference configuration."""
