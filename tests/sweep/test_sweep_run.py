"""Real sweeps on this machine: embedded servers, real load, a real difference, and what a failure leaves."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from model_load_test.components.cluster.failures import ClusterUnreachable
from model_load_test.components.errors import InputError
from model_load_test.components.payload.make import make_payload
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.results.table import read_results
from model_load_test.components.serving.embedded.process import ServerDidNotStart
from model_load_test.components.serving.spec import ServingSpec
from model_load_test.components.sweep.journal import Journal
from model_load_test.components.sweep.local import LocalServers, refuse_unhonoured
from model_load_test.components.sweep.measurement import Measurement, Servers
from model_load_test.components.sweep.parameters import SweepError, configuration_id
from model_load_test.components.sweep.result import REFERENCE, SweepReport
from model_load_test.components.sweep.run import Serve, Sweeper, run_sweep
from model_load_test.components.sweep.spec import SweepSpec, parse_sweep_spec

TOO_BUSY = re.compile("generator that keeps up|it was the limit")
SLOW_ACCELERATOR = LocalServers(options={"compute_ms": 40.0, "compute_threads": 1})
"""Without batching 25 requests per second at most, whatever the machine."""


@pytest.fixture(autouse=True)
def ghz() -> None:
    if shutil.which("ghz") is None:
        pytest.skip("ghz is not on PATH (`make tools` says why it could not be installed)")


def sweep(**values: Any) -> SweepSpec:
    return parse_sweep_spec(
        {
            "model_name": "digits",
            "parameters": {"enable_batching": [True], "max_batch_size": [16], "num_batch_threads": [1]},
            "rates_rps": [40.0],
            "pairs": 6,
            "block_seconds": 1.0,
            "warmup_seconds": 0.3,
            "goal": "p50",
            **values,
        }
    )


class Bench:
    """A folder to sweep in, again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.served: list[tuple[ServingSpec, ServingSpec]] = []
        self.runs = 0

    def run(self, spec: SweepSpec, serve: Serve = SLOW_ACCELERATOR) -> SweepReport:
        self.runs += 1

        @contextmanager
        def noted(configuration: ServingSpec, reference: ServingSpec) -> Iterator[Servers]:
            self.served.append((configuration, reference))
            with serve(configuration, reference) as servers:
                yield servers

        def payload(endpoint: Endpoint, path: Path) -> None:
            make_payload(endpoint, model_name="digits", out_dir=path, requests=50, batch_sizes=[1])

        sweeper = Sweeper(
            spec=spec,
            serve=noted,
            make_payload=payload,
            journal=self.journal,
            work_path=self.folder / f"work-{self.runs}",
            progress=lambda update: self.said.append(str(update)),
        )
        try:
            return run_sweep(sweeper)
        except SweepError as error:
            if TOO_BUSY.search(str(error)):
                pytest.skip(f"this machine is too busy to offer 40 requests/s: {error}")
            raise

    @property
    def journal(self) -> Journal:
        return Journal(str(self.folder / "journal"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.slow
def test_a_real_difference_is_found_and_kept(bench: Bench) -> None:
    spec = sweep(objectives=["p95_ms<=4000"])
    report = bench.run(spec)
    assert report.complete
    best = report.configuration(report.best)
    assert best.parameters == {"enable_batching": True, "max_batch_size": 16, "num_batch_threads": 1}
    assert best.measurements[0].ratios["p50"].upper < 1, report.best_text
    assert [one.name for one in report.configurations] == [REFERENCE, best.name]
    rows = read_results(bench.folder / "journal" / f"{configuration_id(best.parameters)}-40.parquet")
    assert rows.table.num_rows >= 2 * 6 * 30
    assert rows.metadata.load_spec["rate_rps"] == 40
    again = bench.run(spec)
    assert len(bench.served) == 2, "what was measured is not measured again"
    assert again.best == report.best
    stricter = bench.run(sweep(objectives=["p95_ms<=0.1"], goal="mean"))
    assert (len(bench.served), stricter.best) == (2, ""), "the rows are judged again, not measured again"
    with pytest.raises(InputError, match=r"sweep\.pairs: 8: .* holds measurements with 6"):
        bench.run(sweep(objectives=["p95_ms<=4000"], pairs=8))


@pytest.mark.slow
def test_a_sweep_that_broke_goes_on_where_it_was(bench: Bench) -> None:
    spec = sweep(parameters={"enable_batching": [True], "max_batch_size": [4, 16]})

    @contextmanager
    def breaks(configuration: ServingSpec, reference: ServingSpec) -> Iterator[Servers]:
        if len(bench.served) == 3:
            raise ClusterUnreachable("cluster", "10.0.0.1", "it does not answer")
        with SLOW_ACCELERATOR(configuration, reference) as servers:
            yield servers

    with pytest.raises(ClusterUnreachable):
        bench.run(spec, breaks)
    kept = bench.journal.measurements()
    assert [one.outcome for one in kept] == ["measured", "measured"]
    report = bench.run(spec)
    assert len(bench.served) == 4, "only what was missing is measured"
    assert bench.journal.measurements()[:2] == kept
    assert sorted(len(one.measurements) for one in report.configurations) == [1, 1, 1]
    assert any("measured before" in line for line in bench.said)


@pytest.mark.slow
def test_a_configuration_whose_server_does_not_start_is_told_and_the_sweep_goes_on(bench: Bench) -> None:
    spec = sweep(parameters={"enable_batching": [True], "max_batch_size": [4, 16]})

    @contextmanager
    def fails(configuration: ServingSpec, reference: ServingSpec) -> Iterator[Servers]:
        if configuration.batching.get("max_batch_size") == 4:
            raise ServerDidNotStart("server", "digits", "out of memory\nand more")
        with SLOW_ACCELERATOR(configuration, reference) as servers:
            yield servers

    report = bench.run(spec, fails)
    states = {one.parameters.get("max_batch_size"): one.measurements[0] for one in report.configurations}
    assert states[4].outcome == "failed"
    assert states[4].reason.endswith("out of memory")
    assert states[16].outcome == "measured"
    assert report.complete


def test_a_reference_that_cannot_be_served_ends_the_sweep(bench: Bench) -> None:
    @contextmanager
    def fails(configuration: ServingSpec, reference: ServingSpec) -> Iterator[Servers]:
        raise ServerDidNotStart("server", "digits", "no such model")
        yield Servers({})

    with pytest.raises(ServerDidNotStart, match="no such model"):
        bench.run(sweep(), fails)
    assert bench.journal.measurements() == []


@pytest.mark.slow
def test_after_three_servers_in_a_row_that_fail_it_is_not_the_configurations(bench: Bench) -> None:
    spec = sweep(parameters={"enable_batching": [True], "max_batch_size": [1, 2, 3, 4, 5]}, pairs=7)

    @contextmanager
    def fails(configuration: ServingSpec, reference: ServingSpec) -> Iterator[Servers]:
        if configuration.batching:
            raise ServerDidNotStart("server", "digits", "no node left")
        with SLOW_ACCELERATOR(configuration, reference) as servers:
            yield servers

    report = bench.run(spec, fails)
    assert not report.complete
    assert "3 configurations in a row" in report.unfinished
    assert len(report.configurations) == 4
    assert report.best == REFERENCE


def test_a_journal_survives_a_torn_file_and_keeps_others_out(bench: Bench) -> None:
    journal = bench.journal
    journal.begin(sweep())
    measured = Measurement(
        parameters={"max_batch_size": 4}, rate_rps=40, outcome="measured", measured_at_ns=1
    )
    journal.keep(measured)
    torn = bench.folder / "journal" / f"{configuration_id({'max_batch_size': 8})}-40.json"
    torn.write_text('{"parameters": {"max_ba')
    assert journal.measurements() == [measured]
    assert journal.kept({"max_batch_size": 8}, 40) is None
    assert journal.kept({"max_batch_size": 4.0}, 40) == measured
    failed = Measurement(parameters={"max_batch_size": 2}, rate_rps=40, outcome="failed", reason="no node")
    journal.keep(failed)
    assert journal.kept({"max_batch_size": 2}, 40) is None, "a failure may have been the cluster's"
    with pytest.raises(InputError, match="give another journal"):
        bench.journal.begin(sweep(seed=5))
    bench.journal.begin(sweep(goal="mean", rates_rps=[40.0, 80.0]))


def test_a_journal_in_an_object_store() -> None:
    journal = Journal("memory://sweeps/one")
    journal.begin(sweep())
    measured = Measurement(parameters={}, rate_rps=40, outcome="measured", measured_at_ns=1)
    journal.keep(measured)
    assert Journal("memory://sweeps/one").measurements() == [measured]
    with pytest.raises(InputError, match="give a folder or a URI"):
        Journal("nosuch://bucket/journal")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"parameters": {"replicas": [1, 2]}}, "sweep the others on Kubernetes"),
        ({"serving": {"kind": "triton"}, "parameters": {"instance_count": [1, 2]}}, "deploy on Kubernetes"),
        ({"serving": {"flags": ["--rest_api_num_threads=2"]}}, "the embedded server takes"),
    ],
)
def test_what_the_embedded_server_does_not_honour_is_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        refuse_unhonoured(sweep(**values))
