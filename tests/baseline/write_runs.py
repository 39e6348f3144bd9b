"""One of several writers at the same time.

    python write_runs.py STORE_URI KEY_JSON WRITER COUNT

Records COUNT runs of its own, and COUNT runs that every writer records.
"""

import sys

import msgspec

from model_load_test.components.baseline.fingerprint import Fingerprint
from model_load_test.components.baseline.key import BaselineKey
from model_load_test.components.baseline.lookup import ask_store
from model_load_test.components.baseline.record import Record

STARTED_NS = 1_760_000_000_000_000_000


def main(uri: str, key_json: str, writer: str, count: str) -> None:
    key = msgspec.json.decode(key_json, type=BaselineKey)
    for number in range(int(count)):
        for run_id in (f"own-{writer}-{number}", f"shared-{number}"):
            record = Record(
                run_id=run_id,
                key=key,
                metrics={"p50_ms": 1.0},
                fingerprint=Fingerprint(server_kind="tf-serving"),
                load_spec={},
                verdict="PASS",
                created_at_ns=STARTED_NS + number * 1000 + int(writer),
            )
            ask_store(uri, lambda store, record=record: store.record(key, record), time_limit_seconds=200)


if __name__ == "__main__":
    main(*sys.argv[1:])
