"""CPU per request as a part of the verdict, and a look at everything else that a Prometheus knows."""

from kfp import dsl

from model_load_test.components import collect_resources
from model_load_test.pipelines import load_test_gate


@dsl.pipeline(name="resources-example")
def gate_by_cpu_too(
    candidate: str = "grpc://digits-new.serving:8500",
    baseline: str = "grpc://digits.serving:8500",
    model_name: str = "digits",
) -> None:
    """Stops a candidate that is as fast but takes over 15 % more CPU per request."""
    load_test_gate(
        candidate_endpoint=candidate,
        baseline_endpoint=baseline,
        model_name=model_name,
        margins={"cpu": 0.15},
        resource_sources={
            "prometheus": {
                "url": "http://prometheus.monitoring:9090",
                "candidate": {"namespace": "serving", "pod": "=~digits-new-.*"},
                "baseline": {"namespace": "serving", "pod": "=~digits-[0-9a-f]+-.*"},
            }
        },
    )


@dsl.pipeline(name="resources-afterwards-example")
def what_was_it_busy_with(results_uri: str) -> None:
    """Tables and a picture of an earlier run's servers on Vertex AI."""
    results = dsl.importer(artifact_uri=results_uri, artifact_class=dsl.Dataset)
    collect_resources(
        results=results.output,
        resource_sources={
            "cloud_monitoring": {"project": "my-project", "candidate": {"endpoint_id": "1234567890"}}
        },
    )
