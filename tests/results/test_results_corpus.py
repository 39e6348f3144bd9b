"""Every input of the fuzzing corpus, those that once broke a reader included, keeps the promise."""

from __future__ import annotations

import pytest
from made_reports import CORPUS
from test_results_hostile import read_or_refuse


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_corpus(path) -> None:  # type: ignore[no-untyped-def]  # pathlib.Path
    read_or_refuse(path)
