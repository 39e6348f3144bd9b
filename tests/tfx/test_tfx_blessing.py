"""What Pusher reads, and how a blessing comes about; needs no TFX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.executor import TaskArtifact
from model_load_test.components.tasks.__main__ import main
from model_load_test.components.tfx.blessing import is_blessed, saved_model_uri, write_blessing


@pytest.mark.parametrize(
    ("value", "blessed"), [(1, True), (1.0, True), (0, False), (True, False), ("1", False), (None, False)]
)
def test_only_the_number_one_is_a_blessing(value: Any, blessed: bool) -> None:
    assert is_blessed({"blessed": value}) is blessed


def blessed_by(folder: Path, validated: dict[str, Any] | None = None, **parameters: str) -> dict[str, Any]:
    """The metadata of the blessing that the task of a graft writes."""
    inputs = {}
    if validated is not None:
        inputs["infra_blessing"] = {"artifacts": [{"uri": str(folder / "validated"), "metadata": validated}]}
    executor_input = {
        "inputs": {"parameterValues": parameters, "artifacts": inputs},
        "outputs": {
            "artifacts": {"blessing": {"artifacts": [{"name": "2", "uri": str(folder / "blessing")}]}},
            "outputFile": str(folder / "output.json"),
        },
    }
    said = main(["tfx_bless", json.dumps(executor_input)])
    if said:
        raise InputError("tfx_bless", said, "see the log")
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
        ("NO_BASELINE", {"on_missing_baseline": "fail"}, 0),
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


def test_an_unknown_verdict_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError):
        blessed_by(tmp_path, verdict="GOOD")
    assert "verdict: 'GOOD': give one of PASS, FAIL" in capsys.readouterr().err


def test_a_blessing_is_written_over_one_of_an_earlier_try(tmp_path: Path) -> None:
    write_blessing(tmp_path, blessed=True, reason="")
    write_blessing(tmp_path, blessed=False, reason="")
    assert [path.name for path in tmp_path.iterdir()] == ["INFRA_NOT_BLESSED"]


def test_the_saved_model_lies_where_trainer_puts_it(tmp_path: Path) -> None:
    model = TaskArtifact("1", "s3://b/m", tmp_path, {})
    with pytest.raises(InputError, match=r"model: 's3://b/m': there is no SavedModel"):
        saved_model_uri(model)
    (tmp_path / "saved_model.pb").touch()
    assert saved_model_uri(model) == "s3://b/m"
    (tmp_path / "Format-Serving").mkdir()
    (tmp_path / "Format-Serving" / "saved_model.pb").touch()
    assert saved_model_uri(model) == "s3://b/m/Format-Serving"
    stamped = TaskArtifact("2", "s3://b/validated/", tmp_path, {"has_model": 1.0})
    assert saved_model_uri(model, stamped) == "s3://b/validated/stamped_model"
