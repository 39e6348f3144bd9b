"""Wall time of `model-load-test summarize` of a small report, imports included."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

REPORT = Path(__file__).resolve().parent.parent / "fuzz" / "corpus" / "ghz-0.120.0-unavailable.json"
RUNS = 15
PROGRAM = "import sys; from model_load_test.pipelines.command_line import main; sys.exit(main())"


def wall_seconds(arguments: list[str]) -> float:
    """The fastest of several runs."""
    seconds = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def main() -> None:
    """Measures and prints a table."""
    print("| | wall s | wanted |")
    print("|---|---|---|")
    print(
        f"| summarize a small report | {wall_seconds(['-c', PROGRAM, 'summarize', str(REPORT)]):.3f} | 0.4 |"
    )
    print(f"| import numpy and pyarrow only | {wall_seconds(['-c', 'import numpy, pyarrow']):.3f} | |")
    print(f"| python only | {wall_seconds(['-c', '']):.3f} | |")


if __name__ == "__main__":
    main()
