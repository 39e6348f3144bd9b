"""The command under which TFX's executors run on open-source Kubeflow Pipelines."""

from __future__ import annotations

from pathlib import Path


def kubeflow_entrypoint() -> list[str]:
    """What `KubeflowV2DagRunnerConfig` takes as `default_commands`.

        KubeflowV2DagRunnerConfig(
            default_image=..., default_commands=kubeflow_entrypoint(), use_pipeline_spec_2_1=True
        )

    The image stays TFX's own: the command carries the text of `shim.py`.
    """
    return ["python3", "-c", Path(__file__).with_name("shim.py").read_text(encoding="utf-8")]
