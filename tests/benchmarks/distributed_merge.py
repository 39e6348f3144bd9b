"""What 100 generators at 10 000 requests a second each mean for the task that merges them, in CPU time.

python tests/benchmarks/distributed_merge.py [--generators 100] [--rate 10000] [--seconds 60] [--histograms]

The generators are simulated: each brings its rows of each block as a real one does, an Arrow stream a
arm, with a clock of its own and a start that is late by chance. Everything after that is the load
Job's own code: decoding, clocks, blocks, the looks of the gate, the results table on disk.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from model_load_test.components.gate.spec import gate_spec_of_run
from model_load_test.components.gate.stopping import load_stop_rule
from model_load_test.components.load.job.coordinator import JobRunner
from model_load_test.components.load.job.plan import Greeting, Loaded
from model_load_test.components.load.processes import Interruption
from model_load_test.components.load.run import StopDecision, measure
from model_load_test.components.load.safety import Limits
from model_load_test.components.load.schedule import Arm, Segment
from model_load_test.components.load.spec import LoadSpec
from model_load_test.components.results.histogram import Histogram, histogram
from model_load_test.components.results.percentile import percentile
from model_load_test.components.results.rows import RowCollector
from model_load_test.components.results.table import RunMetadata, write_results

ARMS: tuple[Arm, ...] = ("candidate", "baseline")
START_SD_SECONDS = 0.008
"""Of a generator's own start: processes of one machine began 2 to 8 ms apart, nodes of a busy one 100."""
CLOCK_SD_SECONDS = 0.001
"""Of what is left of a clock's error after the quickest round trip."""
LATENCY_MEDIAN_SECONDS = 0.008
LATENCY_SIGMA = 0.35


@dataclass
class SimulatedGenerators:
    """In the place of the agreement with real ones."""

    generators: int
    rate_rps: float
    """Of each, both arms together."""
    seed: int = 0
    greetings: dict[int, Greeting] = field(default_factory=dict)
    spoiled: tuple[Any, ...] = ()
    making_seconds: float = 0.0
    """CPU time that simulating took, which is none of the merge."""
    bytes_brought: int = 0
    segments: int = 0
    _now_ns: int = 1_800_000_000_000_000_000

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)
        for index in range(self.generators):
            self.greetings[index] = Greeting(
                index=index,
                pod=f"generator-{index}",
                node=f"node-{index}",
                tool_version="simulated",
                host={"cores": 4},
                clock_offset_ns=int(self._random.normal(0, 50e6)),
                clock_uncertainty_ns=int(2e6),
            )

    def run(self, segment: Segment, seconds: float, interrupted: Any) -> dict[int, Loaded]:
        """What all generators bring of one segment."""
        begun = time.process_time()
        interrupted()
        each = self.rate_rps / len(ARMS)
        count = round(each * segment.load_seconds)
        loaded = {}
        for index, greeting in self.greetings.items():
            late = self._random.normal(0, START_SD_SECONDS) + self._random.normal(0, CLOCK_SD_SECONDS)
            starts_ns = self._now_ns + round(late * 1e9) - greeting.clock_offset_ns
            rows = {arm: self._rows(index, count, each, starts_ns) for arm in segment.arms}
            self.bytes_brought += sum(map(len, rows.values()))
            loaded[index] = Loaded(rows=rows, checks=(), commands=(), cut_off=0, host={})
        self._now_ns += round((segment.load_seconds + 0.4) * 1e9)
        self.segments += 1
        self.making_seconds += time.process_time() - begun
        return loaded

    def _rows(self, index: int, count: int, rate_rps: float, starts_ns: int) -> bytes:
        phase_ns = self._random.uniform(0, 1e9 / rate_rps)
        sent = starts_ns + np.round(phase_ns + np.arange(count) * (1e9 / rate_rps)).astype(np.int64)
        shape = self._random.normal(0, LATENCY_SIGMA, count)
        latency = np.round(LATENCY_MEDIAN_SECONDS * 1e9 * np.exp(shape)).astype(np.int64)
        sizes = np.full(count, 512, np.int64)
        collector = RowCollector()
        collector.add(sent, latency, np.ones(count, np.bool_), ["OK"] * count, [""] * count, sizes, sizes)
        table = collector.table(index)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return sink.getvalue().to_pybytes()


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def merge(generators: int, rate_rps: float, seconds: int, looks: tuple[int, ...]) -> dict[str, float]:
    """A whole run with simulated generators; figures of what the task itself had to do."""
    spec = LoadSpec(
        rate_rps=generators * rate_rps / len(ARMS), block_seconds=1.0, looks=looks, warmup_seconds=0.0
    )
    simulated = SimulatedGenerators(generators, rate_rps)
    runner = JobRunner(simulated, spec, Interruption(), [])  # type: ignore[arg-type]  # stands for it
    rule = load_stop_rule(
        gate_spec_of_run({}, {"looks": looks, "rate_rps": spec.rate_rps, "block_seconds": 1.0})
    )
    judging = []
    before_gb = peak_gb()

    def timed(table: pa.Table) -> StopDecision:
        begun = time.process_time()
        text = rule(table).text
        judging.append(time.process_time() - begun)
        print(f"  {len(judging)}. look: {table.num_rows} rows, {judging[-1]:.2f} s: {text[:60]}", flush=True)
        return StopDecision(False, "")

    begun = time.process_time()
    measure(runner, spec, timed, lambda update: None, Limits(max_requests=10**9, max_rate_rps=1e9))
    took = time.process_time() - begun - simulated.making_seconds - sum(judging)
    table = runner.table()
    blocks = np.asarray(table["block"].to_numpy())
    with tempfile.TemporaryDirectory(dir="build") as folder:
        path = Path(folder) / "results.parquet"
        begun = time.process_time()
        write_results(path, table, RunMetadata())
        writing = time.process_time() - begun
        size_mb = path.stat().st_size / 1e6
    return {
        "generators": generators,
        "rows_million": table.num_rows / 1e6,
        "rows_in_blocks_million": float((blocks >= 0).sum()) / 1e6,
        "brought_mb_per_block": simulated.bytes_brought / simulated.segments / 1e6,
        "merge_seconds_per_block": took / simulated.segments,
        "judge_seconds_last_look": judging[-1],
        "write_seconds": writing,
        "parquet_mb": size_mb,
        "parquet_bytes_per_row": size_mb * 1e6 / table.num_rows,
        "start_skew_ms": float(np.median(runner.skews_ns)) / 1e6,
        "peak_gb": peak_gb(),
        "peak_gb_before": before_gb,
    }


