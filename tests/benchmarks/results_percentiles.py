"""Exact percentiles of ten million latencies against bare numpy, and the histogram beside, in one run."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from model_load_test.components.results.histogram import histogram
from model_load_test.components.results.percentile import percentiles

LATENCIES = 10_000_000
RUNS = 5
QS = (50.0, 90.0, 95.0, 99.0, 99.9)


def best_of(work: Callable[[], object]) -> float:
    """CPU seconds of the fastest of several runs."""
    seconds = []
    for _ in range(RUNS):
        begin = time.process_time()
        work()
        seconds.append(time.process_time() - begin)
    return min(seconds)


def main() -> None:
    """Measures and prints a table."""
    latency_ns = (np.random.default_rng(0).gamma(4.0, 2.5e6, LATENCIES) + 1e6).astype(np.int64)
    ranks = [int(np.ceil(q * LATENCIES / 100)) - 1 for q in QS]
    bare = best_of(lambda: np.partition(latency_ns, ranks)[ranks])
    by_numpy = best_of(lambda: np.percentile(latency_ns, QS, method="inverted_cdf"))
    ours = best_of(lambda: percentiles(latency_ns, QS))
    of_histogram = best_of(lambda: [histogram(latency_ns).percentile(50)])
    print("| 10 000 000 latencies, 5 percentiles | CPU s | ratio | wanted |")
    print("|---|---|---|---|")
    print(f"| ours, exact | {ours:.3f} | | |")
    print(f"| numpy.partition | {bare:.3f} | {ours / bare:.2f} | 1.2 |")
    print(f"| numpy.percentile, inverted_cdf | {by_numpy:.3f} | {ours / by_numpy:.2f} | |")
    print(f"| histogram (0.8 %), made from rows | {of_histogram:.3f} | | |")


if __name__ == "__main__":
    main()
