"""A run is recorded, and the next one is compared with it."""

from kfp import dsl

from model_load_test.components import (
    compare_to_baseline,
    find_baseline,
    generate_payload,
    promote_baseline,
    record_baseline,
    run_load_test,
)


@dsl.pipeline(name="baseline-example")
def compare_with_recorded_runs(
    candidate: str = "grpc://digits-new.serving:8500",
    model_name: str = "digits",
    store: str = "mlmd+grpc://metadata-grpc-service.kubeflow:8080",
) -> None:
    """Loads the candidate alone, judges it by earlier passing runs, and records what it found."""
    requests = generate_payload(endpoint=candidate, model_name=model_name)
    load = run_load_test(
        payload=requests.outputs["payload"], candidate_endpoint=candidate, model_name=model_name
    )
    results = load.outputs["results"]
    earlier = find_baseline(results=results, model_name=model_name, baseline_store=store)
    judged = compare_to_baseline(results=results, history=earlier.outputs["history"], model_name=model_name)
    recorded = record_baseline(
        results=results,
        metrics=judged.outputs["metrics"],
        verdict=judged.outputs["verdict"],
        model_name=model_name,
        baseline_store=store,
    )
    for task in (load, earlier, recorded):
        task.set_caching_options(False)


@dsl.pipeline(name="baseline-promotion-example")
def promote_what_was_pushed(record_uri: str, store: str = "auto") -> None:
    """Makes a recorded run the reference; in a pipeline of yours it stands `.after(push)`."""
    record = dsl.importer(artifact_uri=record_uri, artifact_class=dsl.Artifact)
    promoted = promote_baseline(record=record.output, baseline_store=store)
    promoted.set_caching_options(False)
