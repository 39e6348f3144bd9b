"""Imports modules, so that Python writes the bytecode of all they really use, and of nothing else.

    python3 images/write_bytecode.py numpy pyarrow.parquet
    python3 images/write_bytecode.py --below /opt/model-load-test/package

A pod's root file system is read-only: what is not written now is compiled again at every start. And so
is what bears another time than its source: layers of an image keep times less exactly than the file
system on which they are made. So the bytecode is marked as not to be compared (PEP 552); nothing in an
image is ever edited.
"""

from __future__ import annotations

import importlib
import struct
import sys
from importlib.util import MAGIC_NUMBER
from pathlib import Path

ONLY_AT_COMPILE_TIME = {"component", "pipeline", "vertex", "compiling"}
"""Modules that need KFP's authoring half, which a pod does not have."""
HEADER_BYTES = 16
UNCHECKED_HASH = struct.pack("<I", 1) + bytes(8)
"""What follows the magic number in a header: hash-based, not checked, and so no hash of the source."""


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
    if sys.pycache_prefix is not None:
        for path in Path(sys.pycache_prefix).rglob("*.pyc"):
            _never_compare(path)
    return 0


def _never_compare(bytecode: Path) -> None:
    """Has Python take the bytecode whatever time its source bears."""
    code = bytecode.read_bytes()[HEADER_BYTES:]
    bytecode.write_bytes(MAGIC_NUMBER + UNCHECKED_HASH + code)


def _below(folder: Path) -> list[str]:
    paths = (path.relative_to(folder).with_suffix("") for path in sorted(folder.rglob("*.py")))
    return [
        ".".join(path.parts[:-1] if path.name == "__init__" else path.parts)
        for path in paths
        if path.name not in ONLY_AT_COMPILE_TIME | {"__main__"}
    ]


if __name__ == "__main__":
    sys.exit(main())
