"""Blessings: written as TFX writes them, read as TFX reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.serving.bless import (
    Blessing,
    NotBlessed,
    require_blessed,
    require_blessing,
    write_blessing,
)


@pytest.mark.parametrize("said", ["", "1", "1.0", "true", '{"blessed": 1, "reason": ""}'])
def test_what_is_blessed_or_was_not_asked_for_goes_on(said: str) -> None:
    require_blessing(said)


@pytest.mark.parametrize(
    "said", ["0", "false", '{"blessed": 0}', '{"blessed": true}', '{"blessed": "1"}', "{}"]
)
def test_only_the_integer_one_blesses_as_tfx_pusher_has_it(said: str) -> None:
    with pytest.raises(NotBlessed):
        require_blessing(said)


def test_the_reason_from_upstream_is_shown() -> None:
    with pytest.raises(NotBlessed, match="OOM while loading"):
        require_blessing('{"blessed": 0, "reason": "OOM while loading"}')


@pytest.mark.parametrize("blessed", [True, False])
def test_a_blessings_folder_says_the_same_as_its_metadata(blessed: bool, tmp_path: Path) -> None:
    written = Blessing(blessed, "it would not load", ("image:1",), 3)
    write_blessing(tmp_path / "blessing", written)
    assert written.metadata["blessed"] == int(blessed)
    assert not isinstance(written.metadata["blessed"], bool)
    if blessed:
        require_blessing(str(tmp_path / "blessing"))
        require_blessed({}, tmp_path / "blessing")
    else:
        for refuse in (
            lambda: require_blessing(f"file://{tmp_path}/blessing"),
            lambda: require_blessed({"blessed": 0}, tmp_path / "blessing"),
        ):
            with pytest.raises(NotBlessed, match="it would not load"):
                refuse()


def test_a_folder_that_is_no_blessing_is_no_blessing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither INFRA_BLESSED nor INFRA_NOT_BLESSED"):
        require_blessing(str(tmp_path))
    with pytest.raises(NotBlessed):
        require_blessed({}, tmp_path)
