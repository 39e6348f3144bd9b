"""The gate as a pipeline for Vertex AI: the same sub-DAG without Kubernetes settings."""

from kfp import dsl

from model_load_test.pipelines.load_test_gate.pipeline import load_test_gate


@dsl.pipeline(name="load-test-gate", description="Is the candidate slower to serve than the baseline?")
def load_test_gate_on_vertex(
    candidate_endpoint: str,
    model_name: str,
    baseline_endpoint: str = "",
    signature_name: str = "serving_default",
    signatures: dict[str, object] = {},
    api: str = "auto",
    payload_requests: int = 1000,
    batch_sizes: list[int] = [1, 2, 4],
    distributions: dict[str, object] = {},
    examples: str = "",
    saved_model: str = "",
    model_inputs: dict[str, str] = {},
    mode: str = "auto",
    rate_rps: float = 200.0,
    rate_profile: dict[str, object] = {},
    concurrency: int = 0,
    connection: dict[str, object] = {},
    allowed_hosts: list[str] = [],
    max_rate_rps: float = 5000.0,
    looks: list[int] = [10, 15, 20, 30, 60],
    margins: dict[str, float] = {},
    alpha: float = 0.05,
    objectives: list[str] = [],
    on_inconclusive: str = "fail",
    on_no_baseline: str = "warn",
    baseline_store: str = "",
    namespace: str = "default",
    model_version: str = "",
    server_kind: str = "vertex",
    server_image: str = "",
) -> None:
    """Load tests a candidate model server against a baseline and breaks the run when it is slower.

    The parameters are those of `load_test_gate`.
    """
    load_test_gate(
        candidate_endpoint=candidate_endpoint,
        model_name=model_name,
        baseline_endpoint=baseline_endpoint,
        signature_name=signature_name,
        signatures=signatures,
        api=api,
        payload_requests=payload_requests,
        batch_sizes=batch_sizes,
        distributions=distributions,
        examples=examples,
        saved_model=saved_model,
        model_inputs=model_inputs,
        mode=mode,
        rate_rps=rate_rps,
        rate_profile=rate_profile,
        concurrency=concurrency,
        connection=connection,
        allowed_hosts=allowed_hosts,
        max_rate_rps=max_rate_rps,
        looks=looks,
        margins=margins,
        alpha=alpha,
        objectives=objectives,
        on_inconclusive=on_inconclusive,
        on_no_baseline=on_no_baseline,
        baseline_store=baseline_store,
        namespace=namespace,
        model_version=model_version,
        server_kind=server_kind,
        server_image=server_image,
    )
