"""KFP interface of the report room."""

from kfp import dsl

from model_load_test.components.image import load_test_image


@dsl.component(base_image=load_test_image(), install_kfp_package=False)
def write_report(
    results: dsl.Input[dsl.Dataset],
    report: dsl.Input[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Draws the report that people read.

    Args:
        results: The requests, as `run_load_test` wrote them.
        report: The gate's report.json, as `compare_to_baseline` wrote it.
        page: One self-contained HTML page with pictures.
        summary: The same in a few lines of Markdown.
    """
