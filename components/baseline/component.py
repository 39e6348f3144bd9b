"""KFP interface of the baseline room."""

from typing import NamedTuple

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
    reference: str = "latest",
    match: str = "exact",
    on_store_error: str = "no-baseline",
    time_limit_seconds: float = 30.0,
) -> None:
    """Finds earlier passing runs that this one may be compared with.

    Args:
        results: The requests of this run; their metadata say under which key to look.
        history: The runs found, newest first, as JSON.
        model_name: The model's name.
        baseline_store: Address of the store, such as mlmd+grpc://HOST:8080, or auto for the one this
            pod has; empty for none.
        namespace: Part of the key.
        runs: How many runs to find at most.
        reference: Which of them is the reference: latest, promoted, best:METRIC, run:ID or version:LABEL.
        match: exact; spec admits runs on other machines, model those of other loads too. What differs
            is listed in the report.
        on_store_error: What to do when the store does not answer: no-baseline or fail.
        time_limit_seconds: A store that is down or slow is asked again until then.
    """
    from pathlib import Path

    import msgspec

    from model_load_test.components.baseline.lookup import find_baseline as find
    from model_load_test.components.baseline.run_records import circumstances_of_run, key_of_run
    from model_load_test.components.results.table import read_results

    metadata = read_results(Path(results.path)).metadata
    found = find(
        baseline_store,
        key_of_run(metadata, namespace, model_name),
        n=runs,
        time_limit_seconds=time_limit_seconds,
        on_store_error=on_store_error,
        reference=reference,
        match=match,
        circumstances=circumstances_of_run(metadata),
    )
    print(found.reason)
    Path(history.path).write_bytes(msgspec.json.encode(found))


@dsl.component(base_image=load_test_image(), install_kfp_package=False)
def record_baseline(
    results: dsl.Input[dsl.Dataset],
    metrics: dsl.Input[dsl.Metrics],
    record: dsl.Output[dsl.Artifact],
    load_spec: dsl.Output[dsl.Artifact],
    verdict: str,
    model_name: str,
    baseline_store: str = "",
    namespace: str = "default",
    model_version: str = "",
    on_missing_baseline: str = "pass-and-record",
    time_limit_seconds: float = 30.0,
) -> None:
    """Records a run, so that later runs find it: a passing one as a baseline, another as history.

    A store that does not answer costs no measurement: the record is an artifact too, and
    `model-load-test baseline record` stores it later.

    Args:
        results: The requests of the run; their metadata hold its load spec and fingerprint.
        metrics: The gate's numbers; in a cluster the artifact that KFP has recorded already.
        record: What is recorded, as a file.
        load_spec: Load spec, payload and fingerprint of the run, as JSON beside the metrics; its
            metadata name the baseline's key and the hashes in it.
        verdict: The gate's verdict; only passing and first runs become a baseline.
        model_name: The model's name.
        baseline_store: Address of the store, or auto for the one this pod has; empty for none.
        namespace: Part of the key.
        model_version: The candidate's version.
        on_missing_baseline: Of a first run: pass-and-record makes it the first baseline; with warn and
            fail its record only stays a file, and a person decides.
        time_limit_seconds: A store that is down or slow is asked again until then.
    """
    from pathlib import Path

    from model_load_test.components.baseline.missing import becomes_baseline
    from model_load_test.components.baseline.recording import record_run
    from model_load_test.components.baseline.run_records import key_of_run, record_of_run, spec_of_run
    from model_load_test.components.results.table import read_results

    recorded_here = becomes_baseline(verdict, on_missing_baseline)
    metadata = read_results(Path(results.path)).metadata
    key = key_of_run(metadata, namespace, model_name)
    run = record_of_run(
        metadata,
        key,
        {name: value for name, value in metrics.metadata.items() if isinstance(value, (int, float))},
        verdict,
        model_version=model_version,
        artifact_uri=metrics.uri,
    )
    content, load_spec.metadata = spec_of_run(metadata, key)
    Path(load_spec.path).write_bytes(content)
    # KFP names an input artifact by its MLMD id; kfp.local and later backends by a text.
    artifact_id = int(metrics.name) if metrics.name.isdigit() else None
    recorded = record_run(
        baseline_store if recorded_here else "",
        run,
        Path(record.path),
        artifact_id=artifact_id,
        time_limit_seconds=time_limit_seconds,
    )
    first = f"on_missing_baseline={on_missing_baseline}: a person decides on the first baseline; "
    print(recorded.reason if recorded_here else f"{first}the record is kept as a file")


@dsl.component(base_image=load_test_image(), install_kfp_package=False)
def promote_baseline(
    record: dsl.Input[dsl.Artifact],
    baseline_store: str,
    on_store_error: str = "fail",
    time_limit_seconds: float = 60.0,
) -> NamedTuple("Outputs", [("promoted", bool)]):
    """Makes the recorded run the reference of its key; run it after the push, so that it is what serves.

    A run that did not pass stays unpromoted, and the task succeeds.

    Args:
        record: The record, as `record_baseline` wrote it.
        baseline_store: Address of the store, or auto for the one this pod has.
        on_store_error: What to do when the store does not answer: fail or warn.
        time_limit_seconds: A store that is down or slow is asked again until then.

    Returns:
        Whether the run is the reference now.
    """
    import time
    from pathlib import Path

    from model_load_test.components.baseline.promotion import promote_run
    from model_load_test.components.baseline.recording import read_record_file

    answer = promote_run(
        baseline_store,
        read_record_file(Path(record.path)),
        at_ns=time.time_ns(),
        time_limit_seconds=time_limit_seconds,
        on_store_error=on_store_error,
    )
    print(answer.reason)
    return (answer.promoted,)
