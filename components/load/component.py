"""KFP interface of the load room."""

from typing import Dict, List

from kfp import dsl

from model_load_test.components.image import load_test_image


@dsl.component(base_image=load_test_image(), install_kfp_package=False)
def run_load_test(
    payload: dsl.Input[dsl.Dataset],
    results: dsl.Output[dsl.Dataset],
    resource_usage: dsl.Output[dsl.Dataset],
    candidate_endpoint: str,
    model_name: str,
    baseline_endpoint: str = "",
    signature_name: str = "",
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
    allowed_hosts: List[str] = [],
    max_rate_rps: float = 5000.0,
    max_requests: int = 2000000,
    max_seconds: float = 3600.0,
    max_error_share: float = 0.5,
    metrics: Dict[str, str] = {},
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
    generators: int = 1,
    generator_image: str = "",
    generator_pods: Dict[str, object] = {},
    run_id: str = "",
    task_id: str = "",
) -> None:
    """Loads candidate and baseline, open loop, and stops as soon as the gate could decide.

    Nothing is sent before both servers have answered, serve the named model and its signature.

    Args:
        payload: Requests made by `generate_payload`.
        results: One row a request, as parquet.
        resource_usage: Every sample of the servers' resources, as parquet.
        candidate_endpoint: The new model's server, as grpc://HOST:PORT or http://HOST:PORT.
        model_name: The model's name on the servers.
        baseline_endpoint: The server of the model in production; empty to load the candidate alone.
        signature_name: The signature to call, or one of the payload's; empty for the payload's own.
        mode: duet (both at once), interleaved (in turn, random order), single, or auto: duet when
            there is a baseline endpoint, else single.
        tool: ghz, vegeta or locust; empty for ghz with gRPC and vegeta with HTTP.
        workers: Locust's processes per arm.
        users: Locust's users per arm; 0 for as many as an open loop can need.
        locustfile: A user's own locustfile, mounted into the task, for Locust to run.
        rate_rps: Offered requests per second and arm, as long as neither a profile nor a
            concurrency takes its place.
        block_seconds: Length of the blocks that are compared; 0 for one second or 200 requests.
        looks: Numbers of pairs of blocks after which the run may stop.
        warmup_seconds: Load before the first block.
        timeout_seconds: After which a request has failed.
        connections: gRPC connections per arm.
        rate_profile: A rate that varies, such as {"shape": "ramp", "from_rps": 50, "to_rps": 400,
            "seconds": 60}; shapes are step, ramp, sine and replay (of a file of timestamps). Both arms
            of a pair get the same stretch of it, and every look comes after whole passes.
        concurrency: Above 0 a closed loop: so many requests at once, each waiting for its answer.
            For questions about simultaneous clients; its latencies hide waiting.
        http_version: 1.1 or 2, for HTTP.
        keep_alive: Whether HTTP connections are used again.
        max_connections: Most HTTP connections per arm; 0 for as many as requests are in flight.
        connection: How to reach the servers, by files that are mounted into the task: ca_file (or
            "system"), certificate_file, key_file, token_file, header_files; and server_name, host.
        allowed_hosts: Hosts that may be loaded beside those of the cluster and this machine: names,
            *.SUFFIX, addresses or networks.
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
        seed: Of the random orders.
        margins: Allowed excess per metric, such as {"p95": 0.10}; the gate's defaults for the rest. A
            margin of cpu, CPU time per request, is judged only where it is given; it wants
            resource_sources.
        alpha: One-sided error rate of the gate.
        objectives: Absolute objectives of the candidate, such as ["p99_ms<=50"].
        server_kind: tf-serving, triton, kserve, seldon, vertex or unknown; an embedded server is
            recognised. Runs against different kinds are never compared.
        server_image: The servers' image with its digest, for the fingerprint.
        server_flags: The servers' flags, for the fingerprint.
        server_replicas: Replicas behind each endpoint, for the fingerprint.
        baseline_store: Store that `model-load-test calibrate` may have written this infrastructure's
            noise floor into; no margin is below twice that. Empty for none.
        namespace: Part of the noise floor's key.
        generators: Above 1 the load comes from so many pods of a Job that this task creates, starts
            together, merges and removes, as `run_load_job` does; it then needs that one's rights.
        generator_image: Image of these pods; empty for the image of this release.
        generator_pods: Where and how these pods run: tolerations, node_selector, affinity, resources,
            keep_off_servers and the other parameters of `run_load_job`.
        run_id: The pipeline run, for the Job: give dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        task_id: This task, likewise: give dsl.PIPELINE_TASK_ID_PLACEHOLDER.
    """
    given = dict(locals())
    import tempfile
    from pathlib import Path

    import msgspec

    from model_load_test.components.baseline.fingerprint import collect_fingerprint
    from model_load_test.components.baseline.noise_floor import noise_floor_key, noise_floor_of_run
    from model_load_test.components.gate.spec import gate_spec_of_run, parse_gate_spec
    from model_load_test.components.gate.stopping import load_stop_rule
    from model_load_test.components.load.exporter import load_exporter
    from model_load_test.components.load.generators import find_generator
    from model_load_test.components.load.preflight import prepare
    from model_load_test.components.load.run import interruptible
    from model_load_test.components.load.run import run_load_test as run
    from model_load_test.components.parameters import whole_numbers
    from model_load_test.components.resources.spec import parse_resource_spec
    from model_load_test.components.resources.watch import ResourceWatch, keep_resources
    from model_load_test.components.results.table import write_results

    if generators > 1:
        from model_load_test.components.tasks.load import load_from_pods

        return load_from_pods(
            given, generator_pods, Path(payload.path), Path(results.path), Path(resource_usage.path)
        )
    limits = {
        "allowed_hosts": allowed_hosts,
        "max_rate_rps": max_rate_rps,
        "max_requests": max_requests,
        "max_seconds": max_seconds,
        "max_error_share": max_error_share,
    }
    demands = {"margins": margins, "alpha": alpha, "objectives": objectives}
    parse_gate_spec(demands)
    with tempfile.TemporaryDirectory(prefix="load-test-") as work_path:
        test = prepare(
            candidate_endpoint=candidate_endpoint,
            baseline_endpoint=baseline_endpoint,
            model_name=model_name,
            signature_name=signature_name,
            payload_path=Path(payload.path),
            mode=mode,
            spec_values={
                "tool": tool,
                "workers": workers,
                "users": users,
                "rate_rps": rate_rps,
                "block_seconds": block_seconds,
                "looks": whole_numbers("looks", looks),
                "warmup_seconds": warmup_seconds,
                "timeout_seconds": timeout_seconds,
                "connections": connections,
                "rate_profile": rate_profile,
                "concurrency": concurrency,
                "http_version": http_version,
                "keep_alive": keep_alive,
                "max_connections": max_connections,
                "seed": seed,
            },
            work_path=Path(work_path),
            connection=connection,
            limits=limits,
            metrics=metrics,
            locustfile=locustfile,
        )
        load_spec = msgspec.to_builtins(test.spec)
        generator = find_generator(test.spec.tool)
        fingerprint = collect_fingerprint(
            test.server_kind or server_kind,
            server_image=server_image,
            server_flags=server_flags,
            replicas=server_replicas,
            generator=generator.tool,
            generator_version=generator.version,
        )
        noise_floor = noise_floor_of_run(
            baseline_store, noise_floor_key(namespace, model_name, load_spec, fingerprint)
        )
        gate = gate_spec_of_run(demands, load_spec, noise_floor)
        watch = ResourceWatch(
            parse_resource_spec(resource_sources, test.endpoints, run_id=run_id), model_name
        )
        if "cpu" in gate.margins:
            watch.require()
        with watch, load_exporter(metrics_port, test.spec) as observer:
            with interruptible() as interruption:
                stop_rule = load_stop_rule(gate, watch.cpu_so_far)
                table, metadata = run(test, stop_rule, observer=observer, interruption=interruption)
                metadata = msgspec.structs.replace(
                    metadata, fingerprint=msgspec.to_builtins(fingerprint), noise_floor=noise_floor
                )
                write_results(Path(results.path), table, metadata)
            keep_resources(watch, Path(results.path), Path(resource_usage.path))
