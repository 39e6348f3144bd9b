"""The one shape of a complaint about input: which field, which value, what to do."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Final

_SHOWN_CHARACTERS: Final = 200
_TERMINATION_LOG: Final = Path("/dev/termination-log")
_TERMINATION_BYTES: Final = 4096
"""What Kubernetes keeps of a termination message."""


class InputError(ValueError):
    """Input that cannot be used, said so that the reader can mend it.

    Args:
        field: Name of the parameter, column, file or JSON path at fault.
        value: The offending value. It is shown shortened; never pass a secret.
        remedy: What to do about it, as an imperative sentence without a full stop.
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        self.field = field
        self.value = value
        self.remedy = remedy
        super().__init__(f"{field}: {_shortened(value)}: {remedy}")


def print_last(line: str, termination_log: Path = _TERMINATION_LOG) -> None:
    """Says in one line why this task ends: to people as the last line of its log, to Kubernetes as well.

    The log is what the Kubeflow UI shows of a failed task. The termination message, where the task is
    a pod, becomes the message of the workflow's node and outlives the pod.
    """
    if termination_log.exists():
        try:
            termination_log.write_bytes(line.encode()[:_TERMINATION_BYTES])
        except OSError as error:
            print(f"{termination_log} takes no message: {error.strerror}", file=sys.stderr)
    print(line, file=sys.stderr, flush=True)


def print_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A hook for uncaught exceptions: bad input is one line, a defect is a traceback."""
    if isinstance(error, InputError):
        print_last(f"{kind.__name__}: {error}")
    else:
        sys.__excepthook__(kind, error, trace)


# KFP's executor runs a component without catching anything; the pod is ours alone.
if os.environ.get("_KFP_RUNTIME") == "true":
    sys.excepthook = print_uncaught


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
