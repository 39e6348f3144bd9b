"""Samples of one quantity over time, as a source read them, on the load's clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from model_load_test.components.results.checks import Check

Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

Kind = Literal["counter", "gauge", "buckets"]
"""`counter` only rises until its owner is started anew; `buckets` are a histogram's cumulative counters,
one series per upper limit."""

ARMS: Final = ("candidate", "baseline")
_ROUNDS_LATE: Final = 1.5


@dataclass(frozen=True)
class Series:
    """One quantity of one replica."""

    metric: str
    """Our name for it, with its SI unit where that is not a count: `cpu_seconds`, `memory_bytes`."""
    kind: Kind
    arm: str
    replica: str
    """Pod, instance or process."""
    source: str
    """Who told: `prometheus`, `page`, `process`, `cgroup`, `kubernetes`, `cloud-monitoring`."""
    at_ns: Int64s
    """Unix time on the load's clock, rising."""
    values: Floats
    """As many as there are times."""
    signature: str = ""
    """The model's signature or version where the source tells them apart."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What else tells series of one replica apart: a device, an API."""
    limit: float | None = None
    """Upper limit of a bucket, in the metric's unit; infinity for the last."""

    def __post_init__(self) -> None:
        if self.at_ns.size != self.values.size:
            raise ValueError(f"{self.metric}: {self.at_ns.size} times and {self.values.size} values")

    @property
    def key(self) -> tuple[str, str, str, str, tuple[tuple[str, str], ...], float | None]:
        """What no two series of a reading share."""
        labels = tuple(sorted(self.labels.items()))
        return self.metric, self.arm, self.replica, self.signature, labels, self.limit

    def moved(self, seconds: float) -> Series:
        """The same series with its times moved, to bring a source's clock to the load's."""
        return replace(self, at_ns=self.at_ns + round(seconds * 1e9)) if seconds else self


@dataclass(frozen=True)
class Window:
    """A stretch of time on the load's clock."""

    start_ns: int
    end_ns: int
    complete: bool = False
    """Whether to wait, within reason, for samples of its end that a source has not taken yet."""

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end_ns - self.start_ns) / 1e9

    def widened(self, seconds: float) -> Window:
        """The window with so much more at both ends, where the samples lie that its edges need."""
        more_ns = round(seconds * 1e9)
        return replace(self, start_ns=self.start_ns - more_ns, end_ns=self.end_ns + more_ns)


@dataclass(frozen=True)
class Reading:
    """What a source had to say of a window: series, and what to know about them."""

    series: tuple[Series, ...] = ()
    findings: tuple[Check, ...] = ()
    """Never with the consequence INVALID: a monitoring system that is down spoils no measurement."""


class ResourceSource(Protocol):
    """Where series come from: a function from a window of the load's clock to what was read of it.

    A source that can be asked afterwards asks when it is called; one that only knows the present is
    looked at by a `sampling.Sampler` while the load runs, which then is the source. A source that does
    not answer says so in its findings and never raises.
    """

    def __call__(self, window: Window) -> Reading:
        """Reads what is known of the window."""


def joined(readings: Iterable[Reading]) -> Reading:
    """Several sources' readings as one."""
    listed = list(readings)
    return Reading(
        tuple(series for reading in listed for series in reading.series),
        tuple(finding for reading in listed for finding in reading.findings),
    )


def with_beginnings(series: Iterable[Series]) -> tuple[Series, ...]:
    """Gives counters that appear later than their replica the zero that they began with.

    Many servers show a counter only once it has counted something (TF Serving does), so that its first
    sample holds what happened since the look before, at which others of the replica were there already.
    """
    listed = list(series)
    looks: dict[tuple[str, str, str], set[int]] = {}
    for one in listed:
        looks.setdefault((one.arm, one.replica, one.source), set()).update(one.at_ns.tolist())
    ordered = {key: np.array(sorted(times), dtype=np.int64) for key, times in looks.items()}
    return tuple(_with_beginning(one, ordered[one.arm, one.replica, one.source]) for one in listed)


def _with_beginning(series: Series, looks_ns: Int64s) -> Series:
    if series.kind == "gauge" or not series.at_ns.size:
        return series
    earlier = int(np.searchsorted(looks_ns, series.at_ns[0]))
    usual_ns = (
        float(np.median(np.diff(series.at_ns if series.at_ns.size > 1 else looks_ns))) if earlier else 0
    )
    # containers of a pod are looked at one after the other: less than a round apart none of them is new
    if not earlier or series.at_ns[0] - looks_ns[0] < _ROUNDS_LATE * usual_ns:
        return series
    return replace(
        series,
        at_ns=np.insert(series.at_ns, 0, looks_ns[earlier - 1]),
        values=np.insert(series.values, 0, 0.0),
    )


def series_of(samples: Sequence[tuple[int, float]]) -> tuple[Int64s, Floats]:
    """Times and values of samples in any order, each time once (the later sample of a time counts)."""
    ordered = sorted(dict(samples).items())
    at_ns = np.array([at for at, _ in ordered], dtype=np.int64)
    return at_ns, np.array([value for _, value in ordered], dtype=np.float64)
