"""The taxi pipeline with the gate between Trainer and Pusher.

python -m model_load_test.pipelines.examples.tfx_taxi.pipeline taxi.yaml

`TAXI_IMAGE` is TFX's image with `trainer.py` on its Python path.
"""
# mypy: disable-error-code="import-not-found,import-untyped"
# TFX lives in an environment of its own, so its types are unknown.

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfx.components import CsvExampleGen, Pusher, Trainer
from tfx.orchestration import pipeline
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner
from tfx.proto import pusher_pb2, trainer_pb2

from model_load_test.components.tfx import ModelLoadTest
from model_load_test.pipelines.tfx import kubeflow_entrypoint

TAXI_IMAGE = os.environ.get("TAXI_IMAGE", "tensorflow/tfx:1.16.0")


def taxi_pipeline(
    *,
    trips: str,
    serving_directory: str,
    pipeline_root: str,
    serving_spec: Mapping[str, Any],
    baseline: str | Mapping[str, Any],
    load_spec: Mapping[str, Any] | None = None,
    gate_spec: Mapping[str, Any] | None = None,
    with_gate: bool = True,
) -> pipeline.Pipeline:
    """Examples, training, the gate, and the push.

    Args:
        trips: Folder of CSV files with the columns trip_miles, trip_seconds, fare and tips.
        serving_directory: Where the model server finds its versions.
        pipeline_root: Where KFP keeps artifacts, such as minio://BUCKET/taxi.
        serving_spec: See `ModelLoadTest`.
        baseline: See `ModelLoadTest`.
        load_spec: See `ModelLoadTest`.
        gate_spec: See `ModelLoadTest`.
        with_gate: Leave it out to put the gate in with `insert_gate`.
    """
    examples = CsvExampleGen(input_base=trips)
    trainer = Trainer(
        run_fn="trainer.run_fn",
        examples=examples.outputs["examples"],
        train_args=trainer_pb2.TrainArgs(),
        eval_args=trainer_pb2.EvalArgs(),
    )
    components = [examples, trainer]
    if with_gate:
        gate = ModelLoadTest(
            model=trainer.outputs["model"],
            examples=examples.outputs["examples"],
            serving_spec=serving_spec,
            baseline=baseline,
            load_spec=load_spec,
            gate_spec=gate_spec,
        )
        components.append(gate)
    components.append(
        Pusher(
            model=trainer.outputs["model"],
            infra_blessing=gate.outputs["blessing"] if with_gate else None,
            push_destination=pusher_pb2.PushDestination(
                filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=serving_directory)
            ),
        )
    )
    return pipeline.Pipeline(pipeline_name="taxi", pipeline_root=pipeline_root, components=components)


def compile_pipeline(taxi: pipeline.Pipeline, output: Path) -> Path:
    """Compiles it for open-source Kubeflow Pipelines; returns the file."""
    config = kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
        default_image=TAXI_IMAGE, default_commands=kubeflow_entrypoint(), use_pipeline_spec_2_1=True
    )
    kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        config=config, output_dir=str(output.parent), output_filename=output.name
    ).run(taxi)
    return output


if __name__ == "__main__":
    print(
        compile_pipeline(
            taxi_pipeline(
                trips="/data/trips",
                serving_directory="/models/taxi",
                pipeline_root="minio://mlpipeline/taxi",
                serving_spec={"endpoint": "grpc://taxi-candidate:8500", "model_name": "taxi"},
                baseline="grpc://taxi:8500",
            ),
            Path(sys.argv[1]),
        )
    )
