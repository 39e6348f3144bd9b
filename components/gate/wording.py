"""The sentences of a verdict: what was found, in the reader's units, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from model_load_test.components.gate.verdict import MetricVerdict, ObjectiveVerdict

_NAMES = {
    "mean": "mean latency",
    "p50": "median latency (p50)",
    "p95": "p95 latency",
    "p99": "p99 latency",
    "errors": "error rate",
    "goodput": "goodput",
    "cpu": "CPU time per request",
}


def metric_sentence(metric: str, found: MetricVerdict) -> str:
    """One metric's evidence, e.g. `p95 latency: +12.1 % [+8.3 % to +16 %], allowed +10 %`."""
    name = _NAMES[metric]
    if found.verdict == "REFUSED" or found.ratio is None:
        return f"{name} was not judged: {found.note or 'no value'}"
    if metric == "errors":
        return (
            f"{name}: {_points(found.ratio)} percentage points {_bounds(found, _points)}, "
            f"allowed {_points(found.margin)}"
        )
    note = f" ({found.note})" if found.note else ""
    allowed = -found.margin / (1 + found.margin) if metric == "goodput" else found.margin
    return f"{name}: {_excess(found.ratio)} {_bounds(found, _excess)}, allowed {_excess(1 + allowed)}{note}"


def failing(metrics: Mapping[str, MetricVerdict]) -> list[str]:
    """A sentence for each metric that fails, the clearest first."""
    failed = [(found.p_holm or 0.0, metric) for metric, found in metrics.items() if found.verdict == "FAIL"]
    return [
        f"The candidate is worse: {metric_sentence(metric, metrics[metric])}." for _, metric in sorted(failed)
    ]


def undecided(metrics: Mapping[str, MetricVerdict]) -> list[str]:
    """A sentence for each metric that is neither inside nor beyond its margin."""
    return [
        f"Not decided: {metric_sentence(metric, found)}."
        for metric, found in metrics.items()
        if found.verdict == "INCONCLUSIVE"
    ]


def refused(metrics: Mapping[str, MetricVerdict]) -> list[str]:
    """A sentence for each metric without enough data."""
    return [
        f"{_capital(metric_sentence(metric, found))}."
        for metric, found in metrics.items()
        if found.verdict == "REFUSED"
    ]


def passing(
    metrics: Mapping[str, MetricVerdict], pairs: int, objectives: Sequence[ObjectiveVerdict] = ()
) -> list[str]:
    """A sentence for a run whose every judged metric is inside its margin, and one for its objectives."""
    judged = [metric for metric, found in metrics.items() if found.verdict == "PASS"]
    inside = f"The candidate is inside every margin ({', '.join(judged)}) over {pairs} pairs of blocks."
    met = f"It meets every objective ({', '.join(found.objective for found in objectives)})."
    return [*([inside] if judged else []), *([met] if objectives else [])]


def faster(metrics: Mapping[str, MetricVerdict]) -> list[str]:
    """One sentence when the candidate is proven better in something."""
    better = [metric_sentence(metric, found) for metric, found in metrics.items() if found.faster]
    return [f"The candidate is better: {'; '.join(better)}."] if better else []


def objective_sentences(objectives: Iterable[ObjectiveVerdict], outcome: str) -> list[str]:
    """A sentence for each objective that has this outcome."""
    verbs = {"FAIL": "is missed", "INCONCLUSIVE": "is neither met nor missed with confidence"}
    return [
        f"The objective {found.objective} {verbs[outcome]}"
        + (f": observed {found.observed:.4g}." if found.observed is not None else f": {found.note}.")
        for found in objectives
        if found.verdict == outcome
    ]


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _excess(ratio: float) -> str:
    return f"{(ratio - 1) * 100:+.3g} %" if ratio < 10 else f"x{ratio:.3g}"


def _points(share: float) -> str:
    return f"{share * 100:+.3g}"


def _bounds(found: MetricVerdict, show: Callable[[float], str]) -> str:
    low = show(found.lower) if found.lower is not None else "unknown"
    high = show(found.upper) if found.upper is not None else "unknown"
    return f"[{low} to {high}]"
