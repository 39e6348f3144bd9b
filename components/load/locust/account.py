"""What a Locust worker says about itself, and what that means for the measurement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from model_load_test.components.results.checks import Check, Consequence

_NAME: Final = "account-{worker:04d}.json"

BUSY_SHARE_TOLD: Final = 0.01
BUSY_SHARE_INVALID: Final = 0.10
LATE_SHARE_TOLD: Final = 0.05
CPU_SHARE_TOLD: Final = 0.90
"""Locust's own limit: from 90 % of a core its measurements are doubtful."""
EXCEPTIONS_SHARE_INVALID: Final = 0.05


class WorkerAccount(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's account of one run."""

    worker: int
    users: int
    turns: int
    """Requests the timetable had for this worker."""
    rows: int
    """Requests that were recorded."""
    drawn_late: int = 0
    """Turns that were due before any user was free to take them: there the loop was closed."""
    woken_late: int = 0
    """Requests a free user sent more than the timer's jitter after their time: the process was busy."""
    latest_seconds: float = 0.0
    """How late the latest request was sent."""
    unanswered: int = 0
    """Requests under way when the worker was stopped; they are no rows."""
    requests_before_start: int = 0
    """Requests that a locustfile's own `on_start` sent; they are no rows."""
    exceptions: dict[str, int] = {}
    """What tasks raised, by text."""
    load_seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Processor time of the worker from start to end of the load; Locust uses one core at most."""
    waited_seconds: float = 0.0
    """Time of the load in which the worker was ready to run and got no core."""
    cpu_warnings: int = 0
    """Locust's own warnings of more than 90 % of a core."""
    highest_cpu_percent: float = 0.0
    """As Locust sampled it."""
    version: str = ""

    @property
    def cpu_share(self) -> float:
        """Share of one core used over the load."""
        return self.cpu_seconds / self.load_seconds if self.load_seconds > 0 else 0.0

    @property
    def wanted_share(self) -> float:
        """Share of one core used or waited for; at 1 the worker never had nothing to do."""
        waited = self.waited_seconds / self.load_seconds if self.load_seconds > 0 else 0.0
        return self.cpu_share + waited


def write_account(folder: Path, account: WorkerAccount) -> None:
    """Writes the account beside the rows."""
    (folder / _NAME.format(worker=account.worker)).write_bytes(msgspec.json.encode(account))


def read_accounts(folder: Path) -> list[WorkerAccount]:
    """The accounts of the workers that lived to write one."""
    accounts = []
    for path in sorted(folder.glob(_NAME.format(worker=0).replace("0000", "*"))):
        try:
            accounts.append(msgspec.json.decode(path.read_bytes(), type=WorkerAccount))
        except msgspec.DecodeError:
            continue
    return accounts


def findings(accounts: Sequence[WorkerAccount]) -> list[Check]:
    """What the accounts of a whole run, all arms and segments, say against it."""
    return [*_busy(accounts), *_late(accounts), *_cpu(accounts), *_exceptions(accounts), *_setup(accounts)]


def _busy(accounts: Sequence[WorkerAccount]) -> Iterator[Check]:
    late, turns = sum(one.drawn_late for one in accounts), sum(one.turns for one in accounts)
    share = late / turns if turns else 0.0
    if share < BUSY_SHARE_TOLD:
        return
    users = max(one.users for one in accounts)
    yield _check(
        "locust-users-busy",
        f"All {users} Locust users were still waiting for answers when {late} of {turns} requests "
        f"({share:.1%}) were due: for these the loop was closed, and their wait is counted into their "
        "latency. Give more users, a shorter timeout or a lower rate",
        "INVALID" if share >= BUSY_SHARE_INVALID else "WARNING",
        {"late": late, "turns": turns, "users": users, "share": share},
    )


def _late(accounts: Sequence[WorkerAccount]) -> Iterator[Check]:
    late, turns = sum(one.woken_late for one in accounts), sum(one.turns for one in accounts)
    share = late / turns if turns else 0.0
    if share < LATE_SHARE_TOLD:
        return
    latest = max(one.latest_seconds for one in accounts)
    yield _check(
        "locust-late",
        f"Locust sent {late} of {turns} requests ({share:.1%}) later than they were due, the latest by "
        f"{1e3 * latest:.0f} ms, though users were free: its process had no time. Give it more workers "
        "or a lower rate",
        "WARNING",
        {"late": late, "turns": turns, "share": share, "latest_seconds": latest},
    )


def _cpu(accounts: Sequence[WorkerAccount]) -> Iterator[Check]:
    warnings = sum(one.cpu_warnings for one in accounts)
    if not accounts:
        return
    neediest = max(accounts, key=lambda one: one.wanted_share)
    if not warnings and neediest.wanted_share < CPU_SHARE_TOLD:
        return
    sampled = max(one.highest_cpu_percent for one in accounts)
    waited_share = neediest.wanted_share - neediest.cpu_share
    yield _check(
        "locust-cpu",
        f"A Locust process used {neediest.cpu_share:.0%} of the one core it can use and waited "
        f"{waited_share:.0%} of the time for it, and Locust warned {warnings} times of more than 90 % (peak "
        f"{sampled:.0f} %): latencies may be its own. Give it more workers, or quieter cores",
        "WARNING",
        {
            "cpu_share": neediest.cpu_share,
            "waited_share": waited_share,
            "warnings": warnings,
            "highest_cpu_percent": sampled,
        },
    )


def _exceptions(accounts: Sequence[WorkerAccount]) -> Iterator[Check]:
    raised: dict[str, int] = {}
    for account in accounts:
        for text, count in account.exceptions.items():
            raised[text] = raised.get(text, 0) + count
    if not raised:
        return
    turns, number = sum(one.turns for one in accounts), sum(raised.values())
    most = max(raised, key=lambda text: raised[text])
    yield _check(
        "locust-exceptions",
        f"Tasks of the locustfile raised {number} exceptions in {turns} turns, most often: {most}. Mend the "
        "locustfile; a task that raises may have sent nothing",
        "INVALID" if number >= EXCEPTIONS_SHARE_INVALID * turns else "WARNING",
        {"exceptions": number, "turns": turns},
    )


def _setup(accounts: Sequence[WorkerAccount]) -> Iterator[Check]:
    requests = sum(one.requests_before_start for one in accounts)
    if requests:
        yield _check(
            "locust-requests-before-start",
            f"The locustfile sent {requests} requests before the load began; they are not counted",
            "INFO",
            {"requests": requests},
        )


def core_shares(accounts: Sequence[WorkerAccount]) -> dict[str, float]:
    """What the neediest worker used of its core, and what it would have used, as the watch names it."""
    if not accounts:
        return {}
    return {
        "generator_process_peak": max(one.cpu_share for one in accounts),
        "generator_process_wanted": max(one.wanted_share for one in accounts),
    }


def _check(code: str, detail: str, consequence: Consequence, numbers: dict[str, float]) -> Check:
    return Check(
        code=code,
        detail=detail,
        consequence=consequence,
        numbers={name: float(number) for name, number in numbers.items()},
    )
