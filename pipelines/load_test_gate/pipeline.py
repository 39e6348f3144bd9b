"""The sub-DAG `load_test_gate`: payload, load, baseline, gate, report, record, enforce."""

from collections.abc import Callable, Mapping
from typing import Any, Dict, List, NamedTuple

from kfp import dsl, kubernetes

from model_load_test.components import (
    compare_to_baseline,
    enforce_gate,
    find_baseline,
    generate_payload,
    record_baseline,
    run_load_test,
    write_report,
)
from model_load_test.components.image import load_test_image
from model_load_test.components.protocols.endpoint import check_endpoints
from model_load_test.pipelines.knobs import checked

CONNECTION_SECRET_PATH = "/var/run/secrets/model-load-test"
"""Where the tasks that speak to the servers find what lets them in."""


class GateOutputs(NamedTuple):
    """What a pipeline that embeds the gate can use."""

    verdict: str
    passed: bool
    record: dsl.Artifact


def compose_gate(
    given: Mapping[str, Any], load_component: Any, place: Callable[[Any, Any, Mapping[str, Any]], None]
) -> GateOutputs:
    """The tasks of the gate.

    Args:
        given: The inputs of `load_test_gate` by name; tasks get those that they know by the same name.
        load_component: What loads: `run_load_test`, or what runs it on a machine of its own.
        place: Says where payload and load run, given both tasks and the inputs.
    """
    payload = generate_payload(
        **_inputs(
            generate_payload,
            given,
            endpoint=given["candidate_endpoint"],
            requests=given["payload_requests"],
            inputs=given["model_inputs"],
        )
    )
    load = load_component(
        **_inputs(
            load_component,
            # It calls what the payload calls.
            {name: value for name, value in given.items() if name != "signature_name"},
            payload=payload.outputs["payload"],
            generator_image=load_test_image(),
            run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            task_id=dsl.PIPELINE_TASK_ID_PLACEHOLDER,
        )
    )
    place(payload, load, given)
    results = load.outputs["results"]
    found = find_baseline(
        **_inputs(
            find_baseline,
            given,
            results=results,
            reference=given["baseline_reference"],
            match=given["baseline_match"],
        )
    )
    gate = compare_to_baseline(
        **_inputs(compare_to_baseline, given, results=results, history=found.outputs["history"])
    )
    report = gate.outputs["report"]
    drawn = write_report(**_inputs(write_report, given, report=report))
    recorded = record_baseline(
        **_inputs(
            record_baseline,
            given,
            results=results,
            metrics=gate.outputs["metrics"],
            verdict=gate.outputs["verdict"],
        )
    )
    enforced = enforce_gate(**_inputs(enforce_gate, given, report=report, page=drawn.outputs["page"])).after(
        recorded
    )
    for task in (payload, load, found, gate, drawn, recorded, enforced):
        task.set_caching_options(False)
    return GateOutputs(
        verdict=gate.outputs["verdict"], passed=gate.outputs["passed"], record=recorded.outputs["record"]
    )


def _on_kubernetes(payload: Any, load: Any, given: Mapping[str, Any]) -> None:
    for task in (payload, load):
        kubernetes.use_secret_as_volume(
            task, secret_name=given["connection_files"], mount_path=CONNECTION_SECRET_PATH, optional=True
        )
    kubernetes.add_toleration_json(load, given["tolerations"])
    kubernetes.add_node_selector_json(load, given["node_selector"])
    load.set_cpu_request(given["cpu_request"])
    load.set_memory_request(given["memory_request"])
    # Whose labels the fingerprint wants to read.
    kubernetes.use_field_path_as_env(load, env_name="MODEL_LOAD_TEST_NODE_NAME", field_path="spec.nodeName")
    _add_node_affinity(load, given["node_affinity"])


def _add_node_affinity(task: Any, affinity: Any) -> None:
    if hasattr(kubernetes, "add_node_affinity_json"):
        kubernetes.add_node_affinity_json(task, affinity)
    else:  # kfp-kubernetes 1.5, which is kfp 2.13's, writes all that it was told, but cannot be told this
        wanted = {"nodeAffinityJson": {"componentInputParameter": affinity.full_name}}
        task.platform_config.setdefault("kubernetes", {})["nodeAffinity"] = [wanted]


def _inputs(component: Any, given: Mapping[str, Any], **own: Any) -> dict[str, Any]:
    """What a component takes: its own, and the inputs of the pipeline that it knows by the same name."""
    known = {name: given[name] for name in component.component_spec.inputs if name in given}
    return {**known, **own}


