"""A `vegeta` for which Google's names are on this machine: it is told so, and is the real one else."""

import sys

SCRIPT = """#!{python}
import json, os, sys
from urllib.parse import urlsplit
words = sys.argv[1:]
if words[:1] == ["attack"]:
    (targets,) = (word.partition("=")[2] for word in words if word.startswith("-targets="))
    with open(targets) as lines:
        host = urlsplit(json.loads(lines.readline())["url"]).hostname
    words.insert(1, f"-connect-to={{host}}:443:127.0.0.1:{port}")
os.execv({real!r}, ["vegeta", *words])
"""


def write_vegeta(folder, real, port):
    """Writes it into a folder for PATH."""
    path = folder / "vegeta"
    path.write_text(SCRIPT.format(python=sys.executable, real=real, port=port))
    path.chmod(0o755)
