"""The models of a server: which versions it has, in which state, and how a request names one.

Behaviour and texts follow TF Serving's ServerCore and GetModelStatusImpl.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model_load_test.components.protocols.tensors import Array
from model_load_test.components.protocols.tf_serving import GetModelStatusResponse
from model_load_test.components.serving.embedded.failure import Code, ServingError, invalid_argument

Run = Callable[[Mapping[str, Array], Sequence[str]], Sequence[Array]]
"""Computes tensors: values by tensor name in, values of the named tensors out."""


@dataclass(frozen=True)
class LoadedModel:
    """What a backend makes of a model's folder."""

    signature_defs: Mapping[str, Any]
    """SignatureDef messages by name."""
    run: Run


@dataclass(frozen=True)
class Servable:
    """One version of a model, ready to answer."""

    model_name: str
    version: int
    signature_defs: Mapping[str, Any]
    run: Run


@dataclass
class _Version:
    state: str = "START"
    code: Code = Code.OK
    message: str = ""
    servable: Servable | None = None


@dataclass
class Servables:
    """All versions of all models, changed by the loader and read by every request."""

    _versions: dict[str, dict[int, _Version]] = field(default_factory=dict)
    _labels: dict[str, dict[str, int]] = field(default_factory=dict)

    def expect(self, model_name: str, versions: Sequence[int], labels: Mapping[str, int]) -> None:
        """Announces versions that are about to be loaded."""
        self._versions[model_name] = {version: _Version() for version in sorted(versions)}
        self._labels[model_name] = dict(labels)

    def load(self, model_name: str, version: int, load: Callable[[], LoadedModel]) -> None:
        """Loads a version; where that fails its state says so, and the error goes on to the caller."""
        entry = self._versions[model_name][version]
        entry.state = "LOADING"
        try:
            loaded = load()
        except Exception as error:
            entry.code, entry.message, entry.state = Code.UNKNOWN, str(error), "END"
            raise
        entry.servable = Servable(model_name, version, loaded.signature_defs, loaded.run)
        entry.state = "AVAILABLE"

    def find(self, model_spec: Any) -> Servable:
        """The servable a request's ModelSpec names; without version or label, the latest.

        Raises:
            ServingError: There is none, or it is not available.
        """
        name: str = model_spec.name
        if not name:
            raise invalid_argument("ModelSpec has no name specified.")
        choice = model_spec.WhichOneof("version_choice")
        if choice is None:
            available = [v.servable for v in self._versions.get(name, {}).values() if v.servable]
            if not available:
                raise _not_found(f"Latest({name})")
            return available[-1]
        version = (
            model_spec.version.value
            if choice == "version"
            else self._version_of_label(name, model_spec.version_label)
        )
        entry = self._versions.get(name, {}).get(version)
        if entry is None or entry.servable is None:
            raise _not_found(f"Specific({name}, {version})")
        return entry.servable

    def status(self, request: Any) -> Any:
        """Answers a GetModelStatusRequest; a label in it is not looked at.

        Raises:
            ServingError: The model, or its version, is not known.
        """
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        spec = request.model_spec
        versions = self._versions.get(spec.name, {})
        if spec.WhichOneof("version_choice") == "version":
            wanted = spec.version.value
            if wanted not in versions:
                raise ServingError(Code.NOT_FOUND, f"Could not find version {wanted} of model {spec.name}")
            versions = {wanted: versions[wanted]}
        elif not versions:
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        response = GetModelStatusResponse()
        # TF Serving lists the latest version first.
        for number, version in reversed(versions.items()):
            status = response.model_version_status.add(version=number, state=version.state)
            status.status.error_code = int(version.code)
            status.status.error_message = version.message
        return response

    def _version_of_label(self, model_name: str, label: str) -> int:
        try:
            return self._labels[model_name][label]
        except KeyError:
            raise invalid_argument(f"Unrecognized servable version label: {label}") from None


def _not_found(request: str) -> ServingError:
    return ServingError(Code.NOT_FOUND, f"Servable not found for request: {request}")
