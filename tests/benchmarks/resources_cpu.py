"""How sharply CPU time per request tells two servers apart, and what the looking costs.

python tests/benchmarks/resources_cpu.py [RUNS]

Real embedded servers, fresh for every run, 100 requests/s each, 20 pairs of two seconds; each request
burns the CPU time given and sleeps the rest of 4 ms, so that the latencies are equal.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec

from model_load_test.components.gate.judge import judge
from model_load_test.components.gate.spec import gate_spec_of_run
from model_load_test.components.load.preflight import prepare
from model_load_test.components.load.run import StopDecision, run_load_test
from model_load_test.components.payload.make import make_payload
from model_load_test.components.resources.sampling import Sampler
from model_load_test.components.resources.series import Window
from model_load_test.components.resources.spec import parse_resource_spec
from model_load_test.components.resources.usage import cpu_use
from model_load_test.components.serving.embedded.process import embedded_server

MODEL = """\
import time
from model_load_test.components.serving.embedded.numpy_backend import NumpyModel, digits

def burn(inputs):
    done = time.thread_time() + {cpu_ms} / 1e3
    while time.thread_time() < done:
        pass
    time.sleep((4 - {cpu_ms}) / 1e3)
    return digits.function(inputs)

model = NumpyModel(digits.signature, burn)
"""
BASELINE_MS = 1.0
CASES = {"identical": 1.0, "candidate burns 0.5 ms more": 1.5}
PAIRS = 20
OFF = dict.fromkeys(("mean", "p50", "p95", "p99", "errors", "goodput"), "off")


def one_run(folder: Path, candidate_ms: float, kind: str) -> tuple[float, float, float, str, float]:
    """Ratio of CPU per request, its bounds, the verdict at a margin of 10 %, and cores spent on looking."""
    with ExitStack() as stack:
        servers = {}
        for arm, cpu_ms in (("candidate", candidate_ms), ("baseline", BASELINE_MS)):
            (folder / f"{arm}_model.py").write_text(MODEL.format(cpu_ms=cpu_ms))
            place = f"{arm}_model:model"
            servers[arm] = stack.enter_context(
                embedded_server("digits", backend="numpy", callable_place=place)
            )
        make_payload(servers["candidate"].grpc, model_name="digits", out_dir=folder / "payload", requests=50)
        test = prepare(
            candidate_endpoint=str(servers["candidate"].grpc),
            baseline_endpoint=str(servers["baseline"].grpc),
            model_name="digits",
            signature_name="",
            payload_path=folder / "payload",
            mode="duet",
            spec_values={"rate_rps": 100.0, "looks": (PAIRS,), "warmup_seconds": 1.0},
            work_path=folder / "work",
        )
        pages = {arm: f"{server.rest}/monitoring/prometheus/metrics" for arm, server in servers.items()}
        spec = parse_resource_spec(
            {"processes": "listening"} if kind == "processes" else {"pages": pages}, test.endpoints
        )
        begun = time.time_ns()
        with Sampler(spec.looks, spec.every_seconds) as sampler:
            table, metadata = run_load_test(test, lambda _: StopDecision(True, ""), progress=lambda _: None)
        window = Window(begun, time.time_ns())
        cpu = cpu_use(sampler(window).series, table)
        gate = gate_spec_of_run({"margins": {**OFF, "cpu": 0.1}}, msgspec.to_builtins(test.spec))
        verdict = judge(table, gate, cpu=cpu)
        assert "cpu" in verdict.metrics, verdict.reasons
        metric = verdict.metrics["cpu"]
        assert metric.ratio is not None
        assert metric.lower is not None
        assert metric.upper is not None
        assert not any(check["consequence"] == "INVALID" for check in metadata.checks), metadata.checks
        cores = sampler.cpu_seconds / window.seconds
        return metric.ratio, metric.lower, metric.upper, metric.verdict, cores


def main(runs: int) -> None:
    print(
        "| source | servers | ratio of CPU per request, by run | interval's half-width | verdicts | looking |"
    )
    print("|---|---|---|---|---|---|")
    for kind in ("processes", "pages"):
        for name, candidate_ms in CASES.items():
            found = []
            for _ in range(runs):
                with tempfile.TemporaryDirectory() as folder:
                    os.environ["PYTHONPATH"] = folder
                    found.append(one_run(Path(folder), candidate_ms, kind))
            ratios = ", ".join(f"{ratio:.3f}" for ratio, *_ in found)
            half = statistics.median((upper - lower) / 2 for _, lower, upper, *_ in found)
            verdicts = ", ".join(verdict for *_, verdict, _ in found)
            cores = statistics.median(cores for *_, cores in found)
            print(
                f"| {kind} | {name} | {ratios} | {half:.1%} | {verdicts} | {cores:.2%} of a core |",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
