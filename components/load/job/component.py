"""KFP interface of the load Job: a container component, for it changes a cluster."""

# ruff: noqa: ARG001 -- KFP puts every argument into the executor input, which the task reads

from typing import Dict, List

from kfp import dsl

from model_load_test.components.image import load_test_image


@dsl.container_component
def run_load_job(
    payload: dsl.Input[dsl.Dataset],
    results: dsl.Output[dsl.Dataset],
    resource_usage: dsl.Output[dsl.Dataset],
    candidate_endpoint: str,
    model_name: str,
    baseline_endpoint: str = "",
    signature_name: str = "",
    mode: str = "auto",
    rate_rps: float = 200.0,
    block_seconds: float = 0.0,
    looks: List[int] = [10, 15, 20, 30, 60],
    warmup_seconds: float = 2.0,
    timeout_seconds: float = 5.0,
    tool: str = "",
    workers: int = 1,
    users: int = 0,
    locustfile: str = "",
    connections: int = 1,
    rate_profile: Dict[str, object] = {},
    concurrency: int = 0,
    http_version: str = "1.1",
    keep_alive: bool = True,
    max_connections: int = 0,
    connection: Dict[str, object] = {},
    allowed_hosts: List[str] = [],
    max_rate_rps: float = 5000.0,
    max_requests: int = 2000000,
    max_seconds: float = 3600.0,
    max_error_share: float = 0.5,
    resource_sources: Dict[str, object] = {},
    metrics_port: int = 0,
    seed: int = 0,
    margins: Dict[str, float] = {},
    alpha: float = 0.05,
    objectives: List[str] = [],
    server_kind: str = "unknown",
    server_image: str = "",
    server_flags: List[str] = [],
    server_replicas: int = 1,
    baseline_store: str = "",
    namespace: str = "default",
    generators: int = 2,
    generator_image: str = "",
    generator_namespace: str = "",
    service_account: str = "",
    tolerations: List[object] = [],
    node_selector: Dict[str, object] = {},
    affinity: Dict[str, object] = {},
    resources: Dict[str, object] = {},
    avoid: List[object] = [],
    keep_off_servers: str = "required",
    spread: str = "preferred",
    secrets: Dict[str, str] = {},
    pod: Dict[str, object] = {},
    annotations: Dict[str, str] = {},
    start_timeout_seconds: float = 60.0,
    ttl_seconds: int = 300,
    run_id: str = "",
    task_id: str = "",
) -> dsl.ContainerSpec:
    """Loads candidate and baseline from several pods at once, and stops as soon as the gate could decide.

    As `run_load_test`, with an Indexed Job of generators that this task creates, starts together,
    merges and removes. Its ServiceAccount needs the Role in `manifests/`.

    Args:
        payload: Requests made by `generate_payload`.
        results: One row a request of all generators, as parquet; the column worker says which one sent it.
        resource_usage: Every sample of the servers' resources, as parquet.
        candidate_endpoint: The new model's server, as grpc://HOST:PORT or http://HOST:PORT.
        model_name: The model's name on the servers.
        baseline_endpoint: The server of the model in production; empty to load the candidate alone.
        signature_name: The signature to call, or one of the payload's; empty for the payload's own.
        mode: duet, interleaved, single, or auto: duet when there is a baseline endpoint, else single.
        rate_rps: Offered requests per second and arm of all generators together.
        block_seconds: Length of the blocks that are compared; 0 for one second or 200 requests.
        looks: Numbers of pairs of blocks after which the run may stop.
        warmup_seconds: Load before the first block.
        timeout_seconds: After which a request has failed.
        tool: ghz, vegeta or locust; empty for ghz with gRPC and vegeta with HTTP.
        workers: Locust's processes per arm of each generator.
        users: Locust's users per arm of all generators together; 0 for as many as an open loop can need.
        locustfile: A user's own locustfile, mounted into this task; the generators get its content.
        connections: gRPC connections per arm of each generator.
        rate_profile: A rate that varies, as for `run_load_test`.
        concurrency: Above 0 a closed loop of so many requests at once, of all generators together.
        http_version: 1.1 or 2, for HTTP.
        keep_alive: Whether HTTP connections are used again.
        max_connections: Most HTTP connections per arm of each generator; 0 for as many as needed.
        connection: How to reach the servers, by files that `secrets` mounts: ca_file (or "system"),
            certificate_file, key_file, token_file, header_files; and server_name, host.
        allowed_hosts: Hosts that may be loaded beside those of the cluster and this machine.
        max_rate_rps: Ceiling of the offered rate per arm.
        max_requests: Most requests of the whole run.
        max_seconds: Longest duration of the whole run.
        max_error_share: The run ends when more of an arm's requests fail for five seconds.
        resource_sources: Who knows what the servers were busy with, as for `run_load_test`.
        metrics_port: Above 0 a port of this task at which a Prometheus can follow the load of all
            generators.
        seed: Of the random orders.
        margins: Allowed excess per metric, such as {"p95": 0.10}; the gate's defaults for the rest.
        alpha: One-sided error rate of the gate.
        objectives: Absolute objectives of the candidate, such as ["p99_ms<=50"].
        server_kind: tf-serving, triton, kserve, seldon, vertex or unknown.
        server_image: The servers' image with its digest, for the fingerprint.
        server_flags: The servers' flags, for the fingerprint.
        server_replicas: Replicas behind each endpoint, for the fingerprint.
        baseline_store: Store that may hold this infrastructure's noise floor. Empty for none.
        namespace: Part of the noise floor's key.
        generators: How many pods share the load.
        generator_image: Image of the generators; empty for this task's own.
        generator_namespace: Where the Job is created; empty for the task's own namespace.
        service_account: Of the generators, which get no token of it; empty for the default one.
        tolerations: Kubernetes tolerations of the generators. With node_selector they mean a reserved
            pool: the run is refused when its nodes lack the taint.
        node_selector: Node labels that the generators must find.
        affinity: Kubernetes affinity of the generators.
        resources: Requests and limits of each generator; one core and 512Mi requested by default.
        avoid: Labels of further pods whose nodes the generators keep off; servers behind a Service are
            found by themselves.
        keep_off_servers: required, preferred or off.
        spread: Over the nodes: required, preferred or off.
        secrets: Kubernetes secrets to mount into the generators, by folder.
        pod: Further fields of the generators' pod spec, such as priorityClassName.
        annotations: Of the generators' pods.
        start_timeout_seconds: How long the generators may take to be ready; raise it where nodes are added
            on demand.
        ttl_seconds: After which the cluster removes a finished Job that this task could not.
        run_id: The pipeline run: give dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        task_id: This task: give dsl.PIPELINE_TASK_ID_PLACEHOLDER.
    """
    return dsl.ContainerSpec(
        image=load_test_image(),
        command=["python3", "-u", "-m", "model_load_test.components.tasks"],
        args=["run_load_job", "{{$}}"],
    )
