"""The one shape of a complaint about input: which field, which value, what to do."""

from __future__ import annotations

import os
import sys
from types import TracebackType

_SHOWN_CHARACTERS = 200


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


def print_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A hook for uncaught exceptions: bad input is one line, a defect is a traceback.

    A task's page in the Kubeflow UI ends with what its pod wrote last.
    """
    if isinstance(error, InputError):
        print(f"{kind.__name__}: {error}", file=sys.stderr, flush=True)
    else:
        sys.__excepthook__(kind, error, trace)


# KFP's executor runs a component without catching anything; the pod is ours alone.
if os.environ.get("_KFP_RUNTIME") == "true":
    sys.excepthook = print_uncaught


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
