"""How often the gate is wrong: replays the recorded traces, simulates, and writes docs/gate.md.

    nice -n 19 python tests/benchmarks/gate_error_rates.py [--quick] [--write]

Without --write the tables are printed. --quick takes a tenth of the trials.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import gate_rules as rules
import numpy as np
from gate_picture import picture
from gate_rules import Decision
from gate_trials import TRACES, Trace, Trial, World
from scipy.stats import beta

from model_load_test.components.gate.spec import GateSpec

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "gate.md"
PICTURE = ROOT / "docs" / "images" / "gate-error-rates.svg"

OURS = "this gate"
THREE = "this gate, looks at 15, 30, 60"
THREE_LOOKS = GateSpec(looks=(15, 30, 60))
RULES: dict[str, Callable[[Trial], Decision]] = {
    "stored baseline, mean or p99 > +10 %": rules.stored_threshold,
    "one after the other, mean or p99 > +10 %": rules.sequential_threshold,
    "one after the other, Mann-Whitney p < 0.05": rules.sequential_mann_whitney,
    "together, mean or p99 > +10 %": rules.duet_threshold,
    "together, Mann-Whitney p < 0.05": rules.mann_whitney,
    "together, Kayenta's judge on 1 s points": rules.kayenta,
    "together, reference sketch": rules.reference_sketch,
    "this gate, only 20 earlier runs": rules.our_gate_by_history,
    THREE: lambda trial: rules.our_gate(trial, THREE_LOOKS),
    OURS: lambda trial: rules.our_gate(trial, GateSpec()),
}

# Effect, and who plays candidate and baseline (name, name, factor on the candidate). b0 is the same
# code as a1 and a2 and came out 1.0 to 1.35 % faster.
CELLS: dict[str, list[tuple[str, str, float]]] = {
    "0 %": [("a1", "a2", 1.0), ("a2", "a1", 1.0), ("b0", "a1", 1.0), ("b0", "a2", 1.0)],
    "0 %, unlucky start": [("a1", "b0", 1.0), ("a2", "b0", 1.0)],
    "+2 %": [("b2", "a1", 1.0), ("b2", "a2", 1.0)],
    "+3 %": [("a1", "a2", 1.03), ("a2", "a1", 1.03)],
    "+5 %": [("b5", "a1", 1.0), ("b5", "a2", 1.0)],
    "+7 %": [("a1", "a2", 1.07), ("a2", "a1", 1.07)],
    "+10 %": [("b10", "a1", 1.0), ("b10", "a2", 1.0)],
    "+20 %": [("b20", "a1", 1.0), ("b20", "a2", 1.0)],
    "tail x1.25": [("bt", "a1", 1.0), ("bt", "a2", 1.0)],
}

# Only the first worlds have the luck of a deployment: with it, the truth differs from run to run.
WORLDS: dict[str, tuple[World, int]] = {
    "0 %, deployments differ by 1 % sd": (World(), 2000),
    "0 %, interleaved": (World(mode="interleaved"), 2000),
    "0 %, no luck, no bursts, no drift": (World(lottery=0, burst_every=1e9, drift=0, own_noise=0.005), 400),
    "0 %, a burst every 4 s": (World(burst_every=4.0), 400),
    "0 %, own noise 10 %": (World(own_noise=0.10), 400),
    "0 %, own noise 10 %, autocorrelation 0.5": (World(own_noise=0.10, autocorrelation=0.5), 400),
    "0 %, clock of 1 ms (ties)": (World(clock_seconds=1e-3), 400),
    "0 %, Pareto tail 1.5 on 1 %": (World(heavy=0.01), 400),
    "0 %, 0.1 % errors": (World(error_rate=0.001), 400),
    "+2 %": (World(effect=0.02, lottery=0), 1000),
    "+3 %": (World(effect=0.03, lottery=0), 2000),
    "+5 %": (World(effect=0.05, lottery=0), 400),
    "+7 %": (World(effect=0.07, lottery=0), 400),
    "+10 %": (World(effect=0.10, lottery=0), 2000),
    "+20 %": (World(effect=0.20, lottery=0), 1000),
    "tail x1.25": (World(tail=1.25, lottery=0), 400),
    "tail x1.5": (World(tail=1.5, lottery=0), 400),
    "tail x2": (World(tail=2.0, lottery=0), 400),
    "pauses of 60 ms in a quarter of the seconds": (World(pause_share=0.25, lottery=0), 400),
}


@dataclass(frozen=True)
class Rates:
    """What a rule decided over the trials of one cell."""

    decisions: list[Decision]
    clusters: list[int]
    independent: int
    """Independent trials they are worth."""

    def share(self, outcome: str) -> float:
        """The share of trials with this outcome."""
        return float(np.mean([decision.outcome == outcome for decision in self.decisions]))

    def interval(self, outcome: str) -> tuple[float, float]:
        """A 95 % interval: the wider of cluster bootstrap and exact binomial on independent trials."""
        hits = np.array([decision.outcome == outcome for decision in self.decisions], float)
        share, n = hits.mean(), self.independent
        low = beta.ppf(0.025, share * n, n - share * n + 1) if share > 0 else 0.0
        high = beta.ppf(0.975, share * n + 1, n - share * n) if share < 1 else 1.0
        clusters = np.array(self.clusters)
        names = np.unique(clusters)
        if 1 < names.size < hits.size:
            rng = np.random.default_rng(3)
            sums = np.array([hits[clusters == name].sum() for name in names])
            sizes = np.array([(clusters == name).sum() for name in names])
            drawn = rng.integers(0, names.size, (2000, names.size))
            means = sums[drawn].sum(1) / sizes[drawn].sum(1)
            low, high = min(low, np.quantile(means, 0.025)), max(high, np.quantile(means, 0.975))
        return float(low), float(high)

    def of_metric(self, metric: str) -> Rates:
        """The same trials, with the verdict on one metric for that on the run."""
        judged = [Decision(decision.metrics.get(metric, ""), decision.pairs) for decision in self.decisions]
        return replace(self, decisions=judged)

    @property
    def pairs(self) -> float:
        """Mean number of pairs used."""
        return float(np.mean([decision.pairs for decision in self.decisions]))


def main() -> int:
    """Runs everything; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the trials")
    parser.add_argument("--write", action="store_true", help="write the tables and the picture into docs/")
    arguments = parser.parse_args()
    if not TRACES.exists():
        print(f"the recorded traces are missing: {TRACES}", file=sys.stderr)
        return 2
    started = time.monotonic()
    sections = []
    replayed: dict[str, dict[str, dict[str, Rates]]] = {}
    for name, step in (("noisy", 10), ("quiet", 7)):
        replayed[name] = replay(name, "duet", step * (10 if arguments.quick else 1), RULES)
        sections.append(field_table(f"Trace `{name}`, at most 60 s of load per arm", replayed[name]))
    ours = {
        (name, mode): replay(name, mode, step * (10 if arguments.quick else 1), {OURS: RULES[OURS]})[OURS]
        if mode == "interleaved"
        else replayed[name][OURS]
        for name, step in (("noisy", 10), ("quiet", 7))
        for mode in ("duet", "interleaved")
    }
    for rule, label in ((THREE, "duet, 3 looks"), ("together, reference sketch", "reference sketch")):
        ours |= {(name, label): found[rule] for name, found in replayed.items()}
    sections.append(
        our_table("This gate on the traces: PASS / FAIL / INCONCLUSIVE in %, mean pairs used", ours)
    )
    simulated = simulate(10 if arguments.quick else 1)
    sections.append(simulated_table(simulated))
    sections.append(aims_table(ours, simulated))
    text = "\n".join(sections)
    print(text)
    print(f"({time.monotonic() - started:.0f} s)", file=sys.stderr)
    if arguments.write:
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        PICTURE.write_text(picture(curves(replayed["noisy"])), encoding="utf-8")
        write_between_marks(PAGE, text)
    return 0


