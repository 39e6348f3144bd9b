"""The HTML page and the Markdown summary as text."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import msgspec
import pytest

from model_load_test.components.gate.verdict import Verdict
from model_load_test.components.report.html import render_page
from model_load_test.components.report.markdown import render_summary
from model_load_test.components.report.model import Model, RunReport, build_run_report
from model_load_test.components.results.checks import Check
from model_load_test.components.results.table import RunMetadata

OUTCOMES = ("PASS", "FAIL", "INCONCLUSIVE", "NO_BASELINE", "INVALID")
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class _Page(HTMLParser):
    """What a browser would find: the elements with their attributes, and the headings in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, text: str) -> None:
        if self.elements and self.elements[-1][0] in ("h1", "h2") and text.strip():
            self.headings.append(text.strip())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_page_needs_nothing_but_itself(report_of, outcome: str) -> None:
    text = render_page(report_of(outcome))
    page = _Page(text)
    for tag, attributes in page.elements:
        assert not attributes.get("src"), tag
        if tag == "link":
            assert attributes["href"] == "data:,"
        assert not [name for name in attributes if name.startswith("on")], tag
    assert "@import" not in text
    assert "url(" not in text
    assert "localStorage" not in text
    assert len(text) < 400_000


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_verdict_comes_first_and_is_a_word(report_of, outcome: str) -> None:
    word = outcome.replace("_", " ").capitalize()
    assert _Page(render_page(report_of(outcome))).headings[0] == word
    assert word.upper() in render_summary(report_of(outcome)).splitlines()[0]


def test_an_invalid_run_shows_its_checks_before_anything_measured(report_of) -> None:
    headings = _Page(render_page(report_of("INVALID"))).headings
    assert headings[1] == "Can these numbers be trusted?"
    assert "Candidate against baseline" not in headings
    assert headings.count("Can these numbers be trusted?") == 1


def test_an_undecided_run_says_what_would_decide(report_of) -> None:
    page = render_page(report_of("INCONCLUSIVE"))
    assert "48 more pairs of blocks, about 9\N{NARROW NO-BREAK SPACE}600 more requests per arm" in page


def test_one_arm_is_drawn_without_a_comparison(report_of) -> None:
    page = render_page(report_of("NO_BASELINE"))
    assert "Candidate against baseline" not in _Page(page).headings
    assert "curve candidate" in page
    assert "curve baseline" not in page


def test_only_an_embedded_server_has_the_banner(report_of) -> None:
    assert "Embedded server." in render_page(report_of("PASS", "embedded"))
    assert "Embedded server" in render_summary(report_of("PASS", "embedded"))
    assert "Embedded server" not in render_page(report_of("PASS"))


def test_differing_fingerprints_are_marked(report_of) -> None:
    assert render_page(report_of("INVALID")).count('<tr class="differs">') == 1
    assert render_page(report_of("PASS")).count('<tr class="differs">') == 0


def test_hostile_text_stays_text(report_of, results_table) -> None:
    page = render_page(_hostile(report_of("FAIL")))
    found = _Page(page)
    assert len(found.named("script")) == 2
    assert not found.named("img")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    data = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert msgspec.json.decode(data[1], type=RunReport).verdict.reasons[0] == HOSTILE


def test_hostile_text_is_no_markdown(report_of) -> None:
    summary = render_summary(_hostile(report_of("FAIL")))
    assert "<" not in summary
    assert "onerror" in summary


def test_of_many_error_texts_the_frequent_ones_are_shown(report_of) -> None:
    report = report_of("FAIL")
    arms = {
        arm: msgspec.structs.replace(summary, errors={f"error {n}": 100 - n for n in range(50)})
        for arm, summary in report.arms.items()
    }
    page = render_page(msgspec.structs.replace(report, arms=arms))
    body = page[: page.index("report-data")]
    assert "<code>error 11</code>" in body
    assert "error 12" not in body
    assert "38 other texts" in body