@dsl.pipeline(name="load-test-gate", description="Is the candidate slower to serve than the baseline?")
def load_test_gate(
    candidate_endpoint: str,
    model_name: str,
    baseline_endpoint: str = "",
    signature_name: str = "serving_default",
    signatures: Dict[str, object] = {},
    api: str = "auto",
    mode: str = "auto",
    tool: str = "",
    workers: int = 1,
    users: int = 0,
    locustfile: str = "",
    rate_rps: float = 200.0,
    block_seconds: float = 0.0,
    looks: List[int] = [10, 15, 20, 30, 60],
    warmup_seconds: float = 2.0,
    timeout_seconds: float = 5.0,
    connections: int = 1,
    rate_profile: Dict[str, object] = {},
    concurrency: int = 0,
    http_version: str = "1.1",
    keep_alive: bool = True,
    max_connections: int = 0,
    connection: Dict[str, object] = {},
    connection_files: str = "model-load-test-connection",
    allowed_hosts: List[str] = [],
    max_rate_rps: float = 5000.0,
    max_requests: int = 2000000,
    max_seconds: float = 3600.0,
    max_error_share: float = 0.5,
    metrics: Dict[str, str] = {},
    resource_sources: Dict[str, object] = {},
    metrics_port: int = 0,
    payload_requests: int = 1000,
    batch_sizes: List[int] = [1, 2, 4],
    distributions: Dict[str, object] = {},
    examples: str = "",
    saved_model: str = "",
    model_inputs: Dict[str, str] = {},
    body_format: str = "auto",
    seed: int = 0,
    margins: Dict[str, float] = {},
    alpha: float = 0.05,
    objectives: List[str] = [],
    on_inconclusive: str = "fail",
    on_missing_baseline: str = "pass-and-record",
    break_on_failure: bool = True,
    baseline_store: str = "",
    baseline_reference: str = "latest",
    baseline_match: str = "exact",
    on_store_error: str = "no-baseline",
    namespace: str = "default",
    model_version: str = "",
    server_kind: str = "unknown",
    server_image: str = "",
    server_flags: List[str] = [],
    server_replicas: int = 1,
    tolerations: List[Dict[str, str]] = [],
    node_selector: Dict[str, str] = {},
    node_affinity: Dict[str, object] = {},
    cpu_request: str = "0",
    memory_request: str = "0",
    generators: int = 1,
    generator_pods: Dict[str, object] = {},
) -> GateOutputs:
    """Load tests a candidate model server against a baseline and breaks the run when it is slower.

    Args:
        candidate_endpoint: The new model's server, as grpc://HOST:PORT or http://HOST:PORT.
        model_name: The model's name on the servers.
        baseline_endpoint: The server of the model in production; empty to compare with recorded
            runs only.
        signature_name: The signature to call.
        signatures: Several signatures at once instead: by name a weight, or an object with weight,
            examples and distributions of its own.
        api: What the servers speak: tf-serving, oip (Open Inference v2: Triton, KServe, MLServer),
            seldon, or auto: the candidate is asked.
        mode: duet, interleaved, single, or auto (duet when there is a baseline endpoint).
        tool: ghz, vegeta or locust; empty for ghz with gRPC and vegeta with HTTP.
        workers: Locust's processes per arm.
        users: Locust's users per arm; 0 for as many as an open loop can need.
        locustfile: A user's own locustfile, mounted into the load's task, for Locust to run.
        rate_rps: Offered requests per second and arm.
        block_seconds: Length of the compared blocks; 0 for one second or 200 requests.
        looks: Numbers of pairs of blocks after which the run may stop.
        warmup_seconds: Load before the first block.
        timeout_seconds: After which a request has failed.
        connections: gRPC connections per arm.
        rate_profile: A rate that varies, such as {"shape": "ramp", "from_rps": 50, "to_rps": 400,
            "seconds": 60}; shapes are step, ramp, sine and replay (of a file of timestamps). It takes
            the place of rate_rps.
        concurrency: Above 0 a closed loop: so many requests at once, each waiting for its answer.
        http_version: 1.1 or 2, for HTTP.
        keep_alive: Whether HTTP connections are used again.
        max_connections: Most HTTP connections per arm; 0 for as many as requests are in flight.
        connection: How to reach the servers, by files: ca_file (or "system"), certificate_file,
            key_file, token_file, header_files; and server_name, host. The keys of the secret
            connection_files lie in /var/run/secrets/model-load-test, for example token as
            /var/run/secrets/model-load-test/token.
        connection_files: Name of the Kubernetes secret that is mounted there, if it exists.
        allowed_hosts: Hosts that may be loaded beside those of the cluster: names, *.SUFFIX, addresses
            or networks.
        max_rate_rps: Ceiling of the offered rate per arm.
        max_requests: Most requests of the whole run.
        max_seconds: Longest duration of the whole run.
        max_error_share: The run ends when more of an arm's requests fail for five seconds.
        metrics: Where the servers show their metrics, by arm, such as {"candidate":
            "http://HOST:8002/metrics"}; empty for the usual places of TF Serving and Triton.
        resource_sources: Who knows what the servers were busy with: prometheus, pages, pods, processes,
            cloud_monitoring, such as {"prometheus": {"url": "http://prometheus:9090", "candidate":
            {"pod": "=~digits-new-.*"}, "baseline": {"pod": "=~digits-.*"}}}; empty for nobody.
        metrics_port: Above 0 a port at which a Prometheus can follow the load while it runs.
        payload_requests: How many different requests to make.
        batch_sizes: Batch sizes to draw from.
        distributions: What else varies between requests: by batch_size, sequence_length, image_size,
            string_length, value or value.INPUT a number, a list, or an object such as
            {"distribution": "lognormal", "median": 40, "sigma": 0.8, "low": 1, "high": 512}.
        examples: Path or URI of own data to make requests of: JSON, CSV or parquet rows, TFRecords, a
            warm-up file, images, recorded requests; empty for random values.
        saved_model: Path or URI of the SavedModel to take the signature from; empty for the server's
            own metadata.
        model_inputs: The model's inputs, such as {"x": "float32[?, 4]"}, for servers that publish none.
        body_format: row or columnar, raw or typed, json or binary, tensor or ndarray, if there is a choice.
        seed: Of the requests and the random orders.
        margins: Allowed excess per metric, such as {"p95": 0.10}; of cpu, the CPU time per request that
            resource_sources tell, only where it is given.
        alpha: One-sided error rate of the gate.
        objectives: Absolute objectives of the candidate, such as ["p99_ms<=50"].
        on_inconclusive: fail, warn or pass.
        on_missing_baseline: Of a run with nothing to be compared with: pass-and-record goes on and makes
            it the first baseline; with warn, which goes on, and fail, which stops, its record stays a
            file, and a person makes it the baseline.
        break_on_failure: Whether to break the run at all; False where something else goes by the
            verdict, such as the blessing that TFX's Pusher reads.
        baseline_store: Where runs are recorded and found, such as mlmd+grpc://HOST:8080, or auto for the
            store that the pods have; empty for none.
        baseline_reference: Which earlier run is the reference: latest, promoted, best:METRIC, run:ID or
            version:LABEL.
        baseline_match: exact; spec admits earlier runs on other machines, model those of other loads too.
        on_store_error: What to do when the store does not answer: no-baseline or fail.
        namespace: Part of the baseline's key; the Kubernetes namespace or a team's name.
        model_version: Recorded with the run.
        server_kind: tf-serving, triton, kserve, seldon, vertex or unknown; an embedded server is
            recognised. Runs against different kinds are never compared.
        server_image: The servers' image with its digest; part of the baseline's key.
        server_flags: The servers' flags; part of the baseline's key.
        server_replicas: Replicas behind each endpoint; part of the baseline's key.
        tolerations: Kubernetes tolerations of the load generator's pod.
        node_selector: Node labels that the load generator's pod must find.
        node_affinity: Kubernetes node affinity of the load generator's pod.
        cpu_request: CPU that the load generator's pod asks for, such as "2"; "0" for none. There is no
            limit: a throttled generator would measure its own throttling.
        memory_request: Memory that the load generator's pod asks for, such as 1Gi; "0" for none.
        generators: Above 1 the load comes from so many pods of a Job that is created for it, started
            together, merged and removed; the task's ServiceAccount needs the Role for that.
        generator_pods: Where and how these pods run: tolerations, node_selector, affinity, resources,
            keep_off_servers and the other parameters of `run_load_job`.

    Returns:
        The verdict as text, whether the pipeline may go on, and the run's record, for
        `promote_baseline` after the push.
    """
    return compose_gate(locals(), run_load_test, _on_kubernetes)


def _check(known: Mapping[str, Any]) -> None:
    protocol = {"ghz": "grpc", "vegeta": "http"}.get(known.get("tool", ""), "")
    check_endpoints(known.get("candidate_endpoint"), known.get("baseline_endpoint"), protocol)


load_test_gate = checked(load_test_gate, _check)
