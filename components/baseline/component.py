"""KFP interface of the baseline room."""

from kfp import dsl

from model_load_test.components.image import load_test_image


@dsl.component(base_image=load_test_image(), install_kfp_package=False)
def find_baseline(
    results: dsl.Input[dsl.Dataset],
    history: dsl.Output[dsl.Artifact],
    model_name: str,
    baseline_store: str = "",
    namespace: str = "default",
    runs: int = 20,
) -> None:
    """Finds earlier passing runs that this one may be compared with.

    Args:
        results: The requests of this run; their metadata say under which key to look.
        history: The runs found, newest first, as JSON.
        model_name: The model's name.
        baseline_store: Address of the store, such as mlmd+grpc://HOST:8080; empty for none.
        namespace: Part of the key.
        runs: How many runs to find at most.
    """
    from pathlib import Path

    import msgspec

    from model_load_test.components.baseline.lookup import find_baseline as find
    from model_load_test.components.baseline.run_records import key_of_run
    from model_load_test.components.results.table import read_results

    metadata = read_results(Path(results.path)).metadata
    found = find(baseline_store, key_of_run(metadata, namespace, model_name), n=runs)
    print(found.reason)
    Path(history.path).write_bytes(msgspec.json.encode(found))


@dsl.component(base_image=load_test_image(), install_kfp_package=False)
def record_baseline(
    results: dsl.Input[dsl.Dataset],
    metrics: dsl.Input[dsl.Metrics],
    record: dsl.Output[dsl.Artifact],
    verdict: str,
    model_name: str,
    baseline_store: str = "",
    namespace: str = "default",
    model_version: str = "",
) -> None:
    """Records a passing run, so that later runs find it.

    A store that does not answer costs no measurement: the record is an artifact too, and
    `model-load-test baseline record` stores it later.

    Args:
        results: The requests of the run; their metadata hold its load spec and fingerprint.
        metrics: The gate's numbers; in a cluster the artifact that KFP has recorded already.
        record: What is recorded, as a file.
        verdict: The gate's verdict; only passing and first runs are recorded.
        model_name: The model's name.
        baseline_store: Address of the store; empty for none.
        namespace: Part of the key.
        model_version: The candidate's version.
    """
    from pathlib import Path

    from model_load_test.components.baseline.recording import record_run
    from model_load_test.components.baseline.run_records import key_of_run, record_of_run
    from model_load_test.components.results.table import read_results

    metadata = read_results(Path(results.path)).metadata
    run = record_of_run(
        metadata,
        key_of_run(metadata, namespace, model_name),
        {name: value for name, value in metrics.metadata.items() if isinstance(value, (int, float))},
        verdict,
        model_version=model_version,
        artifact_uri=metrics.uri,
    )
    # KFP names an input artifact by its MLMD id; kfp.local and later backends by a text.
    artifact_id = int(metrics.name) if metrics.name.isdigit() else None
    print(record_run(baseline_store, run, Path(record.path), artifact_id=artifact_id).reason)
