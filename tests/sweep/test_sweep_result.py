"""From measurements to the answer: the best configuration, the front, what chance forbids to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from model_load_test.components.sweep.files import write_sweep_files
from model_load_test.components.sweep.measurement import ArmFigures, Measurement, Ratio
from model_load_test.components.sweep.page import render_sweep
from model_load_test.components.sweep.result import (
    REFERENCE,
    SweepReport,
    build_report,
    metrics_of,
    read_sweep,
    table,
    write_sweep,
)
from model_load_test.components.sweep.spec import SweepSpec, parse_sweep_spec

SMALL = {"enable_batching": True, "max_batch_size": 4}
LARGE = {"enable_batching": True, "max_batch_size": 16}


def spec(**values: Any) -> SweepSpec:
    return parse_sweep_spec(
        {
            "model_name": "digits",
            "parameters": {"enable_batching": [True], "max_batch_size": [4, 16]},
            "rates_rps": [50, 100],
            **values,
        }
    )


def measured(
    parameters: dict[str, Any], rate_rps: float, ratio: float, half_width: float = 0.02, **values: Any
) -> Measurement:
    figures = {"mean_ms": 5.0, "p50_ms": 5.0, "p90_ms": 8.0, "p95_ms": 10.0, "p99_ms": 20.0}
    shown = {
        name: Ratio(ratio, ratio - half_width, ratio + half_width) for name in ("mean", "p50", "p95", "p99")
    }
    own = {name: value * ratio for name, value in figures.items()}
    return Measurement(
        parameters=parameters,
        rate_rps=rate_rps,
        outcome="measured",
        configuration=ArmFigures(requests=1000, achieved_rps=rate_rps, **own),
        reference=ArmFigures(requests=1000, achieved_rps=rate_rps, **figures),
        ratios=values.pop("ratios", shown),
        **values,
    )


def report_of(*found: Measurement, **values: Any) -> SweepReport:
    return build_report(spec(**values), found)


def test_the_best_has_the_lowest_tail_at_the_highest_rate() -> None:
    report = report_of(
        measured({}, 50, 1.0),
        measured({}, 100, 1.0),
        measured(SMALL, 50, 0.5),
        measured(SMALL, 100, 0.9),
        measured(LARGE, 50, 0.9),
        measured(LARGE, 100, 0.6),
    )
    assert report.judged_rate_rps == 100
    assert report.configuration(report.best).parameters == LARGE
    assert report.as_good == ()
    assert "x0.60 of the reference's [0.58, 0.62]" in report.best_text
    assert metrics_of(report)["best_p95_ms"] == pytest.approx(6.0)


def test_chance_does_not_beat_the_reference() -> None:
    report = report_of(measured({}, 100, 1.0), measured(SMALL, 100, 0.97, 0.05), measured(LARGE, 100, 1.3))
    assert report.best == REFERENCE
    assert [report.configuration(name).parameters for name in report.as_good] == [SMALL]
    assert "No configuration has a lower p95" in report.best_text


def test_what_cannot_be_told_from_the_best_is_told() -> None:
    report = report_of(
        measured({}, 100, 1.0), measured(SMALL, 100, 0.61, 0.05), measured(LARGE, 100, 0.6, 0.05)
    )
    assert report.configuration(report.best).parameters == LARGE
    assert [report.configuration(name).parameters for name in report.as_good] == [SMALL]


def test_a_slow_minute_meets_both_and_is_gone() -> None:
    slow = measured(SMALL, 100, 0.5)
    figures = {name: 3 * getattr(slow.reference, name) for name in ("p50_ms", "p95_ms", "p99_ms")}
    late = Measurement(
        parameters=SMALL,
        rate_rps=100,
        outcome="measured",
        configuration=slow.configuration,
        reference=ArmFigures(requests=1000, achieved_rps=100, **figures),
        ratios=slow.ratios,
    )
    report = report_of(measured({}, 100, 1.0), measured(LARGE, 100, 0.8), late)
    best = next(point for point in report.points if point.configuration == report.best)
    assert best.latency_ms["p95"] == pytest.approx(5.0)


def test_only_what_was_shown_to_hold_may_be_the_best() -> None:
    objective = "p95_ms<=50"
    found = [
        measured({}, 100, 1.0, objectives={objective: "PASS"}),
        measured(SMALL, 100, 0.5, objectives={objective: "INCONCLUSIVE"}),
        measured(LARGE, 100, 0.8, objectives={objective: "PASS"}),
    ]
    report = report_of(*found, objectives=[objective])
    assert report.configuration(report.best).parameters == LARGE
    missed = [measured({}, 100, 1.0, objectives={objective: "FAIL"})]
    nothing = report_of(*missed, objectives=[objective])
    assert (nothing.best, nothing.judged_rate_rps) == ("", None)
    assert "No configuration was shown to hold p95_ms<=50" in nothing.best_text


def test_the_rate_is_the_highest_that_some_configuration_carries() -> None:
    broken = Measurement(parameters=LARGE, rate_rps=100, outcome="broken", reason="the server fell over")
    report = report_of(measured({}, 50, 1.0), measured(LARGE, 50, 0.7), broken)
    assert report.judged_rate_rps == 50
    assert report.configuration(report.best).parameters == LARGE
    titles, rows = table(report)
    assert [row[-1] for row in rows if row[1] == "100"] == ["broken: the server fell over"]
    assert all(len(row) == len(titles) for row in rows)


def test_the_front_is_what_nothing_beats_in_both_respects() -> None:
    medians = {SMALL["max_batch_size"]: 0.8, LARGE["max_batch_size"]: 1.2}

    def one(parameters: dict[str, Any], p50: float, p99: float) -> Measurement:
        ratios = {"p50": Ratio(p50, p50, p50), "p95": Ratio(p99, p99, p99), "p99": Ratio(p99, p99, p99)}
        return measured(parameters, 100, 1.0, ratios=ratios)

    report = report_of(
        one({}, 1.0, 1.0), one(SMALL, medians[4], 1.1), one(LARGE, medians[16], 1.2), goal="p99"
    )
    front = {point.configuration for point in report.points if point.on_front}
    assert front == {REFERENCE, report.configurations[1].name}
    assert report.axes == ("p50", "p99")


def test_the_cheapest_that_holds_is_the_best_where_cost_is_the_goal() -> None:
    serving = {"resources": {"requests": {"cpu": "1"}}}
    sweep = spec(
        serving=serving,
        parameters={"cpu_request": ["1", "2"], "replicas": [1, 2]},
        prices={"cpu": 0.036},
        goal="cost",
        rates_rps=[100],
    )
    found = [
        measured({}, 100, 1.0),
        measured({"cpu_request": "1", "replicas": 2}, 100, 0.6),
        measured({"cpu_request": "2", "replicas": 2}, 100, 0.4),
    ]
    report = build_report(sweep, found)
    assert report.best == REFERENCE
    assert [point.cost_per_million for point in report.points] == pytest.approx([0.1, 0.2, 0.4])
    assert report.axes[0] == "cost_per_million"
    assert sum(point.on_front for point in report.points) == 3
    assert "cost/million" in table(report)[0]
    assert "0.1 a million requests" in report.best_text


def test_nothing_measured_is_an_answer_too() -> None:
    report = build_report(
        spec(), [], [({"max_batch_size": 4}, "no batching")], complete=False, unfinished="why"
    )
    assert report.best_text == "Nothing was measured."
    assert "no batching" in render_sweep(report)
    assert "why" in render_sweep(report)


def test_everything_is_written_and_read_again(tmp_path: Path) -> None:
    report = report_of(
        measured({}, 50, 1.0), measured({}, 100, 1.0), measured(LARGE, 50, 0.9), measured(LARGE, 100, 0.6)
    )
    write_sweep(tmp_path / "sweep.json", report)
    assert read_sweep(tmp_path / "sweep.json") == report
    write_sweep_files(tmp_path / "out", spec(), report, "gs://models/digits/1")
    manifests = list(yaml.safe_load_all((tmp_path / "out" / "best.yaml").read_text()))
    assert [one["kind"] for one in manifests] == ["ConfigMap", "Deployment", "Service"]
    assert {one["metadata"]["name"] for one in manifests} == {"digits"}
    assert "model-load-test/run" not in str(manifests)
    labels = manifests[1]["spec"]["template"]["metadata"]["labels"]
    selector = manifests[1]["spec"]["selector"]["matchLabels"]
    assert selector == {"app.kubernetes.io/name": "digits"} == manifests[2]["spec"]["selector"]
    assert selector.items() <= labels.items()
    assert (tmp_path / "out" / "batching.txt").read_text() == manifests[0]["data"]["batching.pbtxt"]
    assert yaml.safe_load((tmp_path / "out" / "serving.json").read_text()) == {
        "kind": "tf-serving",
        "batching": {"max_batch_size": 16},
    }
    page = (tmp_path / "out" / "sweep.html").read_text()
    assert "<svg" in page
    assert "max_batch_size=16" in page


def test_files_of_an_earlier_best_do_not_stay(tmp_path: Path) -> None:
    good = report_of(measured({}, 100, 1.0), measured(LARGE, 100, 0.6))
    write_sweep_files(tmp_path, spec(), good, "gs://models/digits/1")
    assert (tmp_path / "batching.txt").exists()
    none = report_of(measured({}, 100, 1.0), measured(LARGE, 100, 1.6))
    write_sweep_files(tmp_path, spec(), none, "gs://models/digits/1")
    assert not (tmp_path / "batching.txt").exists()
    assert (tmp_path / "best.yaml").exists()