def replay(
    name: str, mode: str, step: int, judges: dict[str, Callable[[Trial], Decision]]
) -> dict[str, dict[str, Rates]]:
    """Judges every window of a trace by every rule."""
    trace = Trace(name)
    found: dict[str, dict[str, Rates]] = {rule: {} for rule in judges}
    for cell, servers in CELLS.items():
        trials = [
            trial
            for candidate, baseline, factor in servers
            for trial in trace.trials(candidate, baseline, mode, step, factor)
        ]
        for rule, judge in judges.items():
            decisions = [judge(trial) for trial in trials]
            clusters = [trial.cluster for trial in trials]
            found[rule][cell] = Rates(decisions, clusters, trace.independent(mode))
        print(f"{name} {mode} {cell}: {len(trials)} windows", file=sys.stderr, flush=True)
    return found


def simulate(thinned: int) -> dict[str, Rates]:
    """Judges simulated runs by our gate."""
    found = {}
    for number, (cell, (world, trials)) in enumerate(WORLDS.items()):
        rng = np.random.default_rng([2026, number])
        count = trials // thinned
        decisions = [RULES[OURS](world.trial(rng)) for _ in range(count)]
        found[cell] = Rates(decisions, list(range(count)), count)
        print(f"simulated {cell}: {count} runs", file=sys.stderr, flush=True)
    return found


