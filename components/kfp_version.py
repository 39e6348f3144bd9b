"""The KFP SDKs that these components can be compiled with."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from model_load_test.components.errors import InputError

SUPPORTED: Final[dict[str, tuple[tuple[int, int], tuple[int, int]]]] = {
    "kfp": ((2, 13), (3, 0)),
    "kfp-kubernetes": ((1, 5), (3, 0)),
}
"""By distribution the first version that is supported and the first that is not any more."""


def require_kfp(find_version: Callable[[str], str] = version) -> None:
    """Refuses a KFP SDK that is known to fail, which else shows as an error deep in its compiler.

    Args:
        find_version: What tells the version of an installed distribution.

    Raises:
        InputError: An SDK is missing, too old or too new.
    """
    for name, (first, end) in SUPPORTED.items():
        try:
            found = find_version(name)
        except PackageNotFoundError:
            found = "none"
        number = re.match(r"(\d+)\.(\d+)", found)
        if number is None or not first <= (int(number[1]), int(number[2])) < end:
            wanted = f"{name}>={first[0]}.{first[1]},<{end[0]}"
            raise InputError(name, found, f"install {wanted} where pipelines are compiled")
