"""KFP interface of the gate room."""

from typing import Dict, List, NamedTuple

from kfp import dsl

from model_load_test.components.image import load_test_image


@dsl.component(base_image=load_test_image(), install_kfp_package=False)
def compare_to_baseline(
    results: dsl.Input[dsl.Dataset],
    history: dsl.Input[dsl.Artifact],
    report: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    model_name: str,
    model_version: str = "",
    margins: Dict[str, float] = {},
    alpha: float = 0.05,
    objectives: List[str] = [],
) -> NamedTuple("Outputs", [("verdict", str), ("passed", bool)]):
    """Judges the measured requests: PASS, FAIL, INCONCLUSIVE, NO_BASELINE or INVALID.

    Never fails because of the verdict, so that its artifacts are kept; `enforce_gate` does.

    Args:
        results: The requests, as `run_load_test` wrote them.
        history: Earlier passing runs, as `find_baseline` wrote them.
        report: report.json, the whole answer with its schema version.
        metrics: The same as flat numbers.
        model_name: The model's name, for the report.
        model_version: The candidate's version, for the report.
        margins: Allowed excess per metric, such as {"p95": 0.10}; defaults for the rest.
        alpha: One-sided error rate of the gate.
        objectives: Absolute objectives of the candidate, such as ["p99_ms<=50"].

    Returns:
        The verdict, and whether it is PASS.
    """
    from pathlib import Path

    from model_load_test.components.report.judging import judge_results
    from model_load_test.components.report.metrics import metrics as numbers_of
    from model_load_test.components.report.writing import encode_report

    judged = judge_results(
        Path(results.path),
        Path(history.path),
        gate_values={"margins": margins, "alpha": alpha, "objectives": objectives},
        model_name=model_name,
        model_version=model_version,
    )
    Path(report.path).write_bytes(encode_report(judged))
    for name, value in numbers_of(judged).items():
        metrics.log_metric(name, value)
    verdict = judged.verdict.verdict
    print(verdict, *judged.verdict.reasons, sep="\n")
    return verdict, verdict == "PASS"


@dsl.component(base_image=load_test_image(), install_kfp_package=False)
def enforce_gate(
    report: dsl.Input[dsl.Artifact],
    page: dsl.Input[dsl.HTML],
    on_inconclusive: str = "fail",
    on_missing_baseline: str = "pass-and-record",
    break_on_failure: bool = True,
) -> None:
    """Breaks the run when the verdict does not let it go on; the only task that fails on purpose.

    Its log ends with the reason and the report's address, and the page is among its inputs: there the
    Kubeflow UI links it from the failed task.

    Args:
        report: report.json, as `compare_to_baseline` wrote it.
        page: The report for people, as `write_report` wrote it.
        on_inconclusive: fail, warn or pass.
        on_missing_baseline: pass-and-record, warn or fail.
        break_on_failure: Whether to break the run at all; False where something else goes by the
            verdict, such as the blessing that TFX's Pusher reads.
    """
    import sys
    from pathlib import Path

    from model_load_test.components.errors import print_last
    from model_load_test.components.gate.policy import may_continue
    from model_load_test.components.gate.spec import parse_gate_spec
    from model_load_test.components.report.writing import read_report

    policies = parse_gate_spec(
        {"on_inconclusive": on_inconclusive, "on_missing_baseline": on_missing_baseline}
    )
    goes_on, reason = may_continue(read_report(Path(report.path)).verdict, policies)
    answer = f"{reason.rstrip('.')}; report: {page.uri}"
    if goes_on or not break_on_failure:
        print(answer, flush=True)
    else:
        print_last(answer)
        sys.exit(1)
