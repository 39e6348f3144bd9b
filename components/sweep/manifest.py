"""A configuration as files that a server is started with: Kubernetes manifests and a batching file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.cluster.names import object_name
from model_load_test.components.image import load_test_image
from model_load_test.components.serving.arm import DeployedArm
from model_load_test.components.serving.backends import BACKENDS
from model_load_test.components.serving.model_uri import Storage, parse_model_uri
from model_load_test.components.serving.spec import ServingSpec
from model_load_test.components.serving.tf_serving import batching_file
from model_load_test.components.serving.triton_configuration import configuration_text

APP_LABEL: Final = "app.kubernetes.io/name"


def manifests_text(spec: ServingSpec, model_uri: str, remark: str, storage: Storage | None = None) -> str:
    """The manifests of a server, named after its model, as a YAML file that `kubectl apply` takes.

    Args:
        spec: How it serves.
        model_uri: What it serves.
        remark: Comment at the top, a line each.
        storage: How to get at the model.
    """
    import yaml

    model = parse_model_uri(model_uri)
    arm = DeployedArm(
        "candidate", RunIdentity("sweep", "best"), model, storage or Storage(), load_test_image()
    )
    named = [_renamed(one, arm, spec) for one in BACKENDS[spec.kind].manifests(arm, spec)]
    comment = "".join(f"# {line}\n" for line in remark.splitlines())
    return comment + yaml.safe_dump_all(named, sort_keys=False)


def batching_text(spec: ServingSpec) -> str:
    """The file that says how the server makes batches; empty where it makes none of its own choosing.

    TF Serving's batching parameters, or the fields of Triton's config.pbtxt.
    """
    if spec.batching:
        return batching_file(spec.batching)
    return configuration_text(spec.model_configuration) if spec.model_configuration else ""


def _renamed(value: Any, arm: DeployedArm, spec: ServingSpec) -> Any:
    """A manifest with a name and labels that stay, in the place of a run's."""
    if value == arm.name:
        return object_name(spec.model_name).rsplit("-", 1)[0]
    if isinstance(value, Mapping):
        names = set(arm.labels)
        kept = {name: _renamed(one, arm, spec) for name, one in value.items() if name not in names}
        return {APP_LABEL: spec.model_name, **kept} if names <= set(value) else kept
    if isinstance(value, list):
        return [_renamed(one, arm, spec) for one in value]
    return value
