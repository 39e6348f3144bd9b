"""Finding the runs to compare with, within a time limit and by policy when the store is down."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from model_load_test.components.baseline.comparable import Circumstances, check_match, nearest_key
from model_load_test.components.baseline.discovery import resolve_store
from model_load_test.components.baseline.key import BaselineKey
from model_load_test.components.baseline.record import Record
from model_load_test.components.baseline.reference import (
    check_reference,
    choose_reference,
    runs_of_reference,
)
from model_load_test.components.baseline.store import (
    BaselineStore,
    StoreUnavailable,
    load_client,
    open_store,
)
from model_load_test.components.errors import InputError

_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")


class FoundBaseline(msgspec.Struct, frozen=True, kw_only=True):
    """What a search in a store came to."""

    history: tuple[Record, ...]
    """Passing runs, newest first; empty when there is no baseline."""
    reason: str
    """One sentence for the report."""
    store_answered: bool
    """False when the store was down: there may be a baseline that was not seen."""
    reference: Record | None = None
    """The run to compare with, by the policy asked for."""
    differences: tuple[str, ...] = ()
    """What differs from the key wished for, in words; only with a match that is not exact."""
    compared: tuple[str, ...] | None = None
    """Identifiers of the runs to judge against; None for the whole history."""

    def judged_against(self) -> tuple[Record, ...]:
        """The runs whose spread says what is normal: of the reference's model, where one was asked for."""
        if self.compared is None:
            return self.history
        return tuple(record for record in self.history if record.run_id in self.compared)


def find_baseline(
    store_uri: str,
    key: BaselineKey,
    n: int = 20,
    time_limit_seconds: float = 30.0,
    on_store_error: str = "no-baseline",
    *,
    reference: str = "latest",
    match: str = "exact",
    circumstances: Circumstances | None = None,
) -> FoundBaseline:
    """Looks up the newest passing runs of a key, and the one to compare with.

    Args:
        store_uri: See `store.open_store`; empty for none, as is `auto` where the place has none.
        key: What the runs must share.
        n: The most runs wanted.
        time_limit_seconds: A store that is down or slow is asked again until then.
        on_store_error: Afterwards: `no-baseline` goes on without one, `fail` raises.
        reference: See `reference.choose_reference`.
        match: See `comparable.nearest_key`.
        circumstances: This run's; wanted by a match that is not exact.

    Raises:
        InputError: The URI or a policy cannot be used.
        StoreUnavailable: The store did not answer, and `on_store_error` is `fail`.
    """
    if on_store_error not in ("no-baseline", "fail"):
        raise InputError("on_store_error", on_store_error, "use no-baseline or fail")
    if n < 1:
        raise InputError("n", n, "ask for at least one run")
    check_reference(reference)
    admitted = check_match(match)
    if match != "exact" and circumstances is None:
        raise InputError("match", match, "give the run's circumstances, so that differences can be told")
    resolved = resolve_store(store_uri)
    if not resolved.uri:
        return FoundBaseline(history=(), reason=f"no baseline store: {resolved.reason}", store_answered=True)

    def search(store: BaselineStore) -> FoundBaseline:
        nearest, differences = (
            nearest_key(store, key, circumstances, admitted) if circumstances is not None else (key, [])
        )
        history = store.latest(nearest, n)
        chosen = choose_reference(store, nearest, history, reference)
        same_model = runs_of_reference(history, chosen, reference)
        return FoundBaseline(
            history=tuple(history),
            reason=_reason(nearest, history, chosen, reference, same_model, differences),
            store_answered=True,
            reference=chosen,
            differences=tuple(differences),
            compared=None if same_model is None else tuple(record.run_id for record in same_model),
        )

    try:
        return ask_store(resolved.uri, search, time_limit_seconds)
    except StoreUnavailable as error:
        if on_store_error == "fail":
            raise
        _log.warning("%s; going on without a baseline", error)
        return FoundBaseline(history=(), reason=f"{error}; went on without a baseline", store_answered=False)


def ask_store(
    store_uri: str, question: Callable[[BaselineStore], _Answer], time_limit_seconds: float
) -> _Answer:
    """Opens a store and asks it, again and again while it does not answer, within a time limit.

    Raises:
        InputError: The URI or the question cannot be used; that is not tried again.
        StoreUnavailable: There was no answer within the time limit.
    """
    if not time_limit_seconds > 0:
        raise InputError("time_limit_seconds", time_limit_seconds, "give the store some time to answer")
    load_client(store_uri)
    deadline = time.monotonic() + time_limit_seconds
    pause_seconds = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return _within(deadline, lambda: _ask_once(store_uri, question), store_uri)
        except StoreUnavailable as error:
            if time.monotonic() + pause_seconds >= deadline:
                raise
            _log.info("%s; asking again in %.1f s", error, pause_seconds)
        time.sleep(random.uniform(0.5, 1.0) * pause_seconds)
        pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)


def _ask_once(store_uri: str, question: Callable[[BaselineStore], _Answer]) -> _Answer:
    store = open_store(store_uri)
    try:
        return question(store)
    finally:
        store.close()


def _within(deadline: float, work: Callable[[], _Answer], store_uri: str) -> _Answer:
    # A database client or a network file system may block for minutes in C code: the thread is then
    # left behind, and dies with the process.
    outcome: list[_Answer] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True, name="baseline-store")
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
    if failure:
        raise failure[0]
    if not outcome:
        raise StoreUnavailable(store_uri, "no answer within the time limit")
    return outcome[0]


def _reason(
    key: BaselineKey,
    history: list[Record],
    chosen: Record | None,
    policy: str,
    same_model: list[Record] | None,
    differences: list[str],
) -> str:
    if not history:
        return f"no passing run under {key.name} yet"
    runs = "1 passing run" if len(history) == 1 else f"{len(history)} passing runs"
    which = f"the reference ({policy}) is {chosen.run_id}" if chosen else f"none of them is {policy}"
    if chosen and same_model is not None:
        which += f", judged against the {len(same_model)} of version {chosen.model_version!r}"
    unlike = f"; measured otherwise: {', '.join(differences)}" if differences else ""
    return f"{runs} under {key.name}, {which}{unlike}"
