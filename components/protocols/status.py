"""What a server says about a model's versions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VersionStatus:
    """The state of one version of a model on a server."""

    version: int | str
    """A number on TF Serving; a name, which may be empty, elsewhere."""
    state: str
    """START, LOADING, AVAILABLE, UNLOADING or END; UNAVAILABLE where the API tells no more."""
    error_code: str = "OK"
    error_message: str = ""
