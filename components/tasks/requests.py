"""The requests that an infrastructure validation sends: made anew for every server it tries."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from model_load_test.components.payload.make import make_payload
from model_load_test.components.payload.trial import try_payload
from model_load_test.components.serving.readiness import ServedArm
from model_load_test.components.serving.spec import RequestSpec


def request_sender(requests: RequestSpec, examples: Path | None) -> Callable[[ServedArm], int] | None:
    """Sends a server what a request spec asks for; None where it asks for nothing.

    Args:
        requests: How many, and to which signatures.
        examples: What to make them from; without, their values are random.
    """
    if requests.requests == 0:
        return None

    def send(server: ServedArm) -> int:
        answered = 0
        for signature_name in requests.signature_names:
            with tempfile.TemporaryDirectory(prefix="validation-") as folder:
                make_payload(
                    server.endpoint,
                    model_name=server.model_name,
                    out_dir=Path(folder),
                    signature_name=signature_name,
                    requests=requests.requests,
                    examples=examples,
                )
                answered += try_payload(Path(folder), server.endpoint)
        return answered

    return send
