"""The sweep within a pipeline."""

from kfp import dsl

from model_load_test.components import sweep_serving, teardown_model_server


@dsl.pipeline(name="sweep-example")
def sweep_and_clean_up(model: str = "gs://models/digits/42") -> None:
    """Tries four ways of batching; what a task that was killed has left is removed."""
    swept = sweep_serving(
        candidate_model=model,
        model_name="digits",
        parameters={
            "enable_batching": [True],
            "max_batch_size": [8, 32],
            "batch_timeout_micros": [0, 2000],
        },
        rates_rps=[100.0, 200.0],
        objectives=["p99_ms<=50"],
        deployment="sweep",
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
    )
    teardown_model_server(deployment="sweep", namespace="", run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER).after(
        swept
    ).ignore_upstream_failure()
