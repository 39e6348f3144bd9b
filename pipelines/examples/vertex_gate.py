"""On Vertex AI: train, deploy both models, compare, and make the new one the version in production.

The baseline is the version of a registered model that bears the alias `production`. After PASS the new
model becomes the next version and takes the alias, so that the next run is compared with it.

python -m model_load_test.pipelines.examples.vertex_gate vertex_gate.yaml
"""

import sys
from pathlib import Path

from google_cloud_pipeline_components.types.artifact_types import UnmanagedContainerModel
from google_cloud_pipeline_components.v1.model import ModelGetOp, ModelUploadOp
from kfp import dsl

from model_load_test.components.image import load_test_image
from model_load_test.pipelines import vertex_deploy_and_gate
from model_load_test.pipelines.compiling import vertex_document

SERVING_IMAGE = "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"
"""Google publishes it under no other tag."""


@dsl.component(base_image=load_test_image(), install_kfp_package=False)  # or any image that has kfp
def train(epochs: int, model: dsl.Output[dsl.Model]) -> str:
    """Stands for your own training, which writes a SavedModel.

    Args:
        epochs: How long to train.
        model: The trained model.

    Returns:
        Where it is, as gs://BUCKET/FOLDER.
    """
    from pathlib import Path

    Path(model.path).mkdir(parents=True)
    (Path(model.path) / "saved_model.pb").write_text(f"trained for {epochs} epochs\n")
    return str(model.uri)


@dsl.pipeline(name="vertex-gate")
def vertex_gate(
    project: str,
    model_id: str,
    location: str = "us-central1",
    epochs: int = 3,
    rate_rps: float = 50.0,
    server_machine_type: str = "n1-standard-4",
) -> None:
    """Trains, deploys both models beside each other, compares them, promotes after PASS.

    Args:
        project: Project of the registered model.
        model_id: The registered model.
        location: Where it is registered and where both are deployed for the test.
        epochs: How long to train.
        rate_rps: Offered requests per second and arm.
        server_machine_type: Machine of each server.
    """
    trained = train(epochs=epochs)
    registered = f"projects/{project}/locations/{location}/models/{model_id}"
    gate = vertex_deploy_and_gate(
        model_name=model_id,
        candidate_model=trained.outputs["Output"],
        baseline_model=f"{registered}@production",
        serving={"image": SERVING_IMAGE},
        server_machine_type=server_machine_type,
        rate_rps=rate_rps,
        project=project,
        location=location,
    )
    passed = dsl.importer(
        artifact_uri=trained.outputs["Output"],
        artifact_class=UnmanagedContainerModel,
        metadata={"containerSpec": {"imageUri": SERVING_IMAGE}},
    ).after(gate)
    parent = ModelGetOp(model_name=model_id, project=project, location=location).after(gate)
    ModelUploadOp(
        display_name=model_id,
        parent_model=parent.outputs["model"],
        unmanaged_container_model=passed.output,
        version_aliases=["production"],
        project=project,
        location=location,
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(vertex_document(vertex_gate))
