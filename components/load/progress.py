"""What a person sees while the load runs: a live line on a terminal, plain lines in a pod's log."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Final, TextIO, get_args

import numpy as np
import pyarrow as pa

from model_load_test.components.load.blocks import rows_of_arm
from model_load_test.components.load.schedule import WARMUP_BLOCK, Arm, Segment
from model_load_test.components.load.spec import LoadSpec
from model_load_test.components.results.percentile import percentile

BLOCKS_PER_LINE: Final = 5
"""A log gets a line after so many blocks, or after `SECONDS_PER_LINE`."""
SECONDS_PER_LINE: Final = 30.0

_SHOWN: Final = (50.0, 95.0)
_CLEAR_LINE: Final = "\r\x1b[K"


@dataclass(frozen=True)
class ProgressUpdate:
    """Something to show."""

    text: str
    live: bool = False
    """Whether the next one takes its place, where that is possible."""
    logged: bool = True
    """Whether it is worth a line where lines stay."""

    def __str__(self) -> str:
        return self.text


Progress = Callable[[ProgressUpdate], None]


def print_progress(update: ProgressUpdate, stream: TextIO | None = None) -> None:
    """Shows an update: on a terminal live ones in one line, elsewhere lines with the time."""
    stream = stream or sys.stdout
    if stream.isatty():
        text = fitted(update.text, shutil.get_terminal_size().columns) if update.live else update.text + "\n"
        stream.write(_CLEAR_LINE + text)
    elif update.logged:
        stream.write(f"{time.strftime('%H:%M:%S')} {update.text}\n")
    stream.flush()


def fitted(text: str, width: int) -> str:
    """`text`, cut where a terminal of that width would begin a second line."""
    return text if len(text) < width else text[: max(0, width - 2)] + "…"


@dataclass
class Standing:
    """What is known of a run so far, for its progress line; fed with each segment's rows."""

    spec: LoadSpec
    clock: Callable[[], float] = time.monotonic
    look: int = 0
    block: int = WARMUP_BLOCK
    _levels: dict[float, dict[Arm, dict[int, float]]] = field(default_factory=dict)
    _sent: dict[Arm, dict[int, int]] = field(default_factory=dict)
    _failed: dict[Arm, int] = field(default_factory=dict)
    _first_block_at: float | None = None
    _newest_done_at: float = 0.0
    _logged_at: float = -math.inf

    def begin(self, segment: Segment, look: int) -> None:
        """Notes what is loaded next."""
        self.block, self.look = segment.block, look
        if segment.block != WARMUP_BLOCK and self._first_block_at is None:
            self._first_block_at = self._logged_at = self.clock()

    def add(self, rows: pa.Table) -> None:
        """Takes the rows of a segment that is over."""
        self._newest_done_at = self.clock()
        for arm in get_args(Arm):
            own = rows_of_arm(rows, arm)
            if not own.num_rows:
                continue
            ok = own.filter(own["ok"])
            self._sent.setdefault(arm, {})[self.block] = own.num_rows
            self._failed[arm] = self._failed.get(arm, 0) + own.num_rows - ok.num_rows
            if ok.num_rows:
                latency_ns = ok["latency_ns"].to_numpy()
                for q in _SHOWN:
                    levels = self._levels.setdefault(q, {}).setdefault(arm, {})
                    levels[self.block] = percentile(latency_ns, q) / 1e6

    def update(self, *, pair_done: bool = False) -> ProgressUpdate:
        """The progress line as of now."""
        due = self.clock() - self._logged_at >= SECONDS_PER_LINE
        ends = pair_done and ((self.block + 1) % BLOCKS_PER_LINE == 0 or self.block + 1 in self.spec.looks)
        if due or ends:
            self._logged_at = self.clock()
        return ProgressUpdate(self.line(), live=True, logged=due or ends)

    def line(self) -> str:
        """One line, the most wanted first: where, how long still, rates, estimate, errors."""
        if self.block == WARMUP_BLOCK:
            return f"warm-up, {self.spec.warmup_seconds:g} s"
        parts = [self._place(), self._time_left(), self._rates(), self._estimate(), self._errors()]
        return "; ".join(part for part in parts if part)

    def _place(self) -> str:
        unit = "block" if self.spec.mode == "single" else "pair"
        looks = self.spec.looks
        return f"look {self.look + 1} of {len(looks)}, {unit} {self.block + 1} of {looks[self.look]}" + (
            f" (at most {looks[-1]})" if looks[self.look] != looks[-1] else ""
        )

    def _time_left(self) -> str:
        done = len({block for sent in self._sent.values() for block in sent})
        if not done or self._first_block_at is None:
            return ""
        seconds_per_pair = (self._newest_done_at - self._first_block_at) / done
        ends_at = [
            self._first_block_at + seconds_per_pair * pairs
            for pairs in dict.fromkeys((self.spec.looks[self.look], self.spec.max_pairs))
        ]
        left = [format_minutes(max(0.0, end - self.clock())) for end in ends_at]
        return f"{left[0]} left" + (f", at most {left[1]}" if len(left) > 1 else "")

    def _rates(self) -> str:
        spec = self.spec
        texts = []
        for arm, sent in self._sent.items():
            newest = [sent[block] for block in sorted(sent)[-BLOCKS_PER_LINE:]]
            texts.append(f"{arm} {sum(newest) / (len(newest) * spec.block_seconds):.0f}/s")
        offered = (
            f"{spec.concurrency} at once"
            if spec.concurrency
            else f"offered {spec.rate_of_block(self.block):g}/s"
        )
        return ", ".join((offered, *texts))

    def _estimate(self) -> str:
        """The typical ratio of the pairs so far, or the newest levels where there is one arm."""
        texts = []
        for q, levels in self._levels.items():
            candidate, baseline = levels.get("candidate", {}), levels.get("baseline", {})
            ratios = [candidate[block] / baseline[block] for block in candidate if block in baseline]
            if ratios:
                texts.append(f"p{q:g} {100 * (median(ratios) - 1):+.1f} %")
            elif candidate:
                texts.append(f"p{q:g} {np.mean(list(candidate.values())[-BLOCKS_PER_LINE:]):.2f} ms")
        return ", ".join(texts)

    def _errors(self) -> str:
        texts = [f"{arm} {failed}" for arm, failed in self._failed.items() if failed]
        return f"failed: {', '.join(texts)}" if texts else "none failed"


def format_minutes(seconds: float) -> str:
    """Minutes and seconds, or hours and minutes from one hour on: 1:05, 2 h 04."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d}"
    return f"{whole // 60}:{whole % 60:02d}"