def field_table(title: str, found: dict[str, dict[str, Rates]]) -> str:
    """FAIL rates of every rule at every effect."""
    cells = list(CELLS)
    first = next(iter(found.values()))
    counts = ", ".join(f"{cell}: {len(first[cell].decisions)}" for cell in cells)
    lines = [f"**{title}: runs that FAIL, in % [95 % interval]**", "", *_head(["rule", *cells])]
    for rule, by_cell in found.items():
        values = [_with_interval(by_cell[cell], "FAIL") for cell in cells]
        lines.append(_row([f"**{rule}**" if rule == OURS else rule, *values]))
    independent = first["0 %"].independent
    lines += ["", f"Windows (overlapping; the trace holds {independent} disjoint ones): {counts}.", ""]
    return "\n".join(lines)


def our_table(title: str, found: dict[tuple[str, str], dict[str, Rates]]) -> str:
    """Three-way rates of our gate on the traces."""
    names = [f"{trace}, {mode}" for trace, mode in found]
    lines = [f"**{title}**", "", *_head(["true effect", *names])]
    for cell in CELLS:
        lines.append(_row([cell, *(_three_ways(by_cell[cell]) for by_cell in found.values())]))
    return "\n".join([*lines, ""])


def simulated_table(found: dict[str, Rates]) -> str:
    """Three-way rates of our gate in the simulator."""
    lines = ["**This gate in the simulator, in %**", ""]
    lines += _head(["world", "runs", "PASS", "FAIL [95 % interval]", "INCONCLUSIVE", "mean pairs"])
    for cell, rates in found.items():
        shares = [f"{100 * rates.share(outcome):.1f}" for outcome in ("PASS", "INCONCLUSIVE")]
        lines.append(
            _row(
                [
                    cell,
                    str(len(rates.decisions)),
                    shares[0],
                    _with_interval(rates, "FAIL"),
                    shares[1],
                    f"{rates.pairs:.0f}",
                ]
            )
        )
    return "\n".join([*lines, ""])


def aims_table(ours: dict[tuple[str, str], dict[str, Rates]], simulated: dict[str, Rates]) -> str:
    """What the gate was built to reach, and what was measured."""
    sources = {"noisy": ours["noisy", "duet"], "quiet": ours["quiet", "duet"], "simulator": simulated}
    lucky = "0 %, deployments differ by 1 % sd"
    aims = (
        ("identical servers FAIL in at most 1 %", "0 %", lucky, "FAIL", lambda share: share <= 0.01),
        ("identical servers PASS in at least 95 %", "0 %", lucky, "PASS", lambda share: share >= 0.95),
        ("+2 % (5 % allowed) FAILs in at most 3 %", "+2 %", "+2 %", "FAIL", lambda share: share <= 0.03),
        ("+3 % (5 % allowed) FAILs in at most 3 %", "+3 %", "+3 %", "FAIL", lambda share: share <= 0.03),
        ("+10 % FAILs in at least 99.5 %", "+10 %", "+10 %", "FAIL", lambda share: share >= 0.995),
        ("+20 % always FAILs", "+20 %", "+20 %", "FAIL", lambda share: share == 1),
    )
    lines = ["**What was aimed at, duet, in % [95 % interval]**", "", *_head(["aim", *sources])]
    for aim, replayed, world, outcome, holds in aims:
        values = []
        for source, by_cell in sources.items():
            rates = by_cell[world if source == "simulator" else replayed]
            values.append(_judged(rates, outcome, holds(rates.share(outcome))))
        lines.append(_row([aim, *values]))
    at_ten = {source: by_cell["+10 %"].decisions for source, by_cell in sources.items()}
    both = [decision.pairs for trace in ("noisy", "quiet") for decision in at_ten[trace]]
    pairs = [np.mean([decision.pairs for decision in decisions]) for decisions in at_ten.values()]
    aim = f"+10 % is decided after 15 pairs on average over both traces: {np.mean(both):.1f}"
    lines.append(_row([f"{aim}, {_yes(np.mean(both) <= 15)}", *(f"{mean:.1f} pairs" for mean in pairs)]))
    return "\n".join([*lines, "", *_tail_lines(sources)])


