"""Reads whatever ghz, vegeta or Locust wrote; recognised by content, not by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from model_load_test.components.results import ghz, vegeta
from model_load_test.components.results.errors import Description, ResultsError
from model_load_test.components.results.json_documents import keys_of_first_object
from model_load_test.components.results.report import Report
from model_load_test.components.results.source import Source

__all__ = ["Report", "read_report"]


def read_report(paths: Path | str | Sequence[Path | str]) -> Report:
    """Reads one report, or those of several workers of one run as one.

    Args:
        paths: Files, plain or gzip; `-` is standard input.

    Raises:
        ResultsError: A file is damaged, or nothing that any generator writes.
    """
    several = [paths] if isinstance(paths, (str, Path)) else list(paths)
    reports = [_read_one(path, worker) for worker, path in enumerate(several)]
    return reports[0]


def _read_one(path: Path | str, worker: int) -> Report:
    with Source(path) as source:
        return _reader_of(source)(source, worker)


def _reader_of(source):
    keys = keys_of_first_object(source.head)
    if ghz.is_ghz(keys):
        return ghz.read_ghz_json
    if vegeta.is_vegeta_record(keys):
        return vegeta.read_vegeta_json
    raise ResultsError(source.name, "", Description("unknown"), "x", "not-recognised")
