"""Imports modules, so that Python writes the bytecode of all they really use, and of nothing else.

    python3 images/write_bytecode.py numpy pyarrow.parquet
    python3 images/write_bytecode.py --below /opt/model-load-test/package

A pod's root file system is read-only: what is not written now is compiled again at every start.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

ONLY_AT_COMPILE_TIME = {"component", "pipeline", "vertex", "compiling"}
"""Modules that need KFP's authoring half, which a pod does not have."""


def main() -> int:
    """Imports the modules named, or all below a folder; those that need what is not installed are named."""
    arguments = sys.argv[1:]
    names = list(_below(Path(arguments[1]))) if arguments[0] == "--below" else arguments
    for name in names:
        try:
            importlib.import_module(name)
        except (ImportError, AttributeError) as error:
            if arguments[0] != "--below":
                raise
            print(f"{name}: no bytecode ({error})")
    return 0


def _below(folder: Path) -> list[str]:
    paths = (path.relative_to(folder).with_suffix("") for path in sorted(folder.rglob("*.py")))
    return [
        ".".join(path.parts[:-1] if path.name == "__init__" else path.parts)
        for path in paths
        if path.name not in ONLY_AT_COMPILE_TIME | {"__main__"}
    ]


if __name__ == "__main__":
    sys.exit(main())
