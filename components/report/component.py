"""KFP interface of the report room."""

from kfp import dsl

from model_load_test.components.image import load_test_image


@dsl.component(base_image=load_test_image(), install_kfp_package=False)
def write_report(
    report: dsl.Input[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Draws what people read: one self-contained HTML page, and the same in a few lines.

    Args:
        report: report.json, as `compare_to_baseline` wrote it.
        page: The page, with pictures.
        summary: Markdown.
    """
    from pathlib import Path

    from model_load_test.components.report.html import render_page
    from model_load_test.components.report.markdown import render_summary
    from model_load_test.components.report.writing import read_report

    content = read_report(Path(report.path))
    Path(page.path).write_text(render_page(content), encoding="utf-8")
    Path(summary.path).write_text(render_summary(content), encoding="utf-8")