def add_histograms(generators: int, rate_rps: float) -> dict[str, float]:
    """The other way: each generator brings one histogram an arm and block, and they are added."""
    random = np.random.default_rng(1)
    count = round(rate_rps / len(ARMS))
    parts = [
        np.round(LATENCY_MEDIAN_SECONDS * 1e9 * np.exp(random.normal(0, LATENCY_SIGMA, count))).astype(
            np.int64
        )
        for _ in range(generators)
    ]
    begun = time.process_time()
    made = [histogram(part) for part in parts]
    making = time.process_time() - begun
    encoded = [json.dumps({"counts": one.counts}).encode() for one in made]
    begun = time.process_time()
    total = Histogram({}, 0, 0, 0)
    for one in made:
        total = total + one
    adding = time.process_time() - begun
    pooled = np.concatenate(parts)
    errors = [abs(total.percentile(q) / percentile(pooled, q) - 1) for q in (50, 90, 95, 99, 99.9)]
    return {
        "make_ms_each": 1e3 * making / generators,
        "kb_each": sum(map(len, encoded)) / generators / 1e3,
        "add_seconds_per_block": len(ARMS) * adding,
        "worst_error_percent": 100 * max(errors),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generators", type=int, default=100)
    parser.add_argument("--rate", type=float, default=10_000.0, help="of each generator, both arms together")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--histograms", action="store_true", help="only the other way: adding histograms")
    given = parser.parse_args()
    Path("build").mkdir(exist_ok=True)
    if not given.histograms:
        looks = tuple(
            sorted({look for look in (10, 15, 20, 30, 60) if look < given.seconds} | {given.seconds})
        )
        print(json.dumps(merge(given.generators, given.rate, given.seconds, looks), indent=1))
    print(json.dumps(add_histograms(given.generators, given.rate), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