def test_a_long_run_stays_a_small_page(report_of, results_table) -> None:
    table = results_table(pairs=240, rate_rps=50)
    report = build_run_report(report_of("FAIL").verdict, table, RunMetadata(load_spec={"looks": [60, 240]}))
    page = render_page(report)
    assert table.num_rows > 24_000
    assert len(page) < 400_000
    assert "Blocks 238 to 239" in page
    assert "Each point is 2 pairs of blocks." in page


def test_links_lead_to_the_web_or_beside_the_page(report_of) -> None:
    report = msgspec.structs.replace(
        report_of("PASS"),
        links={
            "run": "https://kubeflow.example/runs/1",
            "rows": "results.parquet",
            "bad": "javascript:alert(1)",
            "worse": " javascript:alert(2)",
            "data": "data:text/html,<script>",
            "bucket": "gs://bucket/results.parquet",
            "elsewhere": "//evil.example/",
        },
    )
    followed = [a["href"] for a in _Page(render_page(report)).named("a")]
    assert followed == ["report.json", "https://kubeflow.example/runs/1", "results.parquet"]


def test_numbers_that_are_not_numbers_are_drawn_as_absent(report_of) -> None:
    report = report_of("FAIL")
    metrics = {
        name: msgspec.structs.replace(metric, ratio=math.nan, upper=math.inf, lower=-math.inf)
        if name == "p95"
        else metric
        for name, metric in report.verdict.metrics.items()
    }
    broken = msgspec.structs.replace(report, verdict=msgspec.structs.replace(report.verdict, metrics=metrics))
    page = render_page(broken)
    assert not re.search(r"\b(nan|inf)\b", page[: page.index("report-data")], re.IGNORECASE)


def test_a_run_with_nothing_measured_still_has_a_page(report_of) -> None:
    bare = RunReport(
        verdict=Verdict("INVALID", ("Nothing was measured.",), judgement="none"),
        created_at=report_of("PASS").created_at,
    )
    assert "Nothing was measured." in render_page(bare)
    assert "Nothing was measured" in render_summary(bare)


def test_the_summary_has_a_table_and_the_reasons(report_of) -> None:
    summary = render_summary(report_of("FAIL"))
    assert (
        "| p95 | 13.5\N{NO-BREAK SPACE}ms | 11.4\N{NO-BREAK SPACE}ms | +18.4\N{NO-BREAK SPACE}% |" in summary
    )
    assert "- p95 is +18.4 % slower than the baseline" in summary
    rows = [line for line in summary.splitlines() if line.startswith("| ")]
    assert {line.count(" | ") for line in rows[:6]} == {6}


def _hostile(report: RunReport) -> RunReport:
    verdict = msgspec.structs.replace(
        report.verdict,
        reasons=(HOSTILE,),
        checks=(Check(HOSTILE, HOSTILE, "WARNING"),),
        objectives=tuple(
            msgspec.structs.replace(found, objective=HOSTILE, note=HOSTILE)
            for found in report.verdict.objectives
        ),
        metrics={
            name: msgspec.structs.replace(metric, note=HOSTILE)
            for name, metric in report.verdict.metrics.items()
        },
    )
    return msgspec.structs.replace(
        report,
        verdict=verdict,
        arms={
            arm: msgspec.structs.replace(summary, errors={HOSTILE: 3}) for arm, summary in report.arms.items()
        },
        models={"candidate": Model(HOSTILE, HOSTILE, HOSTILE, HOSTILE)},
        load_spec={**report.load_spec, HOSTILE: HOSTILE},
        payload={HOSTILE: [HOSTILE, {HOSTILE: HOSTILE}]},
        fingerprints={HOSTILE: {HOSTILE: HOSTILE}, "candidate": {}},
        tool=HOSTILE,
        tool_version=HOSTILE,
        server_kind=HOSTILE,
        links={HOSTILE: HOSTILE},
        history=tuple(msgspec.structs.replace(p, run=HOSTILE, model_version=HOSTILE) for p in report.history),
        version=HOSTILE,
    )
