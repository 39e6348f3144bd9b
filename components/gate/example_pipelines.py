"""A push that waits for the verdict."""

from kfp import dsl

from model_load_test.components import (
    compare_to_baseline,
    enforce_gate,
    find_baseline,
    generate_payload,
    run_load_test,
    write_report,
)


@dsl.component(base_image="python:3.13-slim")
def push_model(model_name: str) -> None:
    """Stands for your own push."""
    print(f"pushing {model_name}")


@dsl.pipeline(name="gate-example")
def push_if_not_slower(
    candidate: str = "grpc://digits-new.serving:8500",
    baseline: str = "grpc://digits.serving:8500",
    model_name: str = "digits",
) -> None:
    """Allows 8 % more p95 latency and wants p99 below 50 ms; pushes only after PASS."""
    requests = generate_payload(endpoint=candidate, model_name=model_name)
    load = run_load_test(
        payload=requests.outputs["payload"],
        candidate_endpoint=candidate,
        baseline_endpoint=baseline,
        model_name=model_name,
    )
    results = load.outputs["results"]
    earlier = find_baseline(results=results, model_name=model_name)
    judged = compare_to_baseline(
        results=results,
        history=earlier.outputs["history"],
        model_name=model_name,
        margins={"p95": 0.08},
        objectives=["p99_ms<=50"],
    )
    report = judged.outputs["report"]
    enforced = enforce_gate(report=report, page=write_report(report=report).outputs["page"])
    push_model(model_name=model_name).after(enforced)
    for task in (load, earlier, enforced):
        task.set_caching_options(False)
