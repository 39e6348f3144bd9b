"""Looking up the newest passing runs, against reading artifacts by type, as the store grows.

    python tests/benchmarks/baseline_latest.py [--runs 1000 10000 100000] [--stores sqlite file]

50 keys share the runs evenly; every tenth run failed; every run has 19 numbers. `record` and `latest`
are medians, the naive way (all records of the store, filtered here) is taken once. Times depend on the
machine, so read the ratios: our lookup against the naive one in the same run, and the largest store
against the smallest. A last line per store holds the figures against their aims. Filling 100 000 runs
through `record` takes minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from model_load_test.components.baseline.fingerprint import Fingerprint
from model_load_test.components.baseline.key import BaselineKey
from model_load_test.components.baseline.mlmd import RECORD_TYPE
from model_load_test.components.baseline.record import Record, decode_record
from model_load_test.components.baseline.store import BaselineStore, open_store

KEYS = 50
METRICS = 19
WANTED = 20
TRIES = 41
AIMS_MS = {"sqlite": 10.0, "file": 50.0}
LARGEST_RATIO = 8.0
RECORD_MS = 20.0


def main() -> None:
    """Fills the stores and prints a row for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--stores", nargs="+", choices=("sqlite", "file"), default=["sqlite", "file"])
    arguments = parser.parse_args()
    row = "{:<8}{:>8}{:>12}{:>12}{:>14}{:>12}{:>16}"
    print(row.format("store", "runs", "record ms", "latest ms", "of smallest", "naive ms", "naive/latest"))
    for store_name in arguments.stores:
        with tempfile.TemporaryDirectory() as folder:
            scheme = {"sqlite": "mlmd+sqlite", "file": "file"}[store_name]
            path = Path(folder) / "store"
            with contextlib.closing(open_store(f"{scheme}://{path}")) as store:
                smallest_ms, filled = 0.0, 0
                for runs in sorted(arguments.runs):
                    record_ms = fill(store, filled, runs)
                    filled = runs
                    latest_ms = median_ms(lambda store=store: store.latest(key_of(0), WANTED), TRIES)
                    smallest_ms = smallest_ms or latest_ms
                    naive_ms = (by_type_ms if store_name == "sqlite" else by_files_ms)(path, store)
                    naive = f"{naive_ms:.0f}", f"{naive_ms / latest_ms:.0f}"
                    shown = f"{record_ms:.2f}", f"{latest_ms:.2f}", f"{latest_ms / smallest_ms:.2f}"
                    print(row.format(store_name, runs, *shown, *naive), flush=True)
                print(judged(store_name, latest_ms, latest_ms / smallest_ms, record_ms), flush=True)


def fill(store: BaselineStore, first: int, end: int) -> float:
    """Records runs and returns the median time of one in milliseconds."""
    times = []
    for number in range(first, end):
        record = record_of(number)
        started = time.perf_counter()
        store.record(record.key, record)
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


def key_of(number: int) -> BaselineKey:
    """One of the keys."""
    return BaselineKey(
        namespace="team", model_name=f"model-{number % KEYS}", load_spec_hash="spec", fingerprint_hash="here"
    )


def record_of(number: int) -> Record:
    """The run of a number; its key and verdict do not depend on each other."""
    return Record(
        run_id=f"run-{number}",
        key=key_of(number),
        metrics={f"metric_{index}": number + index / 7 for index in range(METRICS)},
        fingerprint=Fingerprint(server_kind="tf-serving"),
        load_spec={"rate_rps": 200},
        verdict="FAIL" if number // KEYS % 10 == 9 else "PASS",
        created_at_ns=1_700_000_000_000_000_000 + number * 60_000_000_000,
    )


def judged(store_name: str, latest_ms: float, ratio: float, record_ms: float) -> str:
    """The figures of the largest store against what they shall not exceed."""
    aims = {
        "latest": (latest_ms, AIMS_MS[store_name]),
        "largest/smallest": (ratio, LARGEST_RATIO),
        "record": (record_ms, RECORD_MS),
    }
    words = (
        f"{name} {value:.2f} {'<=' if value <= aim else 'MISSES'} {aim:g}"
        for name, (value, aim) in aims.items()
    )
    return f"{store_name}: {', '.join(words)}"


def median_ms(work: Callable[[], object], tries: int) -> float:
    """The middle one of `tries` times of `work`, in milliseconds."""
    times = []
    for _ in range(tries):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


def by_files_ms(path: Path, store: BaselineStore) -> float:
    """What users write without an index: all files of records, filtered and sorted here."""

    def read() -> list[Record]:
        records = map(decode_record, (file.read_bytes() for file in path.glob("mlt1/*/*/*/runs/*.json")))
        return newest_of_key(records)

    return naive_ms(read, store)


def by_type_ms(path: Path, store: BaselineStore) -> float:
    """What users write: all artifacts of the type, filtered and sorted here. It must find the same."""
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2

    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(path)
    client = metadata_store.MetadataStore(config)

    def read() -> list[Record]:
        artifacts = client.get_artifacts_by_type(RECORD_TYPE)
        texts = (artifact.custom_properties["model_load_test_record"].string_value for artifact in artifacts)
        return newest_of_key(map(decode_record, texts))

    return naive_ms(read, store)


def newest_of_key(records: Iterable[Record]) -> list[Record]:
    """The newest passing runs of the first key."""
    found = [record for record in records if record.key == key_of(0) and record.passing]
    return sorted(found, key=lambda record: -record.created_at_ns)[:WANTED]


def naive_ms(read: Callable[[], list[Record]], store: BaselineStore) -> float:
    """The time of one naive lookup, which must find the same."""
    started = time.perf_counter()
    found = read()
    elapsed_ms = (time.perf_counter() - started) * 1e3
    if found != store.latest(key_of(0), WANTED):
        raise SystemExit("the two lookups disagree")
    return elapsed_ms


if __name__ == "__main__":
    main()
