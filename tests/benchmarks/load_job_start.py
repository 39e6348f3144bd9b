"""How far apart six generators of a load Job send their first requests, with and without being held.

python tests/benchmarks/load_job_start.py

The pods are processes of this machine, all on its cores: on a cluster each has cores of its own. Exit 1
where the median skew of held generators is above 50 ms.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "load"))

from process_cluster import ProcessCluster

from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.load.job.coordinator import LoadJob, run_load_job
from model_load_test.components.load.job.spec import parse_job_spec
from model_load_test.components.load.run import StopDecision
from model_load_test.components.payload.make import make_payload
from model_load_test.components.protocols.endpoint import parse_endpoint
from model_load_test.components.serving.embedded.process import embedded_server

WANTED_MS = 50.0
STARTED_ONLY = """\
import sys
from model_load_test.components.load.job import generator, held_start
held_start._HELD_OPTIONS = ()
sys.exit(generator.main())
"""
"""A generator whose processes are not held: they are started at the agreed instant."""


class StartedOnlyCluster(ProcessCluster):
    """Runs generators that start their processes at the instant."""

    def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        (container,) = manifest["spec"]["template"]["spec"]["containers"]
        container["command"] = ["python3", "-c", STARTED_ONLY]
        return super().create(manifest)


def measure(cluster: ProcessCluster, generators: int, pairs: int) -> tuple[dict[str, Any], float]:
    """The start skew of a Job and the seconds from its creation to the first request."""
    with (
        tempfile.TemporaryDirectory() as folder,
        embedded_server("digits", backend="numpy") as candidate,
        embedded_server("digits", backend="numpy") as baseline,
    ):
        payload = Path(folder) / "payload"
        make_payload(parse_endpoint(str(candidate.grpc)), model_name="digits", out_dir=payload, requests=100)
        job = LoadJob(
            spec=parse_job_spec({"generators": generators, "image": "here"}),
            identity=RunIdentity("benchmark", "load"),
            cluster=cluster,  # type: ignore[arg-type]  # the part of it that is asked for
            preparation={
                "candidate_endpoint": str(candidate.grpc),
                "baseline_endpoint": str(baseline.grpc),
                "model_name": "digits",
                "signature_name": "serving_default",
                "mode": "duet",
                "spec_values": {"rate_rps": 60.0, "block_seconds": 0.5, "looks": (pairs,)},
            },
            payload_path=payload,
            work_path=Path(folder) / "work",
        )
        created: list[float] = []
        create = cluster.create

        def note(manifest: dict[str, Any]) -> dict[str, Any]:
            created.append(time.time())
            return create(manifest)

        cluster.create = note  # type: ignore[method-assign]
        measured = run_load_job(job, lambda _: lambda _table: StopDecision(False, ""), lambda _: None)
        first = min(measured.table["sent_at_ns"].to_pylist()) / 1e9
        return measured.metadata.host, first - created[0]


def main() -> int:
    """Prints the figures of one run of each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--generators", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=10)
    given = parser.parse_args()
    held, first_seconds = measure(ProcessCluster(), given.generators, given.pairs)
    started, _ = measure(StartedOnlyCluster(), given.generators, given.pairs)
    for name, host in (("held", held), ("started at the instant", started)):
        print(
            f"{name}: start skew of {given.generators} generators, median {host['start_skew_ms']} ms, "
            f"most {host['start_skew_most_ms']} ms; CPU busy {host['cpu_busy_share']:.0%}"
        )
    ratio = started["start_skew_ms"] / max(held["start_skew_ms"], 1e-3)
    print(f"ratio of medians {ratio:.1f}; Job creation to first request {first_seconds:.1f} s")
    return int(held["start_skew_ms"] > WANTED_MS)


if __name__ == "__main__":
    sys.exit(main())
