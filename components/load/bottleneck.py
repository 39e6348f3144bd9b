"""Where a request's time went, and what kept the load from being more: generator, network, server.

The verdict follows from numbers of one run, and is said together with them:

1. The generator, if fewer requests were sent than asked for, or they were sent late, while
   something of its own was used up: a core, the node's cores, ports or open files.
2. Else the mean latency is split into the wait in the generator (sent later than scheduled), what
   lies between the client's and the server's clocks (network, proxy), the wait in the server, and
   the rest of the server's time. The part that is at least half of it is the bottleneck.
3. Else nothing stands out: unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
import numpy as np
import pyarrow as pa

from model_load_test.components.load.blocks import TIMER_JITTER_NS
from model_load_test.components.load.counters import ServerTimes
from model_load_test.components.results import columns

Verdict = Literal["generator", "network or proxy", "server queue", "server compute", "unknown"]

SENT_SHARE: Final = 0.97
"""Below this share of the asked rate the load fell short, as in `results.validity`."""
LATE_SHARE: Final = 0.05
CORE_SHARE: Final = 0.90
"""Of a core, of all cores, of ports and files: from here on it is used up."""
NODE_BUSY_SHARE: Final = 0.95
LEADING_SHARE: Final = 0.50
TRANSPORT_SECONDS: Final = 2e-3
"""What client and server may take to handle a message themselves, outside the server's clock. Less
than this is never laid to the network (embedded server, gRPC, loopback: 0.5 to 1 ms)."""
REQUESTS_DIFFER: Final = 0.20
"""If the server counted so many more or fewer requests than were sent, its times are of others too."""
_EXHAUSTED: Final = ("cannot assign requested address", "too many open files", "address already in use")


class Bottleneck(msgspec.Struct, frozen=True, omit_defaults=True):
    """What limited the load of one arm."""

    verdict: Verdict
    detail: str
    """The evidence in a sentence, with its numbers."""
    numbers: dict[str, float] = {}
    """The same for programs; seconds, shares and counts, finite."""


@dataclass(frozen=True)
class ArmEvidence:
    """What the requests of one arm say."""

    offered_rps: float | None
    """Asked for; None in a closed loop."""
    achieved_rps: float
    sent: int
    ok: int
    mean_seconds: float
    """Of successful requests, from their schedule where it is known."""
    wait_seconds: float
    """The part of the mean that they waited in the generator."""
    late_share: float
    """Share of all requests sent noticeably later than scheduled."""
    exhausted: int
    """Requests that failed because the generator's machine had no port or file left."""
    server: ServerTimes | None
    server_missing: str = ""
    """Why the server's own times are not known."""
    connect_seconds: float | None = None

    @property
    def in_flight(self) -> float:
        """Little's law: how many successful requests were under way on average."""
        share_ok = self.ok / self.sent if self.sent else 0.0
        return self.achieved_rps * share_ok * self.mean_seconds


def arm_evidence(
    rows: pa.Table,
    offered_rps: float | None,
    measured_seconds: float,
    server: ServerTimes | None,
    server_missing: str = "",
    connect_seconds: float | None = None,
) -> ArmEvidence:
    """Gathers the evidence of one arm.

    Args:
        rows: The arm's rows, at least one, of the time between the looks at the server's counters.
        offered_rps: Rate asked for; None in a closed loop.
        measured_seconds: How long the arm was loaded.
        server: What its server says about the same requests.
        server_missing: Why there is no such thing.
        connect_seconds: Time to open a connection to the server.
    """
    latency_ns = columns.numbers(rows["latency_ns"], np.int64)
    sent_at_ns = columns.numbers(rows["sent_at_ns"], np.int64)
    scheduled = columns.not_null(rows["scheduled_at_ns"])
    late_ns = np.where(scheduled, sent_at_ns - columns.numbers(rows["scheduled_at_ns"], np.int64), 0)
    late_ns = np.where(late_ns > TIMER_JITTER_NS, late_ns, 0)
    ok = columns.truths(rows["ok"])
    of_row, errors = columns.texts(rows["error"])
    used_up = [any(text in error.lower() for text in _EXHAUSTED) for error in errors] or [False]
    return ArmEvidence(
        offered_rps=offered_rps,
        achieved_rps=rows.num_rows / measured_seconds if measured_seconds > 0 else 0.0,
        sent=rows.num_rows,
        ok=int(np.count_nonzero(ok)),
        mean_seconds=float(latency_ns[ok].mean()) / 1e9 if ok.any() else 0.0,
        wait_seconds=float(late_ns[ok].mean()) / 1e9 if ok.any() else 0.0,
        late_share=float(np.count_nonzero(late_ns)) / rows.num_rows,
        exhausted=int(np.count_nonzero(np.array(used_up)[of_row])),
        server=server,
        server_missing=server_missing,
        connect_seconds=connect_seconds,
    )


