"""How good the capacity search is, on a simulated server whose capacity is known.

nice -n 19 python tests/benchmarks/capacity_search.py [--runs 200] [--speed-sd 0.05]
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from capacity_simulator import QueueingServer

from model_load_test.components.load.capacity.search import Found, SearchPlan, search


def run(server: QueueingServer, seconds: float, rng: np.random.Generator, seed: int) -> Found:
    """One whole search."""
    steps = search(SearchPlan(allowed=(0.01,), start=167.0, lowest=1.0, highest=3200.0, seed=seed))
    level = next(steps)
    while True:
        try:
            level = steps.send(server.probe(level, seconds, rng))
        except StopIteration as end:
            found: Found = end.value
            return found


def main() -> int:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    arguments = parser.parse_args()
    print(
        "| speed sd | probe s | true | probes | estimate, bias | sd | 80 % interval covers "
        "| confirmed, bias | confirmed > 5 % too high |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for speed_sd in (0.0, 0.05, 0.1):
        for seconds in (5.0, 15.0):
            rng = np.random.default_rng([2026, int(100 * speed_sd), int(seconds)])
            server = QueueingServer(speed_sd=speed_sd)
            truth = server.true_capacity(0.01, seconds, rng)
            found = [run(server, seconds, rng, seed) for seed in range(arguments.runs)]
            estimates = np.log([one.estimate or np.nan for one in found]) - np.log(truth)
            confirmed = np.log([one.confirmed or np.nan for one in found]) - np.log(truth)
            covers = np.mean([(one.lower or 0) <= truth <= (one.upper or 0) for one in found])
            print(
                f"| {speed_sd:.2f} | {seconds:.0f} | {truth:.0f} "
                f"| {np.mean([len(one.probes) for one in found]):.1f} "
                f"| {100 * np.nanmean(estimates):+.1f} % | {100 * np.nanstd(estimates):.1f} % "
                f"| {100 * covers:.0f} % | {100 * np.nanmean(confirmed):+.1f} % "
                f"| {100 * np.nanmean(confirmed > 0.05):.1f} % ({np.isnan(confirmed).mean():.2f} none) |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
