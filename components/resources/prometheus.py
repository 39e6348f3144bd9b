"""What a Prometheus has scraped of the servers: raw samples with the times they were taken at.

The samples of a selector come from the query API as a matrix (`selector[range]`), which hands them out as
they were scraped; `query_range` would evaluate them on a grid and carry the last one forward for up to
five minutes. A user's own expressions go through `query_range`, for an expression has no samples.

The times are those of Prometheus' clock. `time()` tells it to the millisecond, so the series are moved
by what it differs from ours.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.resources.catalogue import SCRAPED, Known
from model_load_test.components.resources.http_get import Answer, DoesNotAnswer, get
from model_load_test.components.resources.series import (
    Reading,
    Series,
    Window,
    series_of,
    with_beginnings,
)
from model_load_test.components.resources.server_page import bucket_limit, preferred_names, signature_of
from model_load_test.components.results.checks import Check

REPLICA_LABELS: Final = ("pod", "exported_pod", "pod_name", "instance")
"""Labels that name a replica; the first that is there counts."""

EDGE_SECONDS: Final = 120.0
"""How far beyond the window samples are asked for: the edges need their neighbours."""
SKEW_SECONDS: Final = 0.5
"""A clock that differs by more is told of, though it is put right."""
_LONGEST_WAIT_SECONDS: Final = 90.0
_POLL_SECONDS: Final = 0.5
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OPERATORS: Final = ("=~", "!~", "!=")
_MATCHERS: Final = "$matchers"

Matchers = Mapping[str, str]
"""By label its value; one that begins with `=~`, `!~` or `!=` is matched so."""


@dataclass(frozen=True)
class Prometheus:
    """A `ResourceSource`: an address, and which series belong to which arm."""

    endpoint: Endpoint
    pods: Mapping[str, Matchers]
    """By arm, what its pods' or instances' series have in common."""
    workloads: Mapping[str, Matchers] = field(default_factory=dict)
    """By arm, its Deployment's series, for the number of replicas."""
    expressions: Mapping[str, str] = field(default_factory=dict)
    """Own metrics by name; `$matchers` stands for the arm's."""
    step_seconds: float = 5.0
    """Of the expressions' evaluation."""

    def __call__(self, window: Window) -> Reading:
        """Reads the window; waits for its last samples where it is to be complete."""
        try:
            skew_seconds, uncertain_seconds = self.clock_skew()
            reading = self._read(window, skew_seconds)
            while window.complete and not _is_complete(reading.series, window):
                if time.time_ns() - window.end_ns > _LONGEST_WAIT_SECONDS * 1e9:
                    break
                time.sleep(_POLL_SECONDS)
                reading = self._read(window, skew_seconds)
        except DoesNotAnswer as error:
            detail = f"Prometheus told nothing of the servers' resources: {error}."
            return Reading((), (Check("resources-unavailable", detail, "WARNING"),))
        skewed = abs(skew_seconds) > max(SKEW_SECONDS, uncertain_seconds)
        return Reading(
            reading.series, (*reading.findings, *([_skew_finding(skew_seconds)] if skewed else []))
        )

    def clock_skew(self) -> tuple[float, float]:
        """How far its clock is ahead of ours, and how uncertain that is, in seconds.

        Raises:
            DoesNotAnswer: It is down, or no Prometheus.
        """
        answer = get(self.endpoint, "/api/v1/query", {"query": "time()"})
        data = _data(answer)
        try:
            theirs_seconds = float(data["result"][1])
        except (KeyError, IndexError, TypeError, ValueError):
            raise DoesNotAnswer(f"{self.endpoint} does not answer as Prometheus does") from None
        uncertain = (answer.answered_at_ns - answer.asked_at_ns) / 2e9 + 1e-3
        return theirs_seconds - answer.middle_ns / 1e9, uncertain

    def _read(self, window: Window, skew_seconds: float) -> Reading:
        found: list[Series] = []
        findings: list[Check] = []
        theirs = Window(
            window.start_ns + round((skew_seconds - EDGE_SECONDS) * 1e9),
            window.end_ns + round((skew_seconds + EDGE_SECONDS) * 1e9),
        )
        for arm in self.pods:
            answers = [self._raw(selector, theirs) for selector in self._selectors(arm)]
            read = list(_series_of_arm(arm, [one for answer in answers for one in answer["result"]]))
            read += [one for name in self.expressions for one in self._evaluated(name, arm, theirs)]
            findings += [_told(text) for answer in answers for text in answer.get("warnings", ())]
            if not read:
                findings.append(_nothing(arm, self.pods[arm]))
            found += [one.moved(-skew_seconds) for one in with_beginnings(read)]
        return Reading(tuple(found), tuple(findings))

    def _selectors(self, arm: str) -> Iterator[str]:
        """The fewest selectors that match all that is known, each metric with the labels it must have."""
        groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[str]] = {}
        for name, known in SCRAPED.items():
            groups.setdefault((known.by, tuple(known.only.items())), []).append(name)
        for (by, only), names in groups.items():
            matchers = self.pods[arm] if by == "pod" else self.workloads.get(arm)
            if matchers is None:
                continue
            extra = [f"{label}{matcher}" for label, matcher in only]
            yield _selector(names, matchers, extra)
            if by == "pod" and not only and "pod" in matchers:
                # what an exporter says of other pods is renamed where labels are not honoured
                yield _selector(names, _renamed(matchers), extra)

    def _raw(self, selector: str, window: Window) -> dict[str, Any]:
        end_seconds = min(window.end_ns / 1e9, window.start_ns / 1e9 + 86_400)
        query = f"{selector}[{math.ceil(end_seconds - window.start_ns / 1e9)}s]"
        return _data(get(self.endpoint, "/api/v1/query", {"query": query, "time": f"{end_seconds:.3f}"}))

    def _evaluated(self, name: str, arm: str, window: Window) -> Iterator[Series]:
        data = _data(
            get(
                self.endpoint,
                "/api/v1/query_range",
                {
                    "query": self.expressions[name].replace(_MATCHERS, matchers_text(self.pods[arm])),
                    "start": f"{window.start_ns / 1e9:.3f}",
                    "end": f"{window.end_ns / 1e9:.3f}",
                    "step": f"{self.step_seconds:g}",
                },
            )
        )
        for one in data["result"]:
            at_ns, values = series_of(list(_samples(one)))
            labels = {key: value for key, value in one["metric"].items() if key not in REPLICA_LABELS}
            yield Series(
                *(name, "gauge", arm, _replica(one["metric"]), "prometheus", at_ns, values),
                signature=signature_of(one["metric"]),
                labels=labels,
            )


