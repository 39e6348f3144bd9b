"""What a server says of itself on its Prometheus page, looked at while the load runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.resources.catalogue import PREFERRED, Known
from model_load_test.components.resources.http_get import DoesNotAnswer, get
from model_load_test.components.resources.sampling import Look, Observed

SIGNATURE_LABELS: Final = ("signature", "signature_name", "version", "model_version")
"""Labels by which servers tell signatures or versions of a model apart; the first that is there counts."""


def page_look(arm: str, endpoint: Endpoint, known: Mapping[str, Known]) -> Look:
    """A look at one server's page.

    Args:
        arm: Whose server it is.
        endpoint: The page's whole address.
        known: What of it is wanted, by the exporter's name.
    """

    def look() -> list[Observed]:
        answer = get(endpoint)
        return parse_page(
            answer.body.decode(errors="replace"), arm, endpoint.address, known, answer.middle_ns
        )

    return look


def parse_page(text: str, arm: str, replica: str, known: Mapping[str, Known], at_ns: int) -> list[Observed]:
    """What is known on a page of metrics, in our names and units.

    Raises:
        DoesNotAnswer: The page is not in Prometheus' text format.
    """
    from prometheus_client.parser import text_string_to_metric_families

    try:
        samples = [
            (sample.name, sample.labels, float(sample.value), sample.timestamp)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]
    except (ValueError, KeyError, IndexError) as error:
        raise DoesNotAnswer(f"the page of {replica} is not in Prometheus' text format ({error})") from None
    seen = {}
    names = preferred_names({name for name, *_ in samples})
    for name, labels, value, own_time in samples:
        one = known.get(plain_name(name, known))
        if one is None or plain_name(name, known) in names or not math.isfinite(value):
            continue
        observed = Observed(
            metric=one.metric,
            kind=one.kind,
            arm=arm,
            replica=replica,
            source="page",
            value=value * one.scale,
            at_ns=at_ns if own_time is None else round(float(own_time) * 1e9),
            signature=signature_of(labels),
            labels=tuple(sorted((key, labels[key]) for key in one.apart if labels.get(key))),
            limit=bucket_limit(labels, one),
        )
        seen[observed._replace(value=0.0)] = observed
    return list(seen.values())


def plain_name(name: str, known: Mapping[str, Known]) -> str:
    """A sample's name as the catalogue has it: the parser gives every counter the ending `_total`."""
    return name if name in known else name.removesuffix("_total")


def preferred_names(names: Iterable[str]) -> set[str]:
    """Those of `names` that tell what a better one among them tells too."""
    present = set(names)
    left_out: set[str] = set()
    for alternatives in PREFERRED.values():
        found = [name for name in alternatives if name in present]
        left_out.update(found[1:])
    return left_out


def signature_of(labels: Mapping[str, str]) -> str:
    """The signature or version that labels name, if they do."""
    return next((labels[name] for name in SIGNATURE_LABELS if labels.get(name)), "")


def bucket_limit(labels: Mapping[str, str], known: Known) -> float | None:
    """The upper limit of a bucket in our unit; None for what is no bucket."""
    if known.kind != "buckets":
        return None
    try:
        return float(labels["le"]) * known.scale
    except (KeyError, ValueError):
        return math.inf