def _tail_lines(sources: dict[str, dict[str, Rates]]) -> list[str]:
    lines = ["**p99 of a slower tail (25 % allowed), duet, in % [95 % interval]**", ""]
    lines += _head(["where", "true p99 of a second", "of all", "windows or runs", "p99 PASS", "p99 FAIL"])
    for source, by_cell in sources.items():
        for cell in ("tail x1.25", "tail x1.5", "tail x2"):
            if cell not in by_cell:
                continue
            rates = by_cell[cell].of_metric("p99")
            values = [_with_interval(rates, outcome) for outcome in ("PASS", "FAIL")]
            truths = [f"{100 * truth:+.1f} %" for truth in true_p99(source, cell)]
            lines.append(_row([f"{source}, {cell}", *truths, str(len(rates.decisions)), *values]))
    return [*lines, ""]


def true_p99(source: str, cell: str) -> tuple[float, float]:
    """The relative excess of the candidate's p99 in the typical second, and of all requests together."""
    if source == "simulator":
        rng = np.random.default_rng(11)
        trials = [WORLDS[cell][0].trial(rng) for _ in range(200)]
        seconds = [pair for trial in trials for pair in zip(trial.candidate, trial.baseline, strict=True)]
    else:
        trace = Trace(source)
        seconds = [
            pair
            for candidate, baseline, _ in CELLS[cell]
            for pair in zip(trace.seconds[candidate][1:-1], trace.seconds[baseline][1:-1], strict=False)
        ]
    ratios = [rules.block_value(slow, "p99") / rules.block_value(fast, "p99") for slow, fast in seconds]
    slow, fast = (rules.block_value(np.concatenate(arm), "p99") for arm in zip(*seconds, strict=True))
    return float(np.exp(np.median(np.log(ratios))) - 1), slow / fast - 1


def curves(found: dict[str, dict[str, Rates]]) -> dict[str, list[tuple[float, float, float, float]]]:
    """Per rule (effect in %, FAIL share, low, high) along the uniform effects."""
    effects = {cell: float(cell.strip("+ %")) for cell in CELLS if re.fullmatch(r"\+?\d+ %", cell)}
    return {
        rule: [
            (effects[cell], by_cell[cell].share("FAIL"), *by_cell[cell].interval("FAIL")) for cell in effects
        ]
        for rule, by_cell in found.items()
        if rule != THREE
    }


def write_between_marks(page: Path, text: str) -> None:
    """Replaces what stands between the page's marks."""
    begin, end = "<!-- error-rates: begin -->", "<!-- error-rates: end -->"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    after = rest.split(end)[1]
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def _three_ways(rates: Rates) -> str:
    shares = "/".join(f"{100 * rates.share(outcome):.0f}" for outcome in ("PASS", "FAIL", "INCONCLUSIVE"))
    return f"{shares}, {rates.pairs:.1f}"


def _with_interval(rates: Rates, outcome: str) -> str:
    low, high = rates.interval(outcome)
    return f"{100 * rates.share(outcome):.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _judged(rates: Rates, outcome: str, holds: bool) -> str:
    return f"{_with_interval(rates, outcome)} of {len(rates.decisions)}: {_yes(holds)}"


def _yes(holds: bool) -> str:
    return "yes" if holds else "**no**"


def _head(names: Iterable[str]) -> list[str]:
    names = list(names)
    return [_row(names), "|" + "---|" * len(names)]


def _row(values: Iterable[str]) -> str:
    return f"| {' | '.join(values)} |"


if __name__ == "__main__":
    sys.exit(main())
