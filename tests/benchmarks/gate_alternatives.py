"""What was tried beside the gate's own choices, at the same seconds of load; prints Markdown tables.

nice -n 19 python tests/benchmarks/gate_alternatives.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, log, log1p, sqrt

import numpy as np
from gate_trials import TRACES, Trace, Trial

from model_load_test.components.gate import exceedance
from model_load_test.components.gate.blocks import pair, read_arms
from model_load_test.components.gate.paired import holm
from model_load_test.components.gate.signed_rank import Interval, hodges_lehmann, p_greater

MARGINS = {"mean": 0.05, "p50": 0.05, "p95": 0.10, "p99": 0.25}
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
CELLS = {
    "0 %": [("a1", "a2", 1.0), ("a2", "a1", 1.0), ("b0", "a1", 1.0), ("b0", "a2", 1.0)],
    "+3 %": [("a1", "a2", 1.03), ("a2", "a1", 1.03)],
    "+10 %": [("b10", "a1", 1.0), ("b10", "a2", 1.0)],
}
SCHEDULE = ((10, 0.05 / 6), (15, 0.05 / 12), (20, 0.05 / 12), (30, 0.05 / 6), (60, 0.025))


@dataclass(frozen=True)
class Evidence:
    """One metric at one look."""

    interval: Interval
    p_zero: float
    p_half: float
    p_margin: float
    limit: float


Judge = Callable[[dict[str, Evidence], float], str]
Look = Callable[[Trial, int, float], dict[str, Evidence]]


def main() -> int:
    """Prints every comparison."""
    if not TRACES.exists():
        print(f"the recorded traces are missing: {TRACES}", file=sys.stderr)
        return 2
    traces = {name: Trace(name) for name in ("noisy", "quiet")}
    print(rules_of_failing(traces))
    print(tails(traces))
    print(block_lengths(traces))
    print(looks(traces))
    print(weights(traces))
    print(payload_identity())
    return 0


def rules_of_failing(traces: dict[str, Trace]) -> str:
    """When a metric fails: at which share of the margin at full confidence, and how sure of the whole."""
    variants: dict[str, Judge] = {
        "significant, estimate at the margin (the sketch)": _failing(0.0, 0.5),
        "half the margin proven, estimate at the margin": _failing(0.5, 0.5),
        "significant, whole margin at 80 %": _failing(0.0, 0.2),
        "**half the margin proven, whole margin at 80 %**": _failing(0.5, 0.2),
        "the whole margin proven": _failing(1.0, 1.0),
    }
    return _comparison(
        "When does a metric fail?", traces, {name: (_one_second, judge) for name, judge in variants.items()}
    )


def tails(traces: dict[str, Trace]) -> str:
    """p99 of 60 pairs of 200 requests, for identical servers."""
    variants: dict[str, Callable[[Trial], Interval]] = {
        "**each block's p99, Hodges-Lehmann**": lambda trial: _log_interval(trial, "p99", 60, 1),
        "p99 of two blocks together": lambda trial: _log_interval(trial, "p99", 60, 2),
        "pooled exceedance, sign flips of the sum": _pooled,
        "pooled exceedance, signed ranks": _pooled_ranks,
    }
    lines = [
        "**p99 at 200 requests a block, 60 pairs, identical servers**",
        "",
        "| estimator | half-width, noisy | inside +25 %, noisy | half-width, quiet | inside +25 %, quiet |",
        "|---|---|---|---|---|",
    ]
    for name, interval in variants.items():
        values = []
        for trace in traces.values():
            found = [interval(trial) for trial in _trials(trace, "0 %", 20)]
            widths = [(bounds.upper - bounds.lower) / 2 for bounds in found]
            inside = np.mean([bounds.upper < log1p(0.25) for bounds in found])
            values += [f"{100 * np.median(widths):.1f} %", f"{100 * inside:.0f} %"]
        lines.append(f"| {name} | {' | '.join(values)} |")
    return "\n".join([*lines, ""])


def block_lengths(traces: dict[str, Trace]) -> str:
    """The same 60 s cut into blocks of other lengths."""
    lines = [
        "**Blocks of other lengths, 60 s in all: half-width of the interval (identical servers)**",
        "",
        "| block | trace | mean | p50 | p95 | p99 |",
        "|---|---|---|---|---|---|",
    ]
    for name, trace in traces.items():
        for seconds in (0.25, 0.5, 1, 2, 3):
            widths = {metric: [] for metric in MARGINS}
            for trial in _trials(trace, "0 %", 20):
                for metric in MARGINS:
                    bounds = _cut_interval(trial, metric, seconds)
                    widths[metric].append((bounds.upper - bounds.lower) / 2)
            shown = " | ".join(f"{100 * np.median(widths[metric]):.2f} %" for metric in MARGINS)
            lines.append(f"| {seconds} s | {name} | {shown} |")
    return "\n".join([*lines, ""])


def looks(traces: dict[str, Trace]) -> str:
    """Planned looks against a confidence sequence asked after every pair."""
    judge = _failing(0.5, 0.2)
    planned = {
        "3 planned looks (15, 30, 60)": _spent((15, 30, 60)),
        "**5 planned looks (10, 15, 20, 30, 60)**": SCHEDULE,
        "6 planned looks, every 10 pairs": _spent((10, 20, 30, 40, 50, 60)),
        "1 look at 60": ((60, 0.05),),
    }
    rows = {name: _rates(traces, _one_second, judge, schedule) for name, schedule in planned.items()}
    rows["confidence sequence after every pair"] = _sequence_rates(traces)
    return _table("How often to look (latency metrics only)", rows)


def weights(traces: dict[str, Trace]) -> str:
    """Estimators of the centre: standard deviation over runs of identical servers."""
    estimators: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "mean of the differences": lambda d, _: float(d.mean()),
        "median of the differences": lambda d, _: float(np.median(d)),
        "**Hodges-Lehmann**": lambda d, _: hodges_lehmann(d, 0.5).estimate,
        "mean, weighted down in slow seconds": _weighted_mean,
        "Hodges-Lehmann of the calmer three quarters": _calm_part,
    }
    lines = [
        "**Variance reduction: root mean square of the estimate, identical servers, 60 pairs**",
        "",
        "| estimator | " + " | ".join(f"{m}, {t}" for t in traces for m in MARGINS) + " |",
        "|---|" + "---|" * 8,
    ]
    drawn = {name: list(_trials(trace, "0 %", 20)) for name, trace in traces.items()}
    for label, estimator in estimators.items():
        values = []
        for trials in drawn.values():
            for metric in MARGINS:
                # a1 and a2 only: b0 differs by the luck of its start, which is not scatter
                same = trials[: len(trials) // 2]
                found = [estimator(*_differences_and_level(trial, metric)) for trial in same]
                values.append(f"{100 * np.sqrt(np.mean(np.square(found))):.2f} %")
        lines.append(f"| {label} | {' | '.join(values)} |")
    return "\n".join([*lines, ""])


def payload_identity() -> str:
    """Payloads of different cost: the same ones in the same order to both arms, or drawn for each."""
    lines = [
        "**Payloads whose cost scatters (simulated, 60 pairs of 200): half-width of the interval**",
        "",
        "| sd of ln(cost) | payloads | mean | p50 | p95 | p99 |",
        "|---|---|---|---|---|---|",
    ]
    rng = np.random.default_rng(11)
    for scatter in (0.25, 1.0):
        for label in (
            "drawn for each arm",
            "**the same in both arms**",
            "the same, compared request by request",
        ):
            widths = {metric: [] for metric in MARGINS}
            for _ in range(60):
                costs = rng.lognormal(log(0.006), scatter, (60, 200))
                other = (
                    costs if label != "drawn for each arm" else rng.lognormal(log(0.006), scatter, (60, 200))
                )
                one = costs * rng.lognormal(0, 0.1, costs.shape)
                two = other * rng.lognormal(0, 0.1, costs.shape)
                for metric in MARGINS:
                    if label.endswith("request"):
                        d = np.log(one / two).mean(axis=1)
                    else:
                        d = np.log(
                            [_value(a, metric) / _value(b, metric) for a, b in zip(one, two, strict=True)]
                        )
                    bounds = hodges_lehmann(np.asarray(d), 0.025)
                    widths[metric].append((bounds.upper - bounds.lower) / 2)
            shown = " | ".join(
                f"{100 * np.median(widths[metric]):.2f} %"
                if not (label.endswith("request") and metric != "p50")
                else "-"
                for metric in MARGINS
            )
            lines.append(f"| {scatter} | {label} | {shown} |")
    return "\n".join([*lines, ""])


def _failing(share: float, beyond: float) -> Judge:
    field = {0.0: "p_zero", 0.5: "p_half", 1.0: "p_margin"}[share]

    def judge(found: dict[str, Evidence], alpha: float) -> str:
        adjusted = holm([getattr(evidence, field) for evidence in found.values()])
        for p, evidence in zip(adjusted, found.values(), strict=True):
            sure = (
                evidence.interval.estimate >= evidence.limit if beyond == 0.5 else evidence.p_margin <= beyond
            )
            if p <= alpha and sure:
                return "FAIL"
        inside = all(evidence.interval.upper < evidence.limit for evidence in found.values())
        return "PASS" if inside else "INCONCLUSIVE"

    return judge


def _one_second(trial: Trial, pairs: int, alpha: float) -> dict[str, Evidence]:
    return {metric: _evidence(_differences(trial, metric, pairs), alpha, metric) for metric in MARGINS}


def _evidence(d: np.ndarray, alpha: float, metric: str) -> Evidence:
    limit = log1p(MARGINS[metric])
    tests = (p_greater(d), p_greater(d - limit / 2), p_greater(d - limit))
    return Evidence(hodges_lehmann(d, alpha), *tests, limit)


def _comparison(title: str, traces: dict[str, Trace], variants: dict[str, tuple[Look, Judge]]) -> str:
    return _table(
        title, {name: _rates(traces, look, judge, SCHEDULE) for name, (look, judge) in variants.items()}
    )


def _rates(
    traces: dict[str, Trace], look: Look, judge: Judge, schedule: tuple[tuple[int, float], ...]
) -> list[str]:
    return _over_cells(traces, lambda trial: _decide(trial, look, judge, schedule))


def _decide(
    trial: Trial, look: Look, judge: Judge, schedule: tuple[tuple[int, float], ...]
) -> tuple[str, int]:
    for pairs, alpha in schedule:
        outcome = judge(look(trial, pairs, alpha), alpha)
        if outcome != "INCONCLUSIVE":
            return outcome, pairs
    return "INCONCLUSIVE", schedule[-1][0]


def _sequence_rates(traces: dict[str, Trace]) -> list[str]:
    return _over_cells(traces, _decide_by_sequence)


def _decide_by_sequence(trial: Trial) -> tuple[str, int]:
    """Asymptotic confidence sequences (Waudby-Smith and others, 2024), best at 30 pairs."""
    differences = {metric: _differences(trial, metric, 60) for metric in MARGINS}
    for pairs in range(8, 61):
        bounds = {metric: _sequence(d[:pairs], 0.05) for metric, d in differences.items()}
        corrected = {metric: _sequence(d[:pairs], 0.05 / len(MARGINS)) for metric, d in differences.items()}
        for metric, margin in MARGINS.items():
            centre, below, _ = corrected[metric]
            # the same two conditions as the planned looks: half proven, the whole at 80 %
            scale = differences[metric][:pairs].std(ddof=1) / sqrt(pairs)
            if below > log1p(margin) / 2 and centre - 0.84 * scale > log1p(margin):
                return "FAIL", pairs
        if all(bounds[metric][2] < log1p(margin) for metric, margin in MARGINS.items()):
            return "PASS", pairs
    return "INCONCLUSIVE", 60


def _sequence(d: np.ndarray, alpha: float) -> tuple[float, float, float]:
    n = d.size
    low, high = np.quantile(d, (0.05, 0.95))
    clipped = np.clip(d, low, high)
    rho = sqrt((-2 * log(alpha) + log(-2 * log(alpha) + 1)) / 30)
    spread = n * rho * rho + 1
    width = clipped.std(ddof=1) * sqrt(2 * spread / (n * rho) ** 2 * log(1 + sqrt(spread) / (2 * alpha)))
    return float(clipped.mean()), float(clipped.mean() - width), float(clipped.mean() + width)


def _over_cells(traces: dict[str, Trace], decide: Callable[[Trial], tuple[str, int]]) -> list[str]:
    values = []
    for trace, step in zip(traces.values(), (10, 7), strict=True):
        for cell in CELLS:
            found = [decide(trial) for trial in _trials(trace, cell, step)]
            shares = "/".join(
                f"{100 * np.mean([outcome == wanted for outcome, _ in found]):.0f}"
                for wanted in ("PASS", "FAIL", "INCONCLUSIVE")
            )
            values.append(f"{shares}, {np.mean([pairs for _, pairs in found]):.1f}")
    return values


def _table(title: str, rows: dict[str, list[str]]) -> str:
    head = [f"{cell}, {trace}" for trace in ("noisy", "quiet") for cell in CELLS]
    lines = [
        f"**{title}: PASS / FAIL / INCONCLUSIVE in %, mean pairs; duet**",
        "",
        f"| variant | {' | '.join(head)} |",
        "|---|" + "---|" * len(head),
    ]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(values)} |" for name, values in rows.items()), ""])


def _trials(trace: Trace, cell: str, step: int) -> Iterator[Trial]:
    for candidate, baseline, factor in CELLS[cell]:
        yield from trace.trials(candidate, baseline, "duet", step, factor)


def _spent(planned: tuple[int, ...]) -> tuple[tuple[int, float], ...]:
    before = (0, *planned[:-1])
    return tuple((now, 0.05 * (now - then) / planned[-1]) for now, then in zip(planned, before, strict=True))


def _differences(trial: Trial, metric: str, pairs: int) -> np.ndarray:
    blocks = zip(trial.candidate[:pairs], trial.baseline[:pairs], strict=True)
    return np.array([log(_value(a, metric) / _value(b, metric)) for a, b in blocks])


def _differences_and_level(trial: Trial, metric: str) -> tuple[np.ndarray, np.ndarray]:
    level = np.array(
        [
            log(_value(a, metric) * _value(b, metric)) / 2
            for a, b in zip(trial.candidate, trial.baseline, strict=True)
        ]
    )
    return _differences(trial, metric, 60), level


def _weighted_mean(d: np.ndarray, level: np.ndarray) -> float:
    # Both arms enter the level alike, so for equal servers the weights cannot favour either.
    weight = np.exp(-4 * (level - np.median(level)).clip(0))
    return float((d * weight).sum() / weight.sum())


def _calm_part(d: np.ndarray, level: np.ndarray) -> float:
    return hodges_lehmann(d[level <= np.quantile(level, 0.75)], 0.5).estimate


def _log_interval(trial: Trial, metric: str, pairs: int, together: int) -> Interval:
    return _cut_interval(trial, metric, float(together)) if pairs == 60 else _cut_interval(trial, metric, 1.0)


def _cut_interval(trial: Trial, metric: str, seconds: float) -> Interval:
    differences = []
    if seconds >= 1:
        whole = int(seconds)
        for start in range(0, 60 - whole + 1, whole):
            one = np.concatenate(trial.candidate[start : start + whole])
            two = np.concatenate(trial.baseline[start : start + whole])
            differences.append(log(_value(one, metric) / _value(two, metric)))
    else:
        parts = round(1 / seconds)
        for one, two in zip(trial.candidate, trial.baseline, strict=True):
            for a, b in zip(np.array_split(one, parts), np.array_split(two, parts), strict=True):
                differences.append(log(_value(a, metric) / _value(b, metric)))
    return hodges_lehmann(np.array(differences), 0.025)


def _pooled(trial: Trial) -> Interval:
    return exceedance.interval(_prepared(trial), 0.025)


def _pooled_ranks(trial: Trial) -> Interval:
    tails_ = _prepared(trial)
    estimate = tails_.log_ratio

    def reach(sign: float) -> float:
        inside, outside = 0.0, 3.0
        for _ in range(12):
            middle = (inside + outside) / 2
            if p_greater(-sign * tails_.differences(estimate + sign * middle)) > 0.025:
                inside = middle
            else:
                outside = middle
        return outside if outside < 3 else inf

    return Interval(estimate, estimate - reach(-1.0), estimate + reach(1.0))


def _prepared(trial: Trial) -> exceedance.Exceedance:
    arms = read_arms(trial.table(60))
    return exceedance.prepare(pair(arms["candidate"], arms["baseline"], 0), 0.99)


def _value(block: np.ndarray, metric: str) -> float:
    if metric == "mean":
        return float(block.mean())
    rank = int(np.ceil(QUANTILES[metric] * block.size - 1e-9)) - 1
    return float(np.partition(block, rank)[rank])


if __name__ == "__main__":
    sys.exit(main())