def parse_matchers(values: object, name: str) -> Matchers:
    """Parses label matchers such as `{"namespace": "serving", "pod": "=~digits-.*"}`.

    Raises:
        InputError: A label's name or value cannot be one.
    """
    if not isinstance(values, Mapping) or not values:
        raise InputError(name, values, 'give labels, such as {"namespace": "serving", "pod": "=~digits-.*"}')
    for label, value in values.items():
        if not _LABEL.fullmatch(str(label)) or not isinstance(value, str):
            raise InputError(f"{name}.{label}", value, "give a Prometheus label and its value as text")
        if value.startswith(("=~", "!~")):
            try:
                re.compile(value[2:])
            except re.error as error:
                raise InputError(f"{name}.{label}", value, f"mend the pattern ({error})") from None
    return dict(values)


def matchers_text(matchers: Matchers) -> str:
    """Matchers as PromQL has them inside of braces."""
    return ",".join(f"{label}{_matcher(value)}" for label, value in matchers.items())


def _matcher(value: str) -> str:
    operator = value[:2] if value.startswith(_OPERATORS) else "="
    plain = value.removeprefix(operator) if operator != "=" else value
    return f"{operator}{json.dumps(plain)}"


def _selector(names: Iterable[str], matchers: Matchers, extra: Iterable[str]) -> str:
    pattern = "|".join(names)
    return "{" + ",".join((f'__name__=~"{pattern}"', matchers_text(matchers), *extra)) + "}"


