"""The version of the package, and so the tag of its images."""

__version__ = "0.1.0"
