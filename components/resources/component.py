"""KFP interface of the resources room."""

from typing import Dict

from kfp import dsl

from model_load_test.components.image import load_test_image


@dsl.component(base_image=load_test_image(), install_kfp_package=False)
def collect_resources(
    results: dsl.Input[dsl.Dataset],
    resource_usage: dsl.Output[dsl.Dataset],
    tidy: dsl.Output[dsl.Dataset],
    wide: dsl.Output[dsl.Dataset],
    page: dsl.Output[dsl.HTML],
    resource_sources: Dict[str, object],
    model_name: str = "",
    normalise: bool = False,
) -> None:
    """Asks monitoring systems, after a load test, what its servers were busy with.

    For what is to be judged, or is only known while it happens, give `resource_sources` to
    `run_load_test` itself. A system that is down leaves the artifacts without it and says so.

    Args:
        results: The requests, as `run_load_test` wrote them.
        resource_usage: Every sample, as parquet.
        tidy: Load and resources on the load's blocks, one row a value, as parquet.
        wide: The same with a column per arm, metric, replica and signature, as parquet.
        page: Latency and resources over the run, with the autoscaler's changes.
        resource_sources: Who knows: prometheus and cloud_monitoring, as for `run_load_test`.
        model_name: The model that was loaded; what servers tell of others is left out.
        normalise: Whether each column of `wide` goes from 0 to 1.
    """
    from pathlib import Path

    from model_load_test.components.report.resources_page import render_resources
    from model_load_test.components.resources.collecting import collect

    collected = collect(Path(results.path), resource_sources, model_name)
    collected.write_samples(Path(resource_usage.path))
    collected.write_tidy(Path(tidy.path))
    collected.write_wide(Path(wide.path), normalise)
    drawn = render_resources(collected.tidy, collected.summary.changes, collected.findings)
    Path(page.path).write_text(drawn, encoding="utf-8")
