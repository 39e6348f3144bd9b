"""The TFX pipelines that graft tests start from; `fixtures` holds them as TFX compiled them.

python tests/tfx/made_pipelines.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tfx.components import Pusher
from tfx.dsl.components.common import importer
from tfx.orchestration import pipeline
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as runner
from tfx.proto import infra_validator_pb2, pusher_pb2
from tfx.types import standard_artifacts

from model_load_test.components.tfx import InfraValidatorV2
from model_load_test.pipelines.examples.tfx_taxi.pipeline import taxi_pipeline

ROOT = "minio://bucket/root"


def compiled(made: Any, path: Path, **config: Any) -> Path:
    """Compiles a TFX pipeline."""
    values = {"default_image": "tensorflow/tfx:test", "use_pipeline_spec_2_1": True, **config}
    runner.KubeflowV2DagRunner(
        config=runner.KubeflowV2DagRunnerConfig(**values),
        output_dir=str(path.parent),
        output_filename=path.name,
    ).run(made)
    return path


def taxi() -> Any:
    """Examples, Trainer, Pusher; nothing between the last two."""
    return taxi_pipeline(
        trips="/data/trips",
        serving_directory="/models/taxi",
        pipeline_root=ROOT,
        serving_spec={},
        baseline="",
        with_gate=False,
    )


def validated() -> Any:
    """An imported model, InfraValidator, Pusher."""
    model = importer.Importer(source_uri="minio://bucket/model", artifact_type=standard_artifacts.Model)
    model = model.with_id("Trainer")
    validator = InfraValidatorV2(
        model.outputs["result"],
        serving_spec=infra_validator_pb2.ServingSpec(
            tensorflow_serving=infra_validator_pb2.TensorFlowServing(tags=["2.16.1"]),
            kubernetes=infra_validator_pb2.KubernetesConfig(),
            model_name="taxi",
        ),
    )
    return imported_and_pushed(model, validator, validator.outputs["blessing"], "/models/taxi")


def imported_and_pushed(model: Any, validator: Any, blessing: Any, directory: str) -> Any:
    """A pipeline of these and a Pusher."""
    pusher = Pusher(
        model=model.outputs["result"],
        infra_blessing=blessing,
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=directory)
        ),
    )
    return pipeline.Pipeline(
        pipeline_name="validated", pipeline_root=ROOT, components=[model, validator, pusher]
    )


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    compiled(taxi(), folder / "taxi.yaml")
    compiled(validated(), folder / "validated.yaml")
    compiled(taxi(), folder / "taxi-2.0.json", use_pipeline_spec_2_1=False)
