"""Coverage-guided fuzzing of the readers: any bytes give a summary that adds up, or a ResultsError.

Run `python tests/fuzz/fuzz_readers.py --seconds 60`. It starts from `tests/fuzz/corpus` and keeps what it
learns in `build/fuzz`; an input that breaks the promise is written there as `crash-*` and the exit code is
not 0. Copy such an input to the corpus once it is mended: `tests/results/test_results_corpus.py` reads
every file of it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["model_load_test.components.results"]):
    from model_load_test.components.results.errors import ResultsError
    from model_load_test.components.results.readers import read_report
    from model_load_test.components.results.report_summary import summarize_report
    from model_load_test.components.results.summary import to_json_values

CORPUS = Path(__file__).parent / "corpus"
LEARNT = Path("build/fuzz/learnt")
LONGEST_INPUT = 1 << 14
SLOWEST_SECONDS = 10
WORDS = (
    *(
        '"details"',
        '"count"',
        '"total"',
        '"average"',
        '"rps"',
        '"qps"',
        '"latency"',
        '"timestamp"',
        '"status"',
    ),
    *(
        '"error"',
        '"options"',
        '"endReason"',
        '"timeout"',
        '"cancel"',
        '"Unavailable"',
        '"concurrency"',
        '"async"',
    ),
    *(
        '"statusCodeDistribution"',
        '"errorDistribution"',
        '"latencyDistribution"',
        '"skipFirst"',
        '"metadata"',
    ),
    *('"seq"', '"code"', '"attack"', '"body"', '"headers"', '"latencies"', '"requests"', '"status_codes"'),
    *(
        '"success"',
        '"earliest"',
        '"latest"',
        '"num_requests"',
        '"response_times"',
        '"num_failures"',
        '"start_time"',
    ),
    *(
        "9223372036854775807",
        "9223372036854775808",
        "-1",
        "1e308",
        "NaN",
        "null",
        "[]",
        "{}",
        "1.0",
        "\\\\u0022",
    ),
    *(
        "2026-11-21T11:16:15.123456789Z",
        "0001-01-01T00:00:00Z",
        "2300-01-01T00:00:00Z",
        "+02:00",
        "\\x1f\\x8b",
    ),
)


def check_one(data: bytes, path: Path) -> None:
    """Reads `data` as a report; raises whatever must not happen."""
    path.write_bytes(data)
    try:
        report = read_report(path)
        summaries = summarize_report(report)
    except ResultsError as error:
        assert str(error)
        assert error.code
        return
    for summary in summaries:
        json.dumps(to_json_values(summary), allow_nan=False)
        if summary.ok is not None and summary.failed is not None:
            assert summary.ok >= 0
            assert summary.failed >= 0
            assert summary.requests == summary.ok + summary.failed
        if report.has_rows:
            assert sum(summary.status_counts.values()) == summary.requests
        assert summary.cut_off >= 0
        assert summary.duration_seconds is None or summary.duration_seconds >= 0


def main() -> None:
    """Parses the arguments and fuzzes; libFuzzer ends the process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    os.environ["PATH"] = ""  # no vegeta: its gob decoder is not ours to fuzz
    LEARNT.mkdir(parents=True, exist_ok=True)
    words = LEARNT.parent / "words.dict"
    words.write_text("".join(f'"{word.replace(chr(34), chr(92) + chr(34))}"\n' for word in WORDS))
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        path = Path(folder) / "report"
        atheris.Setup(
            [
                sys.argv[0],
                f"-max_total_time={arguments.seconds}",
                f"-max_len={LONGEST_INPUT}",
                f"-timeout={SLOWEST_SECONDS}",
                "-rss_limit_mb=2048",
                f"-dict={words}",
                f"-artifact_prefix={LEARNT.parent}/",
                "-print_final_stats=1",
                str(LEARNT),
                str(CORPUS),
            ],
            lambda data: check_one(data, path),
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
