"""TFX pipelines for tests; those that graft tests start from lie in `fixtures` as TFX compiled them.

python tests/tfx/made_pipelines.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml
from tfx.components import InfraValidator, Pusher
from tfx.dsl.components.common import importer
from tfx.orchestration import pipeline
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as runner
from tfx.proto import infra_validator_pb2, pusher_pb2
from tfx.types import channel, standard_artifacts

from model_load_test.components.tfx import InfraValidatorV2, ModelLoadTest
from model_load_test.pipelines.examples.tfx_taxi.pipeline import taxi_pipeline
from model_load_test.pipelines.tfx import kubeflow_entrypoint

ROOT = "minio://bucket/root"
LIVE = {"endpoint": "grpc://taxi-candidate:8500", "model_name": "taxi"}


def compiled(made: Any, path: Path, **config: Any) -> Path:
    """Compiles a pipeline, or components as one, as TFX does it by itself."""
    if isinstance(made, list):
        made = pipeline.Pipeline(pipeline_name="taxi", pipeline_root=ROOT, components=made)
    values = {"default_image": "tensorflow/tfx:test", "use_pipeline_spec_2_1": True, **config}
    runner.KubeflowV2DagRunner(
        config=runner.KubeflowV2DagRunnerConfig(**values),
        output_dir=str(path.parent),
        output_filename=path.name,
    ).run(made)
    return path


def compiled_for_kubeflow(made: Any, folder: Path) -> dict[str, Any]:
    """Compiles likewise for open-source KFP and returns the pipeline spec."""
    path = compiled(made, folder / "taxi.yaml", default_commands=kubeflow_entrypoint())
    spec: dict[str, Any] = yaml.safe_load(path.read_text())
    return spec


def imported_model(uri: str) -> Any:
    """Stands for Trainer: a model that is there already."""
    node = importer.Importer(source_uri=uri, artifact_type=standard_artifacts.Model)
    return node.with_id("Trainer")


def imported_blessing(uri: str, blessed: int) -> Any:
    """Stands for InfraValidator: its answer."""
    node = importer.Importer(
        source_uri=uri,
        artifact_type=standard_artifacts.InfraBlessing,
        custom_properties={"blessed": blessed},
    )
    return node.with_id("InfraValidator")


def load_test(model: Any, infra_blessing: Any = None, **values: Any) -> Any:
    """The component under test."""
    blessing = infra_blessing.outputs["result"] if infra_blessing else None
    return ModelLoadTest(model.outputs["result"], infra_blessing=blessing, **values)


def pusher(model: Any, blessing: Any, directory: Path | str) -> Any:
    """TFX's Pusher; `blessing` is a channel, or None."""
    return Pusher(
        model=model.outputs["result"],
        infra_blessing=blessing,
        push_destination=destination(directory),
    )


def destination(directory: Path | str) -> Any:
    """A folder for Pusher to push to."""
    filesystem = pusher_pb2.PushDestination.Filesystem(base_directory=str(directory))
    return pusher_pb2.PushDestination(filesystem=filesystem)


def infra_validator(model: Any, own: bool) -> Any:
    """TFX's InfraValidator, or ours."""
    spec = infra_validator_pb2.ServingSpec(
        tensorflow_serving=infra_validator_pb2.TensorFlowServing(tags=["2.16.1"]),
        kubernetes=infra_validator_pb2.KubernetesConfig(),
    )
    return (InfraValidatorV2 if own else InfraValidator)(model.outputs["result"], serving_spec=spec)


def serving_spec(tag: str) -> Any:
    """TFX's ServingSpec."""
    return infra_validator_pb2.ServingSpec(
        tensorflow_serving=infra_validator_pb2.TensorFlowServing(tags=[tag]),
        kubernetes=infra_validator_pb2.KubernetesConfig(),
        model_name="taxi",
    )


def channel_of(type_name: str) -> Any:
    """A channel of a type of TFX."""
    return channel.Channel(type=getattr(standard_artifacts, type_name))


def taxi(**values: Any) -> Any:
    """The taxi example; without a gate unless values say otherwise."""
    defaults = {
        "trips": "/data/trips",
        "serving_directory": "/models/taxi",
        "pipeline_root": ROOT,
        "serving_spec": {},
        "baseline": "",
        "with_gate": False,
    }
    return taxi_pipeline(**{**defaults, **values})


def validated_components() -> list[Any]:
    """A model, InfraValidator, Pusher."""
    model = imported_model("minio://bucket/model")
    validator = infra_validator(model, own=True)
    return [model, validator, pusher(model, validator.outputs["blessing"], "/models/taxi")]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    compiled(taxi(), folder / "taxi.yaml")
    compiled(validated_components(), folder / "validated.yaml")
    compiled(taxi(), folder / "taxi-2.0.json", use_pipeline_spec_2_1=False)
