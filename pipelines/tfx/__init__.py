"""The gate in pipelines that TFX compiled, and TFX's tasks in pipelines of KFP."""

from __future__ import annotations

from model_load_test.pipelines.tfx.compiled import CompiledPipeline
from model_load_test.pipelines.tfx.entrypoint import kubeflow_entrypoint
from model_load_test.pipelines.tfx.graft import insert_gate
from model_load_test.pipelines.tfx.task_as_component import tfx_task_as_component

__all__ = ["CompiledPipeline", "insert_gate", "kubeflow_entrypoint", "tfx_task_as_component"]