def find_bottleneck(arm: ArmEvidence, machine: Mapping[str, float], cores: int) -> Bottleneck:
    """The bottleneck of one arm.

    Args:
        arm: What its requests and its server say.
        machine: `SaturationWatch.summary`; `generator_process_limit` in it is how many cores one
            generator process can use, where that is fewer than all.
        cores: Cores of the generator's machine.
    """
    numbers = _numbers(arm)
    short = arm.offered_rps is not None and arm.achieved_rps < SENT_SHARE * arm.offered_rps
    used_up = _used_up(arm, machine, cores)
    if used_up and (short or arm.late_share >= LATE_SHARE or arm.exhausted):
        detail = f"{_sending(arm)} while {' and '.join(used_up)}"
        return Bottleneck("generator", detail, {**numbers, **_evidence_of_machine(machine)})
    if not arm.ok:
        return Bottleneck("unknown", "no request was answered, so no time can be split", numbers)
    if arm.server is None:
        return _without_server(arm, numbers)
    told = _other_clients(arm, arm.server)
    if told:
        return Bottleneck("unknown", told, numbers)
    return _split(arm, arm.server, numbers)


def _split(arm: ArmEvidence, server: ServerTimes, numbers: dict[str, float]) -> Bottleneck:
    parts = _parts(arm, server)
    whole = sum(parts.values())
    leading = max(parts, key=lambda part: parts[part])
    share = parts[leading] / whole if whole > 0 else 0.0
    told = f"of the mean latency of {_ms(whole)}: {_split_text(parts)}"
    if share < LEADING_SHARE:
        return Bottleneck("unknown", f"no part is half {told}", numbers)
    if leading == "network or proxy" and parts[leading] < TRANSPORT_SECONDS:
        detail = f"nothing stood out: handling a message takes as much as lies outside the server, {told}"
        return Bottleneck("unknown", detail, numbers)
    if leading == "network or proxy" and arm.connect_seconds is not None:
        told += f"; a connection opens in {_ms(arm.connect_seconds)}"
        if arm.connect_seconds < 0.1 * parts[leading]:
            told += ", so the network's own way is short: look at proxies, and at the server's accept queue"
    if leading == "server queue":
        told += f"; {arm.in_flight:.1f} requests were in flight on average"
        if not server.queue_is_told:
            told += " (its wait is what its request latency has beyond the model's run)"
    return Bottleneck(leading, f"{share:.0%} {told}", numbers)


def _parts(arm: ArmEvidence, server: ServerTimes) -> dict[Verdict, float]:
    between = arm.mean_seconds - arm.wait_seconds - server.mean_seconds
    return {
        "generator": arm.wait_seconds,
        "network or proxy": max(0.0, between),
        "server queue": server.queue_seconds,
        "server compute": server.compute_seconds,
    }


_PART_TEXTS: Final[Mapping[Verdict, str]] = {
    "generator": "waiting in the generator",
    "network or proxy": "between client and server",
    "server queue": "waiting in the server",
    "server compute": "the server's work",
}


def _split_text(parts: Mapping[Verdict, float]) -> str:
    texts = [f"{_PART_TEXTS[part]} {_ms(seconds)}" for part, seconds in parts.items() if seconds > 0]
    return ", ".join(texts)


def _without_server(arm: ArmEvidence, numbers: dict[str, float]) -> Bottleneck:
    connect = arm.connect_seconds
    if connect is not None and connect >= max(LEADING_SHARE * arm.mean_seconds, TRANSPORT_SECONDS):
        detail = f"to open a connection takes {_ms(connect)}, a request {_ms(arm.mean_seconds)} on average"
        return Bottleneck("network or proxy", detail, numbers)
    why = arm.server_missing or "the server's own times are not known"
    return Bottleneck("unknown", f"a request took {_ms(arm.mean_seconds)} on average, and {why}", numbers)


