"""The pictures of the documentation, from what the demos have left: `make screenshots`.

python docs/make_screenshots.py [build]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

IMAGES = Path(__file__).resolve().parent / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@dataclass(frozen=True)
class Shot:
    """One picture: the top of a page, in a window of this size."""

    picture: str
    page: str
    made_by: str
    width: int
    height: int


SHOTS = (
    Shot("report.png", "demo/slower/report.html", "make demo", 1180, 1560),
    Shot("report-pass.png", "demo/same/report.html", "make demo", 1180, 1180),
    Shot("capacity.png", "demo-capacity/capacity.html", "make demo-capacity", 1180, 1180),
)


def take(browser: str, page: Path, shot: Shot) -> Path:
    """Opens the page and keeps what the window shows, with as few colours as it has."""
    target = IMAGES / shot.picture
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        taken = Path(folder) / "taken.png"
        subprocess.run(
            [
                *(browser, *FLAGS, f"--user-data-dir={folder}/profile"),
                *(f"--window-size={shot.width},{shot.height}", f"--screenshot={taken}", page.as_uri()),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
        with Image.open(taken) as picture:
            picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)
    return target


def main() -> int:
    """Takes every picture, or says what has to be run before."""
    build = Path(sys.argv[1] if len(sys.argv) > 1 else "build").resolve()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"none of {', '.join(BROWSERS)} is on PATH")
    for shot in SHOTS:
        page = build / shot.page
        if not page.exists():
            sys.exit(f"{page} is missing: run `{shot.made_by}`")
        target = take(browser, page, shot)
        print(f"{target.name}: {target.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