def _renamed(matchers: Matchers) -> Matchers:
    return {
        f"exported_{label}" if label in ("pod", "namespace", "container") else label: value
        for label, value in matchers.items()
    }


def _data(answer: Answer) -> dict[str, Any]:
    try:
        document = json.loads(answer.body)
        if document["status"] != "success":
            raise DoesNotAnswer(f"Prometheus refuses the query: {document.get('error', 'no reason given')}")
        data: dict[str, Any] = {**document["data"], "warnings": document.get("warnings") or ()}
        if not isinstance(data["result"], list):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise DoesNotAnswer("what answered is no Prometheus: its answer cannot be read") from None
    return data


def _series_of_arm(arm: str, results: list[dict[str, Any]]) -> Iterator[Series]:
    names = {one["metric"].get("__name__", "") for one in results}
    left_out = preferred_names(names)
    collected: dict[tuple[Any, ...], tuple[Known, dict[str, str], list[tuple[int, float]]]] = {}
    for one in results:
        labels = one["metric"]
        name = labels.get("__name__", "")
        known = SCRAPED.get(name)
        if known is None or name in left_out:
            continue
        apart = {label: labels[label] for label in known.apart if labels.get(label)}
        key = (
            name,
            _replica(labels),
            signature_of(labels),
            tuple(apart.items()),
            bucket_limit(labels, known),
        )
        _, _, samples = collected.setdefault(key, (known, apart, []))
        samples += _samples(one)
    for (_, replica, signature, _, limit), (known, apart, samples) in collected.items():
        at_ns, values = series_of(samples)
        if at_ns.size:
            yield Series(
                *(known.metric, known.kind, arm, replica, "prometheus", at_ns, values * known.scale),
                signature=signature,
                labels=apart,
                limit=limit,
            )


def _samples(result: Mapping[str, Any]) -> Iterator[tuple[int, float]]:
    for at_seconds, text in result.get("values", ()):
        value = float(text)
        if math.isfinite(value):
            yield round(float(at_seconds) * 1e3) * 1_000_000, value


def _replica(labels: Mapping[str, str]) -> str:
    if labels.get("exported_pod"):
        return labels["exported_pod"]
    return next((labels[name] for name in REPLICA_LABELS if labels.get(name)), "")


def _is_complete(series: Iterable[Series], window: Window) -> bool:
    """Whether every replica that was still there has a sample at or after the window's end.

    One whose samples end long before it is gone, and not waited for.
    """
    for one in series:
        if one.kind == "buckets" or one.at_ns.size < 2:
            continue
        usual_ns = float(np.median(np.diff(one.at_ns)))
        newest_ns = int(one.at_ns[-1])
        due = time.time_ns() - newest_ns <= 2 * usual_ns
        if newest_ns < window.end_ns and due:
            return False
    return True


def _skew_finding(seconds: float) -> Check:
    where = "ahead of" if seconds > 0 else "behind"
    detail = (
        f"Prometheus' clock is {abs(seconds):.1f} s {where} the load's. Its samples were moved by that; "
        "keep the clocks together (NTP) to be sure of them."
    )
    return Check("clock-skew", detail, "WARNING", {"skew_seconds": round(seconds, 3)})


def _nothing(arm: str, matchers: Matchers) -> Check:
    detail = (
        f"Prometheus knows nothing of the {arm}'s servers: no series known here has "
        f"{{{matchers_text(matchers)}}} in this time. Compare the labels with those on its targets page."
    )
    return Check("resources-unmatched", detail, "WARNING")


def _told(text: str) -> Check:
    return Check("prometheus-warning", f"Prometheus warns: {text}.", "WARNING")