def _other_clients(arm: ArmEvidence, server: ServerTimes) -> str:
    """Whether the server's counters are of other requests than ours, in words; empty when not."""
    spare = REQUESTS_DIFFER * arm.sent + 20
    if arm.ok - spare <= server.requests <= arm.sent + spare:
        return ""
    return (
        f"the server counted {server.requests:.0f} requests where {arm.sent} were sent: others load it too, "
        "or several replicas share the load and one was asked; its times say nothing of these requests"
    )


def _used_up(arm: ArmEvidence, machine: Mapping[str, float], cores: int) -> list[str]:
    texts = []
    limit = machine.get("generator_process_limit", float(cores))
    peak = machine.get("generator_process_peak", 0.0)
    wanted = machine.get("generator_process_wanted", peak)
    if max(peak, wanted) >= CORE_SHARE * limit:
        used = f"a generator process used {peak:.2f} of the {_cores(limit)} it can use"
        texts.append(used if peak >= CORE_SHARE * limit else f"{used} and wanted {wanted:.2f}")
    own_cores = machine.get("generator_cores", 0.0)
    busy = machine.get("node_busy_share", 0.0)
    if busy >= NODE_BUSY_SHARE and own_cores >= 0.5 * busy * cores:
        texts.append(f"its machine was {busy:.0%} busy, {own_cores:.1f} of {cores} cores with the generators")
    for name, what in (("ports_share", "ephemeral ports"), ("descriptors_share", "open files")):
        if machine.get(name, 0.0) >= CORE_SHARE:
            texts.append(f"{machine[name]:.0%} of its {what} were used")
    if arm.exhausted:
        texts.append(f"{arm.exhausted} requests found no free port or file")
    return texts


def _cores(count: float) -> str:
    return "one core" if count == 1 else f"{count:g} cores"


def _sending(arm: ArmEvidence) -> str:
    sent = f"{arm.achieved_rps:.0f} requests/s were sent"
    if arm.offered_rps is not None:
        sent += f" where {arm.offered_rps:.0f} were asked for"
    if arm.late_share:
        sent += f", {arm.late_share:.0%} of them late"
    return sent


def _numbers(arm: ArmEvidence) -> dict[str, float]:
    numbers = {
        "requests": float(arm.sent),
        "achieved_rps": arm.achieved_rps,
        "client_mean_seconds": arm.mean_seconds,
        "generator_wait_seconds": arm.wait_seconds,
        "late_share": arm.late_share,
        "in_flight": arm.in_flight,
    }
    if arm.offered_rps is not None:
        numbers["offered_rps"] = arm.offered_rps
    if arm.connect_seconds is not None:
        numbers["connect_seconds"] = arm.connect_seconds
    if arm.server is not None:
        numbers |= {
            "server_requests": arm.server.requests,
            "server_mean_seconds": arm.server.mean_seconds,
            "server_queue_seconds": arm.server.queue_seconds,
            "server_in_flight": arm.server.mean_seconds * arm.achieved_rps,
        }
        if arm.server.p95_at_most_seconds is not None:
            numbers["server_p95_at_most_seconds"] = arm.server.p95_at_most_seconds
    return {name: round(number, 9) for name, number in numbers.items()}


def _evidence_of_machine(machine: Mapping[str, float]) -> dict[str, float]:
    names = (
        "generator_process_peak",
        "generator_process_wanted",
        "generator_cores",
        "node_busy_share",
        "ports_share",
        "descriptors_share",
    )
    return {name: machine[name] for name in names if name in machine}


def bottlenecks_of(host: Mapping[str, Any]) -> dict[str, Bottleneck]:
    """The bottleneck of each arm, as `RunMetadata.host` holds them; none where a run looked for none."""
    try:
        return msgspec.convert(host.get("bottleneck") or {}, dict[str, Bottleneck])
    except msgspec.ValidationError:  # a file of another version: what it says is lost, not the run
        return {}


def bottleneck_line(found: Mapping[str, Bottleneck]) -> str:
    """One sentence for a report: the candidate's bottleneck, and the baseline's where it is another."""
    if not found:
        return ""
    arms: Sequence[str] = sorted(found, key=lambda arm: arm != "candidate")
    first = found[arms[0]]
    line = f"The bottleneck was: {first.verdict} ({first.detail})"
    for arm in arms[1:]:
        other = found[arm]
        if other.verdict != first.verdict:
            line += f"; for the {arm}: {other.verdict} ({other.detail})"
    return f"{line}."


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"
