"""InfraValidator's check: does the very server that will serve the model load it, and answer?

It works where TFX's own component does not, on KFP v2, and its blessing is the same: a marker file
and `blessed` 1 or 0. What upstream has blessed, or not, is honoured too.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from model_load_test.components.cluster.connection import Cluster
from model_load_test.components.cluster.failures import ClusterError
from model_load_test.components.cluster.interruption import interruptible
from model_load_test.components.cluster.waiting import DidNotComeUp
from model_load_test.components.errors import InputError
from model_load_test.components.serving.deploy import Deployment, deploy
from model_load_test.components.serving.readiness import ServedArm
from model_load_test.components.serving.teardown import teardown

BLESSED_FILE: Final = "INFRA_BLESSED"
NOT_BLESSED_FILE: Final = "INFRA_NOT_BLESSED"
"""Marker files, as TFX names them."""

_NOTHING_SAID_OF_THE_MODEL: Final = frozenset(("unschedulable", "image", "refused", "volume", "evicted"))
"""Causes for which a server does not run, whatever its model: these break the task, and bless nothing."""


class NotBlessed(InputError):
    """The infrastructure validation upstream, or ours, refused the model."""


@dataclass(frozen=True)
class Blessing:
    """Whether a model can be served, and why not."""

    blessed: bool
    reason: str
    images: tuple[str, ...] = ()
    """The servers that were tried."""
    requests: int = 0
    """That were sent and answered."""

    @property
    def metadata(self) -> dict[str, Any]:
        """Of the blessing's artifact; TFX's Pusher wants the integer."""
        return {
            "blessed": int(self.blessed),
            "reason": self.reason,
            "images": ", ".join(self.images),
            "requests": self.requests,
        }


def validate(cluster: Cluster, wanted: Deployment, send: Callable[[ServedArm], int] | None) -> Blessing:
    """Loads the candidate into each server image asked for, sends requests, and removes the server again.

    Args:
        cluster: Where.
        wanted: The candidate and its spec; its identity must be the validation's own.
        send: Sends requests to the server and says how many were answered; it raises an InputError
            when one is refused. None to only load the model.

    Raises:
        ClusterError: The server could not be run at all, for reasons that say nothing of the model.
        Interrupted: The task was told to stop.
    """
    only = replace(wanted, models={"candidate": wanted.models["candidate"]})
    images = (wanted.spec.server_image, *wanted.spec.also_validate)
    requests = 0
    for image in images:
        spec = msgspec.structs.replace(wanted.spec, image=image, also_validate=())
        tried = _try(cluster, replace(only, spec=spec), send, image)
        if not tried.blessed:
            return replace(tried, images=images)
        requests += tried.requests
    how = f"answered {requests} requests" if send is not None else "was loaded; no requests were asked for"
    return Blessing(True, f"the model {how} in {', '.join(images) or wanted.spec.kind}", images, requests)


def write_blessing(folder: Path, blessing: Blessing) -> None:
    """Writes the marker file, with the reason in it."""
    folder.mkdir(parents=True, exist_ok=True)
    name = BLESSED_FILE if blessing.blessed else NOT_BLESSED_FILE
    (folder / name).write_text(blessing.reason, encoding="utf-8")


def require_blessing(given: str) -> None:
    """Refuses to go on without the blessing from upstream.

    Args:
        given: What upstream says: `1` or `0`, a blessing's metadata as JSON, or the URI or path of
            its folder with the marker file; empty where nobody was asked.

    Raises:
        NotBlessed: It was refused; the error has the reason, where one was left.
        InputError: Nothing there says whether it was blessed.
    """
    text = given.strip()
    if not text:
        return
    if re.fullmatch(r"[01](\.0+)?|true|false", text, re.IGNORECASE):
        require_blessed({"blessed": int(text.lower() == "true" or text[0] == "1")})
    elif text.startswith("{"):
        try:
            require_blessed(msgspec.json.decode(text, type=dict[str, Any]))
        except msgspec.DecodeError as error:
            raise InputError("infra_blessing", text, f"this is no JSON object: {error}") from None
    else:
        _require_marker(text)


def require_blessed(metadata: Mapping[str, Any], folder: Path | None = None) -> None:
    """Refuses to go on with a blessing artifact whose `blessed` is not 1.

    Args:
        metadata: The artifact's.
        folder: The artifact's, which may hold the reason; its marker file decides where the metadata
            say nothing.

    Raises:
        NotBlessed: It is not blessed.
    """
    marker = folder / NOT_BLESSED_FILE if folder is not None else None
    reason = str(metadata.get("reason", ""))
    if not reason and marker is not None and marker.is_file():
        reason = marker.read_text(encoding="utf-8", errors="replace").strip()
    blessed = metadata.get("blessed")
    if blessed is None and folder is not None and (folder / BLESSED_FILE).is_file():
        blessed = 1
    # TFX's own rule: true, "1" or nothing at all do not bless.
    if isinstance(blessed, bool) or blessed != 1:
        raise NotBlessed(
            "infra_blessing",
            blessed,
            f"the infrastructure validation refused the model ({reason or 'it left no reason'}); "
            "mend the model, or its serving spec",
        )


def _try(
    cluster: Cluster, wanted: Deployment, send: Callable[[ServedArm], int] | None, image: str
) -> Blessing:
    refusal = ""
    for attempt in range(wanted.spec.tries):
        print(f"validating in {image or wanted.spec.kind}, try {attempt + 1}", file=sys.stderr, flush=True)
        try:
            with interruptible():
                try:
                    served = deploy(cluster, wanted)
                    answered = send(served["candidate"]) if send is not None else 0
                    return Blessing(True, "", (), answered)
                finally:
                    teardown(cluster, wanted.identity)
        except DidNotComeUp as error:
            if any(trouble.cause in _NOTHING_SAID_OF_THE_MODEL for trouble in error.troubles):
                raise
            refusal = str(error)
        except InputError as error:
            if isinstance(error, ClusterError):
                raise
            refusal = str(error)
    return Blessing(False, f"{image or wanted.spec.kind} refused it: {refusal}")


def _require_marker(uri: str) -> None:
    import fsspec

    for mount, scheme in (("/gcs/", "gs://"), ("/minio/", "s3://"), ("/s3/", "s3://")):
        if uri.startswith(mount) and not Path(uri).exists():
            uri = scheme + uri.removeprefix(mount)
    place = uri.replace("minio://", "s3://", 1).rstrip("/")
    try:
        filesystem, path = fsspec.core.url_to_fs(place)
        if filesystem.exists(f"{path}/{BLESSED_FILE}"):
            return
        refused = filesystem.exists(f"{path}/{NOT_BLESSED_FILE}")
        reason = filesystem.cat_file(f"{path}/{NOT_BLESSED_FILE}").decode(errors="replace") if refused else ""
    except Exception as error:  # noqa: BLE001 -- each store's library has errors of its own
        raise InputError(
            "infra_blessing",
            uri,
            f"cannot be read ({type(error).__name__}: {error}); give its `blessed` instead",
        ) from None
    if refused:
        require_blessed({"blessed": 0, "reason": reason.strip()})
    raise InputError(
        "infra_blessing",
        uri,
        f"neither {BLESSED_FILE} nor {NOT_BLESSED_FILE} is in that folder; is it a blessing?",
    )
