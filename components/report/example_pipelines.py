"""A report for people, of a run that an importer names."""

from kfp import dsl

from model_load_test.components import write_report


@dsl.pipeline(name="report-example")
def draw_again(report_uri: str = "s3://runs/2026-11-21/report.json") -> None:
    """Draws the pages of a run that was judged before."""
    report = dsl.importer(artifact_uri=report_uri, artifact_class=dsl.Artifact)
    write_report(report=report.output)
