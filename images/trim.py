"""Removes from an environment what no pod uses, so that nodes pull less.

    python3 images/trim.py /opt/model-load-test/venv

Only parts that their own packages treat as optional go: tests, what other programs would be compiled
against, and network services of Arrow and AWS that this project never opens. tests/images runs every
component in the image that is left.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

TEST_FOLDERS = ("**/tests",)
FOR_COMPILERS = (
    *("**/*.pyx", "**/*.pxd", "**/*.pxi", "**/*.pyi", "**/*.a"),
    *("numpy/_core/include", "pyarrow/include", "tensorflow/include"),
)
# Flight is a protocol of its own; buckets are read through fsspec, not through Arrow.
# libarrow_python is installed three times over, and loaded by the name with the version alone.
ARROW = (
    "pyarrow/*arrow_flight.so*",
    "pyarrow/*arrow_python_flight.so*",
    "pyarrow/_flight.*",
    "pyarrow/*arrow_s3.so*",
    "pyarrow/_s3fs.*",
    "pyarrow/libarrow_python.so",
    "pyarrow/libarrow_python.so.*.*.*",
)
AWS_SERVICES_USED = ("s3", "signin", "sso", "sso-oidc", "sts")
"""What a bucket and the usual ways to its credentials take."""


def main() -> int:
    """Trims the environment named on the command line and says by how much."""
    (site,) = Path(sys.argv[1]).glob("lib/python3.*/site-packages")
    before = _bytes(site)
    for pattern in (*TEST_FOLDERS, *FOR_COMPILERS, *ARROW):
        for path in list(site.glob(pattern)):
            _remove(path)
    for service in site.glob("botocore/data/*/"):
        if service.is_dir() and service.name not in AWS_SERVICES_USED:
            _remove(service)
    print(f"{site}: {before / 1e6:.0f} MB before, {_bytes(site) / 1e6:.0f} MB after")
    return 0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
