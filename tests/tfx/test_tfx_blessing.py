"""What Pusher reads, and how a blessing comes about; needs no TFX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.tfx.artifacts import Task, TaskArtifact
from model_load_test.components.tfx.blessing import is_blessed, saved_model_within, write_blessing
from model_load_test.components.tfx.task import bless_task


@pytest.mark.parametrize(
    ("value", "blessed"), [(1, True), (1.0, True), (0, False), (True, False), ("1", False), (None, False)]
)
def test_only_the_number_one_is_a_blessing(value: Any, blessed: bool) -> None:
    assert is_blessed({"blessed": value}) is blessed


def blessed_by(folder: Path, validated: dict[str, Any] | None = None, **parameters: str) -> dict[str, Any]:
    """The metadata of the blessing that `bless_task` writes."""
    inputs = {}
    if validated is not None:
        inputs["infra_blessing"] = TaskArtifact("1", str(folder / "validated"), validated)
    outputs = {"blessing": TaskArtifact("2", str(folder / "blessing"), {})}
    task = Task(inputs, outputs, parameters, folder / "output.json")
    assert bless_task(task)
    answer = json.loads((folder / "output.json").read_text())
    metadata: dict[str, Any] = answer["artifacts"]["blessing"]["artifacts"][0]["metadata"]
    return metadata


@pytest.mark.parametrize(
    ("verdict", "policies", "blessed"),
    [
        ("PASS", {}, 1),
        ("FAIL", {}, 0),
        ("INVALID", {}, 0),
        ("INCONCLUSIVE", {}, 0),
        ("INCONCLUSIVE", {"on_inconclusive": "warn"}, 1),
        ("NO_BASELINE", {}, 1),
        ("NO_BASELINE", {"on_no_baseline": "fail"}, 0),
    ],
)
def test_the_verdict_and_the_policies_decide(
    verdict: str, policies: dict[str, str], blessed: int, tmp_path: Path
) -> None:
    metadata = blessed_by(tmp_path, verdict=verdict, **policies)
    assert metadata["blessed"] == blessed
    assert not isinstance(metadata["blessed"], bool), "Pusher takes a boolean for no"
    names = [path.name for path in (tmp_path / "blessing").iterdir()]
    assert names == ["INFRA_BLESSED" if blessed else "INFRA_NOT_BLESSED"]


def test_the_gate_cannot_bless_what_infra_validator_did_not(tmp_path: Path) -> None:
    refused = blessed_by(tmp_path, {"blessed": 0.0}, verdict="PASS")
    assert refused["blessed"] == 0
    assert "InfraValidator" in refused["reason"]
    assert blessed_by(tmp_path, {"blessed": 1.0}, verdict="PASS")["blessed"] == 1
    assert blessed_by(tmp_path, {"blessed": 1.0}, verdict="FAIL")["blessed"] == 0


def test_the_model_that_infra_validator_stamped_is_passed_on(tmp_path: Path) -> None:
    stamped = tmp_path / "validated" / "stamped_model"
    stamped.mkdir(parents=True)
    (stamped / "saved_model.pb").touch()
    assert blessed_by(tmp_path, {"blessed": 1, "has_model": 1}, verdict="PASS")["has_model"] == 1
    assert (tmp_path / "blessing" / "stamped_model" / "saved_model.pb").exists()


def test_an_unknown_verdict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"verdict: 'GOOD': give one of PASS, FAIL"):
        blessed_by(tmp_path, verdict="GOOD")


def test_a_blessing_is_written_over_one_of_an_earlier_try(tmp_path: Path) -> None:
    write_blessing(tmp_path, blessed=True, reason="")
    write_blessing(tmp_path, blessed=False, reason="")
    assert [path.name for path in tmp_path.iterdir()] == ["INFRA_NOT_BLESSED"]


def test_the_saved_model_lies_where_trainer_puts_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model: 's3://b/m': there is no SavedModel"):
        saved_model_within("s3://b/m", tmp_path)
    (tmp_path / "saved_model.pb").touch()
    assert saved_model_within("s3://b/m/", tmp_path) == "s3://b/m"
    (tmp_path / "Format-Serving").mkdir()
    (tmp_path / "Format-Serving" / "saved_model.pb").touch()
    assert saved_model_within("s3://b/m", tmp_path) == "s3://b/m/Format-Serving"
