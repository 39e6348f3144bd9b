from __future__ import annotations

import html

import msgspec

from model_load_test.components.load.bottleneck import Bottleneck
from model_load_test.components.report.html import render_page
from model_load_test.components.report.markdown import render_summary
from model_load_test.components.report.model import build_run_report
from model_load_test.components.results.table import RunMetadata

FOUND = {
    "baseline": Bottleneck("server compute", "80% of the mean latency", {"client_mean_seconds": 0.01}),
    "candidate": Bottleneck("server queue", "91% of the mean latency: <b>", {"client_mean_seconds": 0.3}),
}


def test_the_bottleneck_is_one_line_of_every_artifact(report_of) -> None:
    report = msgspec.structs.replace(report_of("PASS"), bottlenecks=FOUND)
    for page in (html.unescape(html.unescape(render_page(report))), html.unescape(render_summary(report))):
        assert "The bottleneck was: server queue (91% of the mean latency" in page
        assert "for the baseline: server compute" in page
    assert "<b>" not in render_page(report), "what a server says is text"


def test_a_run_that_looked_for_none_says_nothing_of_it(report_of) -> None:
    report = report_of("PASS")
    assert not report.bottlenecks
    assert "bottleneck was" not in render_page(report) + render_summary(report)


def test_it_comes_with_the_results(report_of, results_table) -> None:
    metadata = RunMetadata(host={"bottleneck": msgspec.to_builtins(FOUND)})
    report = build_run_report(report_of("PASS").verdict, results_table(pairs=2), metadata)
    assert report.bottlenecks == FOUND
